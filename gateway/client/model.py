"""What the gateway answers, as frozen values read from its JSON.

Fields that this client does not know are kept in `raw` and otherwise passed over, so that a newer
gateway stays readable. An answer that lacks what a value needs raises Internal
(`unexpected_answer`): it then comes from something that is no gateway.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.core.checksums import Checksum
from gateway.core.plan import PartPlan
from gateway.errors import Internal, InvalidRequest

OPEN = "open"
UNSETTLED = frozenset({"completing", "verifying"})
COMPLETED = "completed"
FAILED = frozenset({"corrupt", "rejected"})
CLOSED = frozenset({"aborted", "expired"})
SETTLED = FAILED | CLOSED | {COMPLETED}


@dataclass(frozen=True, slots=True)
class ObjectReceipt:
    """The finished object; `checksums` are whole-object values, base64 by algorithm."""

    bucket: str
    key: str
    etag: str
    size: int
    checksums: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Session:
    """An upload session as the gateway describes it; `raw` is its JSON, unchanged."""

    session_id: str
    state: str
    filename: str
    size: int | None
    part_size: int
    received_bytes: int
    received_parts: int
    phase: str
    fraction: float | None
    checksum_algorithm: str
    part_etag_is_md5: bool
    verified_by: str | None
    checksum: Checksum | None
    object: ObjectReceipt | None
    error: Mapping[str, str] | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    def plan(self) -> PartPlan:
        """Return where each part lies; the gateway has checked it against the store's limits."""
        return PartPlan(self.size, self.part_size)


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part in the store: size in bytes, the ETag verbatim, the checksum where it is known."""

    part_number: int
    size: int
    etag: str
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class SignedPart:
    """A presigned PUT: `headers` go out as they are, with a body of exactly `size` bytes."""

    part_number: int
    url: str = field(repr=False)
    headers: Mapping[str, str]
    size: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Content:
    """Where a completed object can be read, until `expires_at` by the gateway's clock."""

    url: str = field(repr=False)
    expires_at: datetime
    filename: str
    size: int
    checksums: Mapping[str, str]


def read_session(data: Any) -> Session:
    """Return the session that this JSON describes."""
    try:
        checksum = data.get("checksum")
        stored = data.get("object")
        return Session(
            session_id=_text(data["session_id"]),
            state=_text(data["state"]),
            filename=_text(data["filename"]),
            size=None if data["size"] is None else int(data["size"]),
            part_size=int(data["part_size"]),
            received_bytes=int(data.get("received_bytes") or 0),
            received_parts=int(data.get("received_parts") or 0),
            phase=_text(data.get("phase") or ""),
            fraction=None if data.get("fraction") is None else float(data["fraction"]),
            checksum_algorithm=_text(data["checksum_algorithm"]),
            part_etag_is_md5=data.get("part_etag_is_md5") is True,
            verified_by=data.get("verified_by"),
            checksum=None if checksum is None else Checksum(**checksum),
            object=None if stored is None else _object(stored),
            error=data.get("error"),
            raw=data,
        )
    except (AttributeError, KeyError, TypeError, ValueError, InvalidRequest) as error:
        raise unexpected_answer("no upload session") from error


def read_stored_part(data: Any) -> StoredPart:
    """Return the stored part that this JSON describes."""
    try:
        return StoredPart(
            int(data["part_number"]), int(data["size"]), _text(data["etag"]), data.get("checksum")
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise unexpected_answer("no stored part") from error


def read_signed_part(data: Any) -> SignedPart:
    """Return the presigned part that this JSON describes."""
    try:
        return SignedPart(
            part_number=int(data["part_number"]),
            url=_text(data["url"]),
            headers={str(name): str(value) for name, value in data["headers"].items()},
            size=int(data["size"]),
            expires_at=datetime.fromisoformat(data["expires_at"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise unexpected_answer("no signed part") from error


def read_content(data: Any) -> Content:
    """Return the place of the content that this JSON describes."""
    try:
        return Content(
            url=_text(data["url"]),
            expires_at=datetime.fromisoformat(data["expires_at"]),
            filename=_text(data["filename"]),
            size=int(data["size"]),
            checksums=dict(data.get("checksums") or {}),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise unexpected_answer("no content address") from error


def unexpected_answer(what: str) -> Internal:
    """Return the error for an answer that a gateway would not give."""
    return Internal(
        f"The server's answer holds {what}.",
        code="unexpected_answer",
        hint="Check that the server address is a gateway's, and that both are of one version.",
    )


def _object(data: Any) -> ObjectReceipt:
    return ObjectReceipt(
        bucket=_text(data["bucket"]),
        key=_text(data["key"]),
        etag=_text(data["etag"]),
        size=int(data["size"]),
        checksums=dict(data.get("checksums") or {}),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value
