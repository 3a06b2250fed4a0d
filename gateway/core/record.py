"""Sessions and parts as plain dictionaries, for whoever writes them down (Redis, sidecars).

Records outlive versions of this code: unknown fields are ignored, and a field added later needs a
default here, so that an old record stays readable beside new ones (fault 54).
"""

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from gateway.core.checksums import Checksum
from gateway.core.model import (
    ChunkPlan,
    MultipartUpload,
    Part,
    Problem,
    State,
    StoredObject,
    UploadSession,
    VerifiedBy,
)
from gateway.errors import GatewayError, Internal

_PLAIN = [
    "session_id",
    "owner",
    "version",
    "filename",
    "content_type",
    "size",
    "part_size",
    "checksum_algorithm",
    "fingerprint",
    "request_digest",
    "storage_cleared",
]
_TIMES = ("created_at", "updated_at", "expires_at")


def session_to_record(session: UploadSession) -> dict[str, Any]:
    """Return the session without its live progress, JSON-ready."""
    record: dict[str, Any] = {name: getattr(session, name) for name in _PLAIN}
    record |= {name: time_to_text(getattr(session, name)) for name in _TIMES}
    record["state"] = session.state.value
    record["metadata"] = dict(session.metadata)
    record["verified_by"] = session.verified_by.value if session.verified_by else None
    record["upload"] = _values(session.upload)
    record["checksum"] = _values(session.checksum) if session.checksum else None
    record["object"] = _values(session.object) if session.object else None
    record["error"] = _values(session.error) if session.error else None
    if session.chunks:
        record["chunks"] = _values(session.chunks)
    return record


def session_from_record(record: Mapping[str, Any]) -> UploadSession:
    """Rebuild a session; raise Internal `record_unreadable` for one that makes no sense."""
    try:
        times: dict[str, Any] = {name: time_from_text(record[name]) for name in _TIMES}
        session = UploadSession(
            **{name: record[name] for name in _PLAIN},
            **times,
            state=State(record["state"]),
            metadata=dict(record["metadata"]),
            verified_by=VerifiedBy(record["verified_by"]) if record["verified_by"] else None,
            upload=MultipartUpload(**_known(MultipartUpload, record["upload"])),
            checksum=_build(Checksum, record["checksum"]),
            object=_build(StoredObject, record["object"]),
            error=_build(Problem, record["error"]),
            chunks=_build(ChunkPlan, record.get("chunks")),
        )
        _check_numbers(session)
    except (KeyError, TypeError, ValueError, AttributeError, GatewayError) as error:
        raise Internal(
            "The record of this session cannot be read.",
            code="record_unreadable",
            hint="Other sessions are not touched; an administrator can rebuild this one.",
        ) from error
    return session


def part_to_record(part: Part) -> list[Any]:
    """Return `[number, size, etag, checksum]`, and true where relayed; short: it may be 10,000."""
    record: list[Any] = [part.number, part.size, part.etag, part.checksum]
    return [*record, True] if part.relayed else record


def part_from_record(record: list[Any]) -> Part:
    """Rebuild a part."""
    number, size, etag, checksum, *later = record
    return Part(number, size, etag, checksum, relayed=later[:1] == [True])


def time_to_text(moment: datetime) -> str:
    """Return RFC 3339 in UTC with milliseconds, such as 2026-11-21T10:00:00.000Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_from_text(text: str) -> datetime:
    """Parse what `time_to_text` wrote."""
    return datetime.fromisoformat(text)


def _check_numbers(session: UploadSession) -> None:
    # A plan refuses numbers that are none, and a version is compared and counted on.
    if session.plan.last_number < 1 or session.version < 1:
        raise ValueError("There is no such plan or version.")


def _values(value: Any) -> dict[str, Any]:
    plain = {field.name: getattr(value, field.name) for field in fields(value)}
    return {k: dict(v) if isinstance(v, Mapping) else v for k, v in plain.items()}


def _build(kind: type[Any], record: Mapping[str, Any] | None) -> Any:
    return None if record is None else kind(**_known(kind, record))


def _known(kind: type[Any], record: Mapping[str, Any]) -> dict[str, Any]:
    known = {field.name for field in fields(kind)}
    return {name: value for name, value in record.items() if name in known}
