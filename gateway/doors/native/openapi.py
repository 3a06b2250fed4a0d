"""The native API's calls for the OpenAPI document: what each takes, answers and can fail with.

Bodies and answers are the types that `parse` and `render` use, query parameters the objects that
read them.
"""

from typing import Final

from gateway.core.plan import MAX_PART_NUMBER
from gateway.doors.native import answers, examples, parse, problems, query
from gateway.web.operations import GATEWAY as GATEWAY_TAG
from gateway.web.operations import JSON, Answer, Operation, Parameter, Tag
from gateway.web.problems import DOOR

UPLOADS: Final = Tag("Uploads", "Sessions: created, looked at, completed, aborted.")
PARTS: Final = Tag(
    "Parts",
    "The bytes go straight to the store: sign URLs, PUT each part there, acknowledge its ETag.",
)
CONTENT: Final = Tag("Content", "The bytes of a completed upload.")

_SESSION_ID = Parameter(
    "session_id",
    "path",
    "The session's id.",
    {"type": "string", "pattern": answers.SESSION_ID_PATTERN},
    required=True,
)
_IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "A random key of the client's, made once a file: a retry with the same key and body finds the"
    " same session, whatever became of the first answer.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
)
_LAST_EVENT_ID = Parameter(
    "Last-Event-ID",
    "header",
    "The id of the last event seen; the stream then begins with what came after it.",
    {"type": "string"},
)
_PART_NUMBER = Parameter(
    "part_number",
    "path",
    "The number of the part, from 1.",
    {"type": "integer", "minimum": 1, "maximum": MAX_PART_NUMBER},
    required=True,
)
_DIGESTS: Final = (
    Parameter(
        "x-amz-checksum-crc64nvme",
        "header",
        "The part's checksum in base64; the session's own algorithm lets the store check it too."
        " Likewise `x-amz-checksum-crc32c`, `-crc32`, `-sha256`, `-sha1` and `Content-MD5`.",
        {"type": "string"},
    ),
    Parameter(
        "Content-Digest",
        "header",
        "The same by RFC 9530: `sha-256=:BASE64:`.",
        {"type": "string"},
    ),
)
_RANGE = Parameter(
    "Range",
    "header",
    "`bytes=FIRST-LAST`, one range (RFC 9110, section 14). Several, or nonsense, count as none.",
    {"type": "string"},
)
_IF_RANGE = Parameter(
    "If-Range", "header", "An ETag: for another version Range is ignored.", {"type": "string"}
)

# What is said of a stream holds for each of its events (as in OpenAPI 3.2).
_EVENT: Final = {
    "type": "object",
    "description": "One of the server-sent events (the HTML standard, section 9.2), each with an"
    " `id`. Comments come in between, every 15 seconds.",
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string", "enum": ["status", "progress", "end"]},
        "data": {
            "type": "string",
            "contentMediaType": JSON,
            "contentSchema": {
                "anyOf": [
                    {"$ref": "#/components/schemas/Session"},
                    {"$ref": "#/components/schemas/Progress"},
                ]
            },
        },
    },
}
_BYTES: Final = {"type": "string", "format": "binary"}
_SESSION_PATH = "/uploads/{session_id}"
_FOUND_HEADERS = (
    "ETag",
    "Accept-Ranges",
    "Content-Disposition",
)


def _create(path: str, operation_id: str, summary: str, description: str) -> Operation:
    return Operation(
        method="POST",
        path=path,
        operation_id=operation_id,
        tag=UPLOADS,
        summary=summary,
        description=description,
        parameters=[_IDEMPOTENCY_KEY],
        body=parse.CreateBody,
        examples=examples.CREATE,
        answers=[
            Answer(
                201,
                "Created.",
                {JSON: answers.CreatedSession},
                ("Location",),
                example=examples.CREATED,
            ),
            Answer(
                200,
                "Found again by its Idempotency-Key.",
                {JSON: answers.CreatedSession},
                ("Location",),
            ),
        ],
        errors=problems.CREATE,
    )


OPERATIONS: Final = (
    _create(
        "/uploads",
        "create",
        "Create a session",
        "Begins a multipart upload in the store, and a session that outlives clients and gateways."
        " With `sign`, the first part URLs come along, without checksums bound.",
    ),
    _create(
        "/uploads/init", "createInit", "Create, by another name", "Another name of `POST /uploads`."
    ),
    Operation(
        method="GET",
        path="/uploads",
        operation_id="find",
        tag=UPLOADS,
        summary="List one's own sessions",
        description="Newest first. A page may hold fewer than `limit` although more follow:"
        " go on until `next_cursor` is null.",
        parameters=[
            item.parameter()
            for item in (query.FINGERPRINT, query.STATE, query.SESSION_CURSOR, query.SESSION_LIMIT)
        ],
        query="?state=open,completed&limit=10",
        answers=[Answer(200, "One page.", {JSON: answers.SessionPage}, ("Link",))],
        errors=problems.FIND,
    ),
    Operation(
        method="GET",
        path=_SESSION_PATH,
        operation_id="get",
        tag=UPLOADS,
        summary="Tell the status",
        description="The session with its live progress. Cheap: the store is not asked.",
        parameters=[_SESSION_ID],
        answers=[
            Answer(200, "The session.", {JSON: answers.Session}, example=examples.HALF_SENT),
        ],
        errors=problems.GET,
    ),
    Operation(
        method="GET",
        path=f"{_SESSION_PATH}/events",
        operation_id="events",
        tag=UPLOADS,
        summary="Follow a session",
        description="`status` comes at first and with every change of the session, `progress` with"
        " new figures, `end` when the session is settled; then the stream ends. One that ends"
        " without `end`: connect again with `Last-Event-ID`. Browsers read it with `fetch`, since"
        " `EventSource` cannot send the token.",
        parameters=[_SESSION_ID, _LAST_EVENT_ID],
        curl=["--no-buffer"],
        events={
            "status": answers.Session,
            "progress": answers.Progress,
            "end": answers.Session,
        },
        answers=[
            Answer(200, "The stream.", {"text/event-stream": _EVENT}),
        ],
        samples={"What it brings": examples.EVENTS},
        errors=problems.EVENTS,
    ),
    Operation(
        method="POST",
        path=f"{_SESSION_PATH}/complete",
        operation_id="complete",
        tag=UPLOADS,
        summary="Complete and verify",
        description="Any number of times: a completion that is under way is waited for, one that is"
        " through is told again, whatever the body says then. `parts` may acknowledge what has not been yet. The object is"
        " verified before it is called completed: by the checksums of the parts, combined, or, where"
        " the file's was declared or the store reports none, by reading it back.",
        parameters=[_SESSION_ID, query.WAIT.parameter()],
        body=parse.CompleteBody,
        body_required=False,
        examples=examples.COMPLETE,
        query="?wait=60",
        answers=[
            Answer(
                200,
                "Completed, and the stored bytes are those that were promised.",
                {JSON: answers.Session},
                example=examples.COMPLETED,
            ),
            Answer(
                202,
                "Under way: ask again, or follow the events.",
                {JSON: answers.Session},
                ("Retry-After",),
            ),
        ],
        errors=problems.COMPLETE,
    ),
    Operation(
        method="DELETE",
        path=_SESSION_PATH,
        operation_id="abort",
        tag=UPLOADS,
        summary="Abort",
        description="Deletes the parts. Also the second time; a completed object is never deleted.",
        parameters=[_SESSION_ID],
        answers=[Answer(204, "Aborted, now or before.")],
        errors=problems.ABORT,
    ),
    Operation(
        method="POST",
        path=f"{_SESSION_PATH}/parts/sign",
        operation_id="sign",
        tag=PARTS,
        summary="Presign part URLs",
        description="Each URL takes exactly `size` bytes, and with a checksum exactly those bytes."
        " Asking again is free; the store is not asked. PUT the part there with the `headers` given"
        " and no token, and keep the ETag of the answer.",
        parameters=[_SESSION_ID],
        body=parse.SignBody,
        examples=examples.SIGN,
        answers=[
            Answer(200, "The URLs.", {JSON: answers.SignedParts}, example=examples.SIGNED),
        ],
        errors=problems.SIGN,
    ),
    Operation(
        method="POST",
        path=f"{_SESSION_PATH}/parts",
        operation_id="acknowledge",
        tag=PARTS,
        summary="Acknowledge stored parts",
        description="All of the call are recorded, or none. The same part again is a success that"
        " counts once; other bytes are `part_conflict`, unless they were signed with `replace`.",
        parameters=[_SESSION_ID],
        body=parse.AcknowledgeBody,
        examples=examples.ACKNOWLEDGE,
        answers=[
            Answer(
                200, "Recorded.", {JSON: answers.AcknowledgedParts}, example=examples.ACKNOWLEDGED
            )
        ],
        errors=problems.ACKNOWLEDGE,
    ),
    Operation(
        method="PUT",
        path=f"{_SESSION_PATH}/parts/{{part_number}}",
        operation_id="putPart",
        tag=PARTS,
        summary="Send a part through the gateway",
        description="For clients that cannot reach the store: the bytes are handed on as they come,"
        " and the part is recorded. The same bytes again are a success that counts once; other bytes"
        " are `part_conflict`, and the stored part stays. Digests are optional, and each that is sent"
        " has to be right; without one the gateway computes the session's checksum itself.",
        parameters=[
            _SESSION_ID,
            _PART_NUMBER,
            query.REPLACE.parameter(),
            *_DIGESTS,
        ],
        bytes_body="The bytes of the part, as many as the session's plan says.",
        curl=["--data-binary @part"],
        answers=[
            Answer(200, "Stored.", {JSON: answers.RelayedPart}, headers=("ETag",)),
        ],
        errors=problems.PUT_PART,
    ),
    Operation(
        method="GET",
        path=f"{_SESSION_PATH}/parts",
        operation_id="parts",
        tag=PARTS,
        summary="List the stored parts",
        description="By number. Those of an open session are compared with the store first, which"
        " also finds parts that were sent and never acknowledged.",
        parameters=[
            _SESSION_ID,
            *(item.parameter() for item in (query.PART_CURSOR, query.PART_LIMIT)),
        ],
        query="?limit=100",
        answers=[
            Answer(200, "One page.", {JSON: answers.PartPage}, ("Link",), example=examples.PARTS)
        ],
        errors=problems.PARTS,
    ),
    Operation(
        method="POST",
        path=f"{_SESSION_PATH}/progress",
        operation_id="progress",
        tag=PARTS,
        summary="Tell of bytes on their way",
        description="For prompt progress only: shown as `in_flight_bytes` for a minute. Each call"
        " takes the place of the one before.",
        parameters=[_SESSION_ID],
        body=parse.ProgressBody,
        examples=examples.PROGRESS,
        answers=[Answer(204, "Noted.")],
        errors=problems.PROGRESS,
    ),
    Operation(
        method="GET",
        path=f"{_SESSION_PATH}/content",
        operation_id="content",
        tag=CONTENT,
        summary="Download",
        description="Leads to the store by a redirection, or with `Accept: application/json` by an"
        " object with the URL. With `relay=1` the gateway itself sends the bytes.",
        parameters=[_SESSION_ID, query.RELAY.parameter(), _RANGE, _IF_RANGE],
        curl=["--location", "--output film.mp4"],
        answers=[
            Answer(302, "To a presigned GET.", headers=("Location",)),
            Answer(
                200,
                "The URL, for `Accept: application/json`; the bytes, for `relay=1`.",
                {JSON: answers.ContentAddress, "*/*": _BYTES},
                _FOUND_HEADERS,
                example=examples.CONTENT,
            ),
            Answer(
                206,
                "Some of the bytes, for `relay=1` with `Range`.",
                {"*/*": _BYTES},
                (*_FOUND_HEADERS, "Content-Range"),
            ),
        ],
        errors=problems.CONTENT,
    ),
    Operation(
        method="HEAD",
        path=f"{_SESSION_PATH}/content",
        operation_id="describeContent",
        tag=CONTENT,
        summary="Describe the bytes",
        description="Their length, type, name and ETag. There is no redirection, since presigned"
        " URLs do not answer HEAD.",
        parameters=[_SESSION_ID, query.RELAY.parameter(), _RANGE, _IF_RANGE],
        answers=[
            Answer(200, "Described in the headers.", headers=_FOUND_HEADERS),
            Answer(
                206,
                "The range described in the headers.",
                headers=(*_FOUND_HEADERS, "Content-Range"),
            ),
        ],
        errors=problems.DESCRIBE_CONTENT,
    ),
    Operation(
        method="GET",
        path="/version",
        operation_id="version",
        tag=GATEWAY_TAG,
        summary="Tell what runs here",
        description="And what its store can do, for clients that plan by it.",
        answers=[Answer(200, "Both.", {JSON: answers.Version}, example=examples.VERSION)],
        errors=DOOR,
        public=True,
    ),
)
"""All calls, in the order in which an upload makes them."""
