"""Sessions, parts and events as the bytes that Redis keeps, and back.

Everything read is distrusted: what makes no sense raises Internal `record_unreadable`, for that
session alone (fault 53).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

from gateway.core.events import Event, EventType
from gateway.core.model import Part, Progress, UploadSession
from gateway.core.record import (
    part_from_record,
    part_to_record,
    session_from_record,
    session_to_record,
    time_from_text,
    time_to_text,
)
from gateway.state.redis.errors import unreadable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# Work on this many parts takes about a millisecond; others get their turn in between.
_PARTS_AT_A_TIME = 500


def milliseconds(moment: datetime) -> int:
    """Return the whole milliseconds since 1970, rounded down like `record.time_to_text`."""
    return (moment - _EPOCH) // _MILLISECOND


def moment(since_1970: int) -> datetime:
    """Return the time of so many milliseconds since 1970."""
    return _EPOCH + since_1970 * _MILLISECOND


def encode_session(session: UploadSession) -> bytes:
    """Return the session as JSON, without its live progress."""
    return orjson.dumps(session_to_record(session))


def decode_session(reply: Sequence[Any]) -> UploadSession:
    """Build a session from the reply of `get.lua`: record, figures, bitmaps, bytes on the way."""
    record, received_bytes, received_parts, verified, received, in_flight, *chunked = reply
    try:
        # orjson and int() refuse None, which stands for a field that is missing.
        session = _session(record)
        progress = Progress(
            received_bytes=int(received_bytes),
            received_parts=int(received_parts),
            received=received,
            in_flight_bytes=in_flight,
            verified_bytes=int(verified),
            **_chunk_figures(chunked),
        )
    except (ValueError, TypeError) as error:
        raise unreadable() from error
    return replace(session, progress=progress)


def _chunk_figures(words: Sequence[Any]) -> dict[str, Any]:
    if not words:
        return {}
    count, chunks, assembled, staged, size, last_size, *known = words
    return {
        "received_chunks": int(count),
        "chunks": chunks,
        "assembled": assembled,
        "staged_bytes": int(staged),
        "chunk_size": None if size is None else int(size),
        "last_chunk_size": None if last_size is None else int(last_size),
        "chunks_known": known == [b"1"],
    }


@lru_cache(maxsize=256)
def _session(record: bytes) -> UploadSession:
    """Decode a record, which does not change while parts come and go: a busy one is decoded once."""
    return session_from_record(orjson.loads(record))


def encode_part(part: Part) -> bytes:
    """Return `[number, size, etag, checksum]` as JSON."""
    return orjson.dumps(part_to_record(part))


async def encode_parts(parts: Sequence[Part]) -> list[bytes]:
    """Encode up to 10,000 parts without holding up the event loop."""
    encoded: list[bytes] = []
    for start in range(0, len(parts), _PARTS_AT_A_TIME):
        if start:
            await asyncio.sleep(0)
        encoded += map(encode_part, parts[start : start + _PARTS_AT_A_TIME])
    return encoded


async def decode_parts(values: Sequence[bytes]) -> list[Part]:
    """Decode up to 10,000 parts without holding up the event loop."""
    parts: list[Part] = []
    try:
        for start in range(0, len(values), _PARTS_AT_A_TIME):
            if start:
                await asyncio.sleep(0)
            some = values[start : start + _PARTS_AT_A_TIME]
            parts += map(_part, orjson.loads(b"[%b]" % b",".join(some)))
    except (ValueError, TypeError, LookupError) as error:
        raise unreadable() from error
    return parts


def encode_event(event: Event) -> bytes:
    """Return an event as JSON, as it lies in the outbox."""
    return orjson.dumps(
        {
            "event_id": event.event_id,
            "type": event.type.value,
            "session_id": event.session_id,
            "owner": event.owner,
            "at": time_to_text(event.at),
        }
    )


def decode_event(value: bytes) -> Event:
    """Build an event from what `encode_event` wrote."""
    try:
        record = orjson.loads(value)
        return Event(
            event_id=record["event_id"],
            type=EventType(record["type"]),
            session_id=record["session_id"],
            owner=record["owner"],
            at=time_from_text(record["at"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise unreadable() from error


def _part(record: Any) -> Part:
    if not (isinstance(record[0], int) and isinstance(record[1], int)):
        raise TypeError("Number and size of a part are whole numbers.")
    return part_from_record(record)
