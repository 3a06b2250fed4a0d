"""What storage remembers of each session, so that it survives the loss of Redis (law 4).

One small JSON object a session, `.gateway/sessions/<session_id>`, over any ObjectStore:
`{"version": 1, "session": {...}, "parts": [...] or null}`. It is written rarely (at creation, when
completion starts, at the end) and does not promise to be newer than what Redis holds.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import orjson

from gateway.core.model import check_session_id
from gateway.core.ports import ObjectStore, Sidecar, Sidecars
from gateway.core.record import (
    part_from_record,
    part_to_record,
    session_from_record,
    session_to_record,
)
from gateway.errors import Internal, NoSuchObject, SessionNotFound

PREFIX: Final = ".gateway/sessions/"
_VERSION: Final = 1
# 10,000 parts with SHA-256 checksums take 1.2 MB.
_MAX_BYTES: Final = 16 * 1024 * 1024


class ObjectSidecars(Sidecars):
    """Sidecars in one bucket."""

    def __init__(self, objects: ObjectStore, bucket: str) -> None:
        self._objects = objects
        self._bucket = bucket

    async def write(self, sidecar: Sidecar) -> None:
        """Store, overwriting what is there."""
        session_id = check_session_id(sidecar.session.session_id)
        # 10,000 parts take milliseconds, which the event loop does not have.
        body = await asyncio.to_thread(_encode, sidecar)
        await self._objects.put(
            self._bucket, PREFIX + session_id, body, content_type="application/json"
        )

    async def read(self, session_id: str) -> Sidecar:
        """Return the sidecar; raise SessionNotFound, or Internal `record_unreadable`."""
        key = PREFIX + check_session_id(session_id)
        body = bytearray()
        blocks = self._objects.read(self._bucket, key)
        try:
            async with aclosing(blocks):
                async for block in blocks:
                    body += block
                    if len(body) > _MAX_BYTES:
                        raise _unreadable()
        except NoSuchObject as error:
            raise SessionNotFound from error
        sidecar = await asyncio.to_thread(_decode, bytes(body))
        if sidecar.session.session_id != session_id:
            raise _unreadable()
        return sidecar

    async def ids(self) -> AsyncGenerator[str, None]:
        """Yield every session id that has a sidecar, passing over what else lies there."""
        async for item in self._objects.list(self._bucket, PREFIX):
            try:
                yield check_session_id(item.key.removeprefix(PREFIX))
            except SessionNotFound:
                continue


def _encode(sidecar: Sidecar) -> bytes:
    return orjson.dumps(
        {
            "version": _VERSION,
            "session": session_to_record(sidecar.session),
            "parts": None
            if sidecar.parts is None
            else [part_to_record(part) for part in sidecar.parts],
        }
    )


def _decode(body: bytes) -> Sidecar:
    try:
        record = orjson.loads(body)
        version, session, parts = record["version"], record["session"], record["parts"]
        if version != _VERSION:
            raise ValueError("Written by another version.")  # noqa: TRY301 - one answer for all.
        return Sidecar(
            session_from_record(session),
            None if parts is None else tuple(part_from_record(part) for part in parts),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable() from error


def _unreadable() -> Internal:
    return Internal(
        "The record of this session cannot be read.",
        code="record_unreadable",
        hint="Other sessions are not touched; an administrator can rebuild this one.",
    )
