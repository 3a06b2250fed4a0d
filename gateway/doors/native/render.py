"""From the core's values to the JSON of the native API."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import orjson
from aiohttp import web

from gateway.core.checksums import PREFERENCE, Checksum
from gateway.core.model import (
    Part,
    Problem,
    SignedPart,
    StorageLimits,
    StoredObject,
    UploadSession,
)
from gateway.core.record import time_to_text
from gateway.doors.native import answers

# The parts of one call expire together.
_expiry_text = lru_cache(maxsize=64)(time_to_text)


def json_response(
    value: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Return a JSON answer."""
    return web.Response(
        status=status,
        body=orjson.dumps(value),
        headers=headers,
        content_type="application/json",
    )


def session_document(session: UploadSession, limits: StorageLimits) -> answers.Session:
    """Return the session as clients see it: times in RFC 3339, sizes in bytes."""
    return {
        "session_id": session.session_id,
        "state": session.state,
        "filename": session.filename,
        "content_type": session.content_type,
        "size": session.size,
        "part_size": session.part_size,
        "part_count": session.plan.part_count,
        "received_bytes": session.progress.received_bytes,
        "received_parts": session.progress.received_parts,
        "in_flight_bytes": session.progress.in_flight_bytes,
        "missing": session.missing,
        "phase": session.phase,
        "fraction": session.fraction,
        "checksum_algorithm": session.checksum_algorithm,
        "checksum": _checksum(session.checksum) if session.checksum else None,
        "verified_by": session.verified_by,
        "fingerprint": session.fingerprint,
        "metadata": dict(session.metadata),
        "created_at": time_to_text(session.created_at),
        "updated_at": time_to_text(session.updated_at),
        "expires_at": time_to_text(session.expires_at),
        "object": _object(session.object) if session.object else None,
        "error": _error(session.error) if session.error else None,
        "part_etag_is_md5": limits.part_etag_is_md5,
    }


def progress_document(session: UploadSession) -> answers.Progress:
    """Return the figures that change while a session does not."""
    return {
        "received_bytes": session.progress.received_bytes,
        "received_parts": session.progress.received_parts,
        "in_flight_bytes": session.progress.in_flight_bytes,
        "fraction": session.fraction,
        "phase": session.phase,
    }


def signed_documents(parts: Iterable[SignedPart]) -> list[answers.SignedPart]:
    """Return presigned parts; the URLs are secrets for as long as they live."""
    return [
        {
            "part_number": part.number,
            "url": part.url,
            "method": "PUT",
            "headers": dict(part.headers),
            "size": part.size,
            "expires_at": _expiry_text(part.expires_at),
        }
        for part in parts
    ]


def part_document(part: Part) -> answers.Part:
    """Return a stored part."""
    return {
        "part_number": part.number,
        "size": part.size,
        "etag": part.etag,
        "checksum": part.checksum,
    }


def store_document(limits: StorageLimits) -> answers.Store:
    """Return what the store can do, for clients that plan by it."""
    checksums = [name for name in PREFERENCE if name in limits.part_checksums]
    return {
        "part_etag_is_md5": limits.part_etag_is_md5,
        "checksums": checksums,
        "object_checksums": [name for name in PREFERENCE if name in limits.object_checksums],
        "default_checksum": checksums[0] if checksums else PREFERENCE[0],
        "max_parts": limits.parts.max_parts,
        "min_part_size": limits.parts.min_part_size,
        "max_part_size": limits.parts.max_part_size,
        "max_object_size": limits.parts.max_size,
        "conditional_complete": limits.conditional_complete,
    }


def _checksum(checksum: Checksum) -> answers.Checksum:
    return {"algorithm": checksum.algorithm, "value": checksum.value}


def _error(problem: Problem) -> answers.SessionError:
    return {"code": problem.code, "message": problem.message, "hint": problem.hint}


def _object(stored: StoredObject) -> answers.StoredObject:
    return {
        "bucket": stored.bucket,
        "key": stored.key,
        "etag": stored.etag,
        "size": stored.size,
        "checksums": dict(stored.checksums),
    }
