"""What the older APIs answer, as types: the handlers render them, OpenAPI describes them."""

from typing import Annotated, Any, NotRequired

from pydantic import Field

# pydantic takes it on Python 3.11 from there only.
from typing_extensions import TypedDict


class Detail(TypedDict):
    """An error."""

    detail: Annotated[str, Field(description="what is wrong, for a person")]
    missing_chunks: NotRequired[
        Annotated[str, Field(description="indexes to come, where a completion is too early")]
    ]


class Refusal(TypedDict):
    """An error of form D."""

    detail: Annotated[str, Field(description="what is wrong, for a person")]
    code: Annotated[str, Field(description="stable: what programs match on")]
    missing_parts: NotRequired[
        Annotated[str, Field(description="numbers to come, where a completion is too early")]
    ]


class UploadedChunk(TypedDict):
    """A file after one of its chunks has come."""

    file_id: str
    filename: str
    type: Annotated[str, Field(json_schema_extra={"const": "file"})]
    status: Annotated[str, Field(json_schema_extra={"enum": ["uploading", "completed"]})]
    uploaded_chunks: Annotated[int, Field(ge=0, description="distinct chunks stored")]
    total_chunks: Annotated[int, Field(ge=1)]


class UploadStatus(TypedDict):
    """How far a file is; the figures are there while it is uploading."""

    status: Annotated[
        str,
        Field(
            json_schema_extra={"enum": ["uploading", "completed", "not_found", "failed"]},
            description="`failed`: the stored bytes were damaged, or are refused",
        ),
    ]
    file_exists: bool
    uploaded_chunks: NotRequired[
        Annotated[int, Field(ge=0, description="the unbroken run from chunk 0: where to resume")]
    ]
    received_chunks: NotRequired[Annotated[int, Field(ge=0, description="distinct chunks stored")]]
    missing_chunks: NotRequired[
        Annotated[str, Field(description="indexes to come as ranges, `3-17,20`")]
    ]
    total_chunks: NotRequired[Annotated[int, Field(ge=1)]]
    phase: NotRequired[
        Annotated[str, Field(description="uploading, assembling, completing or verifying")]
    ]
    fraction: NotRequired[
        Annotated[float | None, Field(ge=0, le=1, description="how far the phase is")]
    ]
    detail: NotRequired[Annotated[str, Field(description="why it failed")]]


class AdministeredChunk(TypedDict):
    """A file after one of its chunks has come, or when its assembly was asked for."""

    upload_id: str
    file_name: str
    status: Annotated[str, Field(json_schema_extra={"enum": ["uploading", "completed"]})]
    uploaded_chunks: Annotated[int, Field(ge=0, description="distinct chunks stored")]
    total_chunks: Annotated[int, Field(ge=1)]
    phase: str
    fraction: float | None


class AdministeredStatus(UploadStatus):
    """How far a file is, by its id."""

    upload_id: str
    file_name: str | None


class IndexedPart(TypedDict):
    """A part that was sent by its index from 0."""

    upload_id: Annotated[str, Field(description="the session's id")]
    idx: Annotated[int, Field(ge=0)]
    size: Annotated[int, Field(ge=0)]
    etag: str
    checksum: Annotated[str | None, Field(description="base64, in the session's algorithm")]
    outcome: Annotated[
        str,
        Field(
            json_schema_extra={"enum": ["stored", "same"]},
            description="`same`: these bytes were stored before, and count once",
        ),
    ]
    received_parts: Annotated[int, Field(ge=0)]
    part_count: Annotated[int | None, Field(ge=1)]
    received_bytes: Annotated[int, Field(ge=0)]
    fraction: float | None


class PartSession(TypedDict):
    """A session as form D sees it."""

    session_id: str
    status: Annotated[
        str,
        Field(
            json_schema_extra={
                "enum": [
                    "INIT",
                    "IN_PROGRESS",
                    "COMPLETING",
                    "VERIFYING",
                    "COMPLETED",
                    "CORRUPT",
                    "REJECTED",
                    "ABORTED",
                    "EXPIRED",
                ]
            }
        ),
    ]
    filename: str
    content_type: str
    size: int | None
    part_size: Annotated[int | None, Field(ge=1, description="bytes of every part but the last")]
    total_parts: Annotated[int | None, Field(ge=1)]
    received_parts_count: Annotated[int, Field(ge=0, description="distinct parts stored")]
    missing_parts: Annotated[str | None, Field(description="numbers to come as ranges, `3-17,20`")]
    created_at: str
    updated_at: str
    expires_at: str
    error: Annotated[dict[str, Any] | None, Field(description="what went wrong, or null")]


class NumberedPart(TypedDict):
    """A part that was sent by its number from 1."""

    session_id: str
    part_number: Annotated[int, Field(ge=1)]
    size: Annotated[int, Field(ge=0)]
    outcome: Annotated[str, Field(json_schema_extra={"enum": ["stored", "same"]})]
    status: Annotated[str, Field(description="the session's")]
    received_parts_count: Annotated[int, Field(ge=0)]
    total_parts: Annotated[int | None, Field(ge=1)]
