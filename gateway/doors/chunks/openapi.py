"""The calls of the older chunk APIs, described."""

from typing import Any, Final

from gateway.doors.chunks import answers, form_d
from gateway.web.operations import JSON, Answer, Operation, Parameter, Tag
from gateway.web.problems import BODY as JSON_BODY
from gateway.web.problems import CALLER, FORM, REDIS, STORE

CHUNKS: Final = Tag(
    "Older chunk APIs",
    "For clients that were written for other servers. Their bytes pass through the gateway, and"
    " the files get the same checks as all others.",
)

_READ: Final = CALLER | REDIS | STORE | {"record_unreadable"}
_SESSION: Final = _READ | {"session_not_found"}
_SETTLED: Final = frozenset({"session_completed", "session_corrupt", "session_rejected"})
_OPEN: Final = _SETTLED | {"session_busy", "session_gone", "session_not_open", "session_changed"}
_FILE: Final = frozenset(
    {
        "content_not_allowed",
        "file_too_large",
        "file_type_not_allowed",
        "invalid_content_type",
        "invalid_filename",
        "storage_full",
    }
)
_CHUNK: Final = frozenset(
    {
        "chunk_conflict",
        "chunk_empty",
        "chunk_size_mismatch",
        "chunk_too_large",
        "file_id_taken",
        "memory_budget_exhausted",
        "staging_full",
        "total_chunks_changed",
    }
)
_POST: Final = (
    _READ
    | FORM
    | _OPEN
    | _FILE
    | _CHUNK
    | {
        "chunk_index_out_of_range",
        "corrupt",
        "creation_in_flight",
        "invalid_file_id",
        "invalid_parameter",
        "missing_parameter",
        "rejected",
        "total_chunks_out_of_range",
    }
)
_PART: Final = frozenset(
    {
        "body_truncated",
        "checksum_required",
        "digest_mismatch",
        "invalid_checksum",
        "length_required",
        "part_busy",
        "part_conflict",
        "part_damaged",
        "part_length_mismatch",
        "part_number_out_of_range",
        "session_chunked",
        "too_many_parts_in_flight",
        "unsupported_encoding",
    }
)
_COMPLETE: Final = (
    _SESSION
    | _OPEN
    | {
        "checksum_refused",
        "content_not_allowed",
        "corrupt",
        "file_too_large",
        "key_taken",
        "object_changed",
        "part_conflict",
        "parts_refused",
        "rejected",
        "storage_full",
    }
)

_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": 255}
_WHOLE: Final = {"type": "integer", "minimum": 0}


def _chunk_form(file_id: str, filename: str, file: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [file_id, "chunk_index", "total_chunks", filename, file],
        "properties": {
            file_id: {**_TEXT, "description": "chosen by the client; one file has one"},
            "chunk_index": {**_WHOLE, "description": "from 0"},
            "total_chunks": {"type": "integer", "minimum": 1},
            filename: {"type": "string", "description": "the file's own name, without a path"},
            file: {
                "type": "string",
                "format": "binary",
                "description": "the chunk; all but the last have one size",
            },
        },
    }


def _curl(file_id: str, filename: str) -> list[str]:
    return [
        f"--form {file_id}=550e8400-e29b-41d4-a716-446655440000",
        "--form chunk_index=0",
        "--form total_chunks=5",
        f"--form {filename}=large_file.pdf",
        "--form chunk=@chunk_000.bin",
    ]


def _id(name: str, description: str) -> Parameter:
    return Parameter(name, "path", description, {"type": "string"}, required=True)


_FORM_A: Final = (
    Operation(
        method="POST",
        path="/upload-chunk",
        operation_id="uploadChunk",
        tag=CHUNKS,
        summary="Send a chunk of a file (form A)",
        description="Fields in any order, chunks too. The last one to arrive completes the file: its"
        " answer waits for a while for `completed`; after `uploading`, ask for the status, or send"
        " it again. The same chunk again counts once; other bytes are refused.",
        form=_chunk_form("file_id", "filename", "chunk"),
        curl=_curl("file_id", "filename"),
        answers=[Answer(200, "Stored.", {JSON: answers.UploadedChunk})],
        errors=_POST,
        failure=answers.Detail,
    ),
    Operation(
        method="GET",
        path="/upload-status/{file_id}",
        operation_id="uploadStatus",
        tag=CHUNKS,
        summary="How far a file is (form A)",
        description="An unknown file is `not_found`, with status 200.",
        parameters=[_id("file_id", "The file's id, as the client chose it.")],
        answers=[Answer(200, "The status.", {JSON: answers.UploadStatus})],
        errors=_READ,
        failure=answers.Detail,
    ),
)


def _form_b(slash: str, suffix: str) -> tuple[Operation, ...]:
    note = "" if slash else " The same, without the last slash."
    return (
        Operation(
            method="POST",
            path=f"/administration/upload/chunk{slash}",
            operation_id=f"administrationChunk{suffix}",
            tag=CHUNKS,
            summary="Send a chunk of a file (form B)",
            description="The file is `chunk` or `file`. Nothing is completed before it is asked"
            f" for.{note}",
            form=_chunk_form("upload_id", "file_name", "chunk"),
            curl=_curl("upload_id", "file_name"),
            answers=[Answer(200, "Stored.", {JSON: answers.AdministeredChunk})],
            errors=_POST,
            failure=answers.Detail,
        ),
        Operation(
            method="POST",
            path=f"/administration/upload/complete{slash}",
            operation_id=f"administrationComplete{suffix}",
            tag=CHUNKS,
            summary="Assemble and verify a file (form B)",
            description="Too early is 409, with `missing_chunks`. As multipart/form-data,"
            f" application/x-www-form-urlencoded or JSON.{note}",
            form={
                "type": "object",
                "required": ["upload_id"],
                "properties": {"upload_id": _TEXT},
            },
            curl=["--form upload_id=550e8400-e29b-41d4-a716-446655440000"],
            answers=[
                Answer(200, "Completed and verified.", {JSON: answers.AdministeredChunk}),
                Answer(
                    202,
                    "Under way; ask again.",
                    {JSON: answers.AdministeredChunk},
                    ("Retry-After",),
                ),
            ],
            errors=_COMPLETE
            | FORM
            | {"body_too_large", "chunks_missing", "invalid_body", "missing_parameter"},
            failure=answers.Detail,
        ),
        Operation(
            method="GET",
            path=f"/administration/upload/status/{{upload_id}}{slash}",
            operation_id=f"administrationStatus{suffix}",
            tag=CHUNKS,
            summary="How far a file is (form B)",
            description=f"`phase` and `fraction` tell how far its assembly is.{note}",
            parameters=[_id("upload_id", "The file's id, as the client chose it.")],
            answers=[Answer(200, "The status.", {JSON: answers.AdministeredStatus})],
            errors=_READ,
            failure=answers.Detail,
        ),
    )


_FORM_C: Final = (
    Operation(
        method="PUT",
        path="/uploads/{session_id}/part/{idx}",
        operation_id="putIndexedPart",
        tag=CHUNKS,
        summary="Send a part by its index (form C)",
        description="As `PUT /uploads/{session_id}/parts/{part_number}`, counted from 0.",
        parameters=[
            _id("session_id", "The session's id: 32 hexadecimal digits."),
            Parameter("idx", "path", "From 0.", _WHOLE, required=True),
        ],
        bytes_body="The bytes of the part, as many as the session's plan says.",
        curl=["--data-binary @part"],
        answers=[Answer(200, "Stored.", {JSON: answers.IndexedPart}, headers=("ETag",))],
        errors=_SESSION | _OPEN | _PART | {"content_not_allowed", "file_too_large", "storage_full"},
    ),
)

_PART_SESSION: Final = "/uploads/sessions/{session_id}"
_PART_SESSION_ID: Final = _id("session_id", "The session's id.")
_FORM_D: Final = (
    Operation(
        method="POST",
        path="/uploads/sessions",
        operation_id="createPartSession",
        tag=CHUNKS,
        summary="Create a session (form D)",
        description="With `part_size` or `total_parts`, parts have that size, however small; with"
        " neither the gateway chooses.",
        body=form_d.NewPartSession,
        examples={
            "a file in parts of 1 MB": {
                "filename": "a.bin",
                "size": 2_500_000,
                "part_size": 1_000_000,
            }
        },
        answers=[Answer(201, "Created.", {JSON: answers.PartSession}, ("Location",))],
        errors=_READ
        | JSON_BODY
        | _FILE
        | {
            "checksum_unsupported",
            "creation_in_flight",
            "idempotency_mismatch",
            "invalid_idempotency_key",
            "invalid_total_parts",
            "part_size_out_of_range",
            "size_out_of_range",
            "total_chunks_out_of_range",
        },
        failure=answers.Refusal,
    ),
    Operation(
        method="GET",
        path=_PART_SESSION,
        operation_id="getPartSession",
        tag=CHUNKS,
        summary="How far a session is (form D)",
        parameters=[_PART_SESSION_ID],
        answers=[Answer(200, "The session.", {JSON: answers.PartSession})],
        errors=_SESSION,
        failure=answers.Refusal,
    ),
    Operation(
        method="PUT",
        path=f"{_PART_SESSION}/parts/{{part_number}}",
        operation_id="putNumberedPart",
        tag=CHUNKS,
        summary="Send a part by its number (form D)",
        description="In any order. The same bytes again count once; other bytes are refused.",
        parameters=[
            _PART_SESSION_ID,
            Parameter("part_number", "path", "From 1.", {**_WHOLE, "minimum": 1}, required=True),
        ],
        bytes_body="The bytes of the part.",
        curl=["--data-binary @chunk"],
        answers=[Answer(200, "Stored.", {JSON: answers.NumberedPart})],
        errors=_SESSION | _OPEN | _PART | _CHUNK | _FILE,
        failure=answers.Refusal,
    ),
    Operation(
        method="POST",
        path=f"{_PART_SESSION}/complete",
        operation_id="completePartSession",
        tag=CHUNKS,
        summary="Complete and verify a session (form D)",
        description="Too early is 409, with `missing_parts`.",
        parameters=[_PART_SESSION_ID],
        answers=[
            Answer(200, "Completed and verified.", {JSON: answers.PartSession}),
            Answer(202, "Under way; ask again.", {JSON: answers.PartSession}, ("Retry-After",)),
        ],
        errors=_COMPLETE | {"parts_missing"},
        failure=answers.Refusal,
    ),
    Operation(
        method="DELETE",
        path=_PART_SESSION,
        operation_id="abortPartSession",
        tag=CHUNKS,
        summary="Abort a session (form D)",
        parameters=[_PART_SESSION_ID],
        answers=[Answer(204, "Aborted, now or before.")],
        errors=_SESSION | _OPEN,
        failure=answers.Refusal,
    ),
)

OPERATIONS: Final = (
    *_FORM_A,
    *_form_b("/", ""),
    *_form_b("", "Bare"),
    *_FORM_C,
    *_FORM_D,
)
