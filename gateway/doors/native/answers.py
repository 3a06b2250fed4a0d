"""The bodies of the native API's answers, each written down once.

`render` makes them, which the type checker holds to these fields and types, and the OpenAPI
document is generated from them: what is sent and what is promised cannot drift apart.
"""

from typing import Annotated, Literal, NotRequired

from pydantic import Field, WithJsonSchema

# pydantic takes it on Python 3.11 from there only.
from typing_extensions import TypedDict

from gateway.core.checksums import PREFERENCE
from gateway.core.model import Phase, State, VerifiedBy

SESSION_ID_PATTERN = "^[0-9a-f]{32}$"
_TIME = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z$"

Bytes = Annotated[int, Field(ge=0, description="bytes")]
PartNumber = Annotated[int, Field(ge=1, le=10_000)]
Time = Annotated[
    str, Field(json_schema_extra={"format": "date-time", "pattern": _TIME, "description": "UTC"})
]
StateName = Annotated[State, WithJsonSchema({"type": "string", "enum": list(State)})]
VerifiedByName = Annotated[VerifiedBy, WithJsonSchema({"type": "string", "enum": list(VerifiedBy)})]
AlgorithmName = Annotated[str, Field(json_schema_extra={"enum": list(PREFERENCE)})]
ChecksumValue = Annotated[str, Field(description="base64, as S3 writes it")]
Checksums = Annotated[
    dict[str, str], Field(description="values in base64 by algorithm, as the store reported them")
]


class Checksum(TypedDict):
    """A checksum of a whole file."""

    algorithm: AlgorithmName
    value: ChecksumValue


class StoredObject(TypedDict):
    """The object in the store."""

    bucket: str
    key: str
    etag: str
    size: Bytes
    checksums: Checksums


class SessionError(TypedDict):
    """Why a session ended as it did, or was opened again."""

    code: str
    message: str
    hint: str


class Session(TypedDict):
    """An upload session."""

    session_id: Annotated[str, Field(pattern=SESSION_ID_PATTERN)]
    state: StateName
    filename: str
    content_type: str
    size: Annotated[int | None, Field(ge=0, description="bytes; null while it is not known")]
    part_size: Annotated[int, Field(ge=1, description="bytes of every part but the last")]
    part_count: Annotated[int | None, Field(ge=1, description="null while the size is")]
    received_bytes: Annotated[int, Field(ge=0, description="of parts recorded as stored")]
    received_parts: Annotated[int, Field(ge=0, description="recorded as stored")]
    in_flight_bytes: Annotated[int, Field(ge=0, description="on their way, by the client's word")]
    missing: Annotated[
        str | None,
        Field(
            description="part numbers still to come, as ranges; null while the size is",
            examples=["3-17,20"],
        ),
    ]
    phase: Annotated[Phase, Field(description="what is going on, in a word for people")]
    fraction: Annotated[
        float | None,
        Field(
            ge=0, le=1, description="how far the phase is: received, or read back while verifying"
        ),
    ]
    checksum_algorithm: Annotated[AlgorithmName, Field(description="of the parts")]
    checksum: Annotated[Checksum | None, Field(description="of the file, as declared")]
    verified_by: Annotated[
        VerifiedByName | None,
        Field(
            description="whose word the stored bytes were compared with: the declared checksum of"
            " the file, the checksums of all parts, or the store's own alone"
        ),
    ]
    fingerprint: Annotated[str | None, Field(description="what the client knows the file by")]
    metadata: dict[str, str]
    created_at: Time
    updated_at: Time
    expires_at: Time
    object: Annotated[StoredObject | None, Field(description="once the upload is completed")]
    error: SessionError | None
    part_etag_is_md5: Annotated[
        bool, Field(description="the ETag of a part is its MD5 in hex, in this store")
    ]


class SignedPart(TypedDict):
    """A presigned PUT of one part, to be sent to the store."""

    part_number: PartNumber
    url: Annotated[str, Field(description="a secret for as long as it lives")]
    method: Literal["PUT"]
    headers: Annotated[dict[str, str], Field(description="to be sent exactly so: they are signed")]
    size: Annotated[int, Field(ge=0, description="the exact Content-Length, which is signed too")]
    expires_at: Time


class CreatedSession(Session):
    """A session, with the part URLs that `sign` asked for."""

    parts: NotRequired[Annotated[list[SignedPart], Field(description="where `sign` was sent")]]
    server_time: NotRequired[Time]


class SessionPage(TypedDict):
    """One page of sessions, newest first."""

    uploads: list[Session]
    next_cursor: Annotated[str | None, Field(description="null on the last page")]


class SignedParts(TypedDict):
    """Presigned parts, in the order in which they were asked for."""

    parts: list[SignedPart]
    server_time: Annotated[Time, Field(description="to judge expires_at by")]


class Outcome(TypedDict):
    """What acknowledging one part did: `same` was known already."""

    part_number: PartNumber
    outcome: Annotated[str, Field(json_schema_extra={"enum": ["stored", "same"]})]


class AcknowledgedParts(TypedDict):
    """The session after its parts were recorded."""

    session: Session
    outcomes: list[Outcome]


class Part(TypedDict):
    """A part in the store."""

    part_number: PartNumber
    size: Bytes
    etag: str
    checksum: Annotated[str | None, Field(description="the client's, null where it gave none")]


class RelayedPart(TypedDict):
    """The session after a part was relayed; `same` says that these bytes were stored before."""

    session: Session
    part: Part
    outcome: Annotated[str, Field(json_schema_extra={"enum": ["stored", "same"]})]


class PartPage(TypedDict):
    """One page of parts, by number."""

    parts: list[Part]
    next_cursor: Annotated[int | None, Field(description="null on the last page")]


class Progress(TypedDict):
    """The figures of a session that change while its state does not."""

    received_bytes: Bytes
    received_parts: Annotated[int, Field(ge=0)]
    in_flight_bytes: Bytes
    fraction: Annotated[float | None, Field(ge=0, le=1)]
    phase: Phase


class ContentAddress(TypedDict):
    """Where the bytes of a completed upload are."""

    url: Annotated[str, Field(description="presigned; a secret for as long as it lives")]
    expires_at: Time
    filename: str
    size: Bytes
    content_type: str
    checksums: Checksums


class Store(TypedDict):
    """What the store can do, as found by trying it out."""

    part_etag_is_md5: bool
    checksums: Annotated[list[AlgorithmName], Field(description="checked on parts, best first")]
    object_checksums: Annotated[
        list[AlgorithmName], Field(description="reported for whole multipart objects")
    ]
    default_checksum: AlgorithmName
    max_parts: Annotated[int, Field(ge=1, le=10_000)]
    min_part_size: Annotated[int, Field(ge=1, description="bytes; the last part has no minimum")]
    max_part_size: Annotated[int, Field(ge=1, description="bytes")]
    max_object_size: Annotated[int, Field(ge=1, description="bytes")]
    conditional_complete: Annotated[bool, Field(description="another's object is never replaced")]


class Version(TypedDict):
    """What runs here."""

    name: Literal["multipart-gateway"]
    version: str
    server_time: Time
    store: Store
