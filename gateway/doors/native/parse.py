"""From the wire of the native API to the core's arguments. Types are checked here, rules there."""

import re
from typing import Annotated, ClassVar, TypeAlias

from aiohttp import web
from pydantic import ConfigDict, Field, WithJsonSchema

from gateway.core.checksums import PREFERENCE, Checksum
from gateway.core.model import (
    DEFAULT_CONTENT_TYPE,
    MAX_FILENAME_BYTES,
    MAX_FINGERPRINT_BYTES,
    MAX_KEY_BYTES,
    MAX_METADATA_BYTES,
    Acknowledged,
    NewUpload,
    PartToSign,
    check_session_id,
)
from gateway.core.plan import MAX_PART_NUMBER
from gateway.errors import InvalidRequest
from gateway.web.bodies import Wire

MAX_PARTS_A_CALL = 1000
"""How many parts one call signs or acknowledges."""

# What the core checks, and refuses with codes of its own, is here only told to readers of the
# OpenAPI document.
_Size: TypeAlias = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0})]
_Positive: TypeAlias = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1})]
_PartNumber: TypeAlias = Annotated[
    int, WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_PART_NUMBER})
]
_Algorithm: TypeAlias = Annotated[str, WithJsonSchema({"type": "string", "enum": list(PREFERENCE)})]
_Base64: TypeAlias = Annotated[
    str, WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9+/]+={0,2}$"})
]


def _text_of(longest: int, **schema: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "minLength": 1, "maxLength": longest, **schema})


class ChecksumBody(Wire):
    """A checksum of the whole file."""

    algorithm: _Algorithm
    value: _Base64 = Field(description="base64 of the checksum's bytes, as S3 writes it")

    def to_core(self) -> Checksum:
        """Return the checksum, or raise InvalidRequest `invalid_checksum`."""
        return Checksum(self.algorithm, self.value)


class CreateBody(Wire):
    """What is to be uploaded."""

    filename: Annotated[str, _text_of(MAX_FILENAME_BYTES, pattern=r"^[^/\\]+$")] = Field(
        description="the file's own name, without a path"
    )
    size: _Size | None = Field(None, description="bytes; null while it is not known")
    content_type: str | None = Field(None, description=f"{DEFAULT_CONTENT_TYPE} if left out")
    part_size: _Positive | None = Field(
        None, description="bytes of every part but the last; if left out, the gateway chooses"
    )
    bucket: Annotated[str, _text_of(63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{2,62}$")] | None = (
        Field(None, description="where the gateway lets clients choose")
    )
    key: Annotated[str, _text_of(MAX_KEY_BYTES)] | None = Field(
        None, description="where the gateway lets clients choose"
    )
    checksum_algorithm: _Algorithm | None = Field(
        None, description="of the parts; if left out, the best that the store checks"
    )
    checksum: ChecksumBody | None = Field(None, description="of the whole file")
    metadata: dict[str, str] | None = Field(
        None, description=f"given back in the session; {MAX_METADATA_BYTES} bytes at most"
    )
    fingerprint: Annotated[str, _text_of(MAX_FINGERPRINT_BYTES)] | None = Field(
        None, description="what the client knows the file by, to find the session again"
    )
    sign: int | None = Field(
        None, ge=0, le=MAX_PARTS_A_CALL, description="how many part URLs to return at once"
    )

    def to_core(self, idempotency_key: str | None) -> NewUpload:
        """Return the core's request."""
        return NewUpload(
            filename=self.filename,
            size=self.size,
            content_type=DEFAULT_CONTENT_TYPE if self.content_type is None else self.content_type,
            part_size=self.part_size,
            bucket=self.bucket,
            key=self.key,
            checksum_algorithm=self.checksum_algorithm,
            checksum=self.checksum.to_core() if self.checksum else None,
            metadata=self.metadata or {},
            fingerprint=self.fingerprint,
            idempotency_key=idempotency_key,
        )


class PartToSignBody(Wire):
    """One part to sign."""

    part_number: _PartNumber
    checksum: _Base64 | None = Field(
        None, description="base64, in the session's algorithm; the store then checks it"
    )
    size: _Size | None = Field(
        None, description="bytes, needed only for the last part where the session's size is unknown"
    )
    replace: bool = Field(default=False, description="other bytes may take a stored part's place")


class SignBody(Wire):
    """Either `parts`, or `from` and `count`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["parts"]}, {"required": ["from", "count"]}]}
    )

    parts: (
        Annotated[list[PartToSignBody], Field(max_length=MAX_PARTS_A_CALL, fail_fast=True)] | None
    ) = None
    from_: _PartNumber | None = Field(None, alias="from", description="the first part number")
    count: int | None = Field(
        None, ge=1, le=MAX_PARTS_A_CALL, description="how many part numbers from there"
    )
    expires_in: _Positive | None = Field(
        None,
        description="life of the URLs in seconds; at most, and if left out, the gateway's url_lifetime",
    )

    def to_core(self) -> list[PartToSign]:
        """Return the parts, or raise InvalidRequest unless exactly one of the two forms came."""
        if self.parts is not None and self.from_ is None and self.count is None:
            return [
                PartToSign(part.part_number, part.size, part.checksum, part.replace)
                for part in self.parts
            ]
        if self.parts is None and self.from_ is not None and self.count is not None:
            return [PartToSign(number) for number in range(self.from_, self.from_ + self.count)]
        raise InvalidRequest(
            "The body does not say which parts to sign.",
            code="invalid_body",
            hint='Send {"parts": [{"part_number": 1}]}, or {"from": 1, "count": 10}.',
        )


class AcknowledgedBody(Wire):
    """One stored part."""

    part_number: _PartNumber
    etag: Annotated[str, WithJsonSchema({"type": "string", "minLength": 1})] = Field(
        description="as the store's PUT answered, with or without its quotes"
    )
    checksum: _Base64 | None = Field(
        None, description="base64, in the session's algorithm; what the object is verified by"
    )

    def to_core(self) -> Acknowledged:
        """Return the core's value."""
        return Acknowledged(self.part_number, self.etag, self.checksum)


class AcknowledgeBody(Wire):
    """Parts that are stored."""

    parts: Annotated[list[AcknowledgedBody], Field(max_length=MAX_PARTS_A_CALL, fail_fast=True)]


class CompleteBody(Wire):
    """Everything is optional."""

    parts: (
        Annotated[list[AcknowledgedBody], Field(max_length=MAX_PART_NUMBER, fail_fast=True)] | None
    ) = None
    size: _Size | None = Field(None, description="bytes of the file, needed where it was unknown")
    checksum: ChecksumBody | None = Field(None, description="of the whole file, read back for it")


class ProgressBody(Wire):
    """Bytes on the way by part number, which JSON writes as text."""

    in_flight: dict[Annotated[str, Field(pattern=r"^[0-9]{1,5}$")], Annotated[int, Field(ge=0)]] = (
        Field(max_length=MAX_PARTS_A_CALL, json_schema_extra={"additionalProperties": False})
    )

    def to_core(self) -> dict[int, int]:
        """Return bytes by part number."""
        return {int(number): size for number, size in self.in_flight.items()}


def session_id(request: web.Request) -> str:
    """Return the id in the path; one of the wrong shape is as unknown as any other."""
    return check_session_id(request.match_info["session_id"])


def part_number(request: web.Request) -> int:
    """Return the part number in the path, or raise InvalidRequest `part_number_out_of_range`."""
    text = request.match_info["part_number"]
    if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII):
        raise InvalidRequest(
            "The path holds no part number.",
            code="part_number_out_of_range",
            hint="Part numbers are whole numbers from 1.",
        )
    return int(text)


def wants_json(request: web.Request) -> bool:
    """Return whether Accept names JSON; a browser that navigates does not."""
    accepted = ",".join(request.headers.getall("Accept", []))
    for item in accepted.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in item.split(";"))
        refused = any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
        if media_type == "application/json" and not refused:
            return True
    return False
