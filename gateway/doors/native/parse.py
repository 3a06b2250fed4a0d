"""From the wire of the native API to the core's arguments. Types are checked here, rules there."""

import re
from typing import Annotated

from aiohttp import web
from pydantic import Field

from gateway.core.checksums import Checksum
from gateway.core.model import (
    DEFAULT_CONTENT_TYPE,
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


class ChecksumBody(Wire):
    """A checksum of the whole file."""

    algorithm: str = Field(description="crc64nvme, crc32c, crc32 or sha256")
    value: str = Field(description="base64 of the checksum's bytes, as S3 writes it")

    def to_core(self) -> Checksum:
        """Return the checksum, or raise InvalidRequest `invalid_checksum`."""
        return Checksum(self.algorithm, self.value)


class CreateBody(Wire):
    """POST /uploads."""

    filename: str = Field(description="the file's own name, without a path")
    size: int | None = Field(None, description="bytes; null while it is not known")
    content_type: str | None = None
    part_size: int | None = Field(None, description="bytes of every part but the last")
    bucket: str | None = None
    key: str | None = None
    checksum_algorithm: str | None = Field(None, description="of the parts")
    checksum: ChecksumBody | None = None
    metadata: dict[str, str] | None = Field(None, description="2 KB at most")
    fingerprint: str | None = Field(None, description="what the client knows the file by")
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

    part_number: int
    checksum: str | None = Field(None, description="base64, in the session's algorithm")
    size: int | None = Field(None, description="only where the session's size is unknown")
    replace: bool = Field(default=False, description="other bytes may take a stored part's place")


class SignBody(Wire):
    """POST /uploads/{id}/parts/sign: either `parts`, or `from` and `count`."""

    parts: (
        Annotated[list[PartToSignBody], Field(max_length=MAX_PARTS_A_CALL, fail_fast=True)] | None
    ) = None
    from_: int | None = Field(None, alias="from")
    count: int | None = Field(None, ge=1, le=MAX_PARTS_A_CALL)
    expires_in: int | None = Field(
        None, description="life of the URLs in seconds, from 1; url_lifetime at most, and without"
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

    part_number: int
    etag: str = Field(description="as the store's PUT answered, with or without its quotes")
    checksum: str | None = None

    def to_core(self) -> Acknowledged:
        """Return the core's value."""
        return Acknowledged(self.part_number, self.etag, self.checksum)


class AcknowledgeBody(Wire):
    """POST /uploads/{id}/parts."""

    parts: Annotated[list[AcknowledgedBody], Field(max_length=MAX_PARTS_A_CALL, fail_fast=True)]


class CompleteBody(Wire):
    """POST /uploads/{id}/complete; everything is optional."""

    parts: (
        Annotated[list[AcknowledgedBody], Field(max_length=MAX_PART_NUMBER, fail_fast=True)] | None
    ) = None
    size: int | None = Field(None, description="needed where it was unknown")
    checksum: ChecksumBody | None = None


class ProgressBody(Wire):
    """POST /uploads/{id}/progress: bytes on the way by part number, which JSON writes as text."""

    in_flight: dict[Annotated[str, Field(pattern=r"^[0-9]{1,5}$")], Annotated[int, Field(ge=0)]] = (
        Field(max_length=MAX_PARTS_A_CALL)
    )

    def to_core(self) -> dict[int, int]:
        """Return bytes by part number."""
        return {int(number): size for number, size in self.in_flight.items()}


def session_id(request: web.Request) -> str:
    """Return the id in the path; one of the wrong shape is as unknown as any other."""
    return check_session_id(request.match_info["session_id"])


def idempotency_key(request: web.Request) -> str | None:
    """Return the Idempotency-Key header, or None; two of them are one too many."""
    values = request.headers.getall("Idempotency-Key", [])
    if len(values) > 1:
        raise InvalidRequest(
            "Idempotency-Key comes more than once.",
            code="invalid_idempotency_key",
            hint="Send it once.",
        )
    return values[0] if values else None


def wants_json(request: web.Request) -> bool:
    """Return whether Accept names JSON; a browser that navigates does not."""
    accepted = ",".join(request.headers.getall("Accept", []))
    for item in accepted.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in item.split(";"))
        refused = any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
        if media_type == "application/json" and not refused:
            return True
    return False
