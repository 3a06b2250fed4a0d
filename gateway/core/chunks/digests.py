"""What storage remembers of the chunks in a part, since an unfinished part cannot be read back.

One small object a part, `.gateway/staging/<session id>/part-<number>-<digest of the ETag>`, written
when the store has taken the part and before the part is recorded: with it, the staged pieces of
those chunks may go. It speaks of the part with that ETag and of no other; of two that were sent for
one number none overwrites what is said of the other.
"""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from gateway.core.checksums import ALGORITHMS
from gateway.core.chunks.pieces import folder_of
from gateway.core.chunks.staging import Staging
from gateway.core.chunks.store import Chunk
from gateway.core.model import Part
from gateway.core.record import part_from_record, part_to_record
from gateway.errors import GatewayError, NoSuchObject

_VERSION: Final = 1
_NAME: Final = "part-"
# A million chunks with SHA-256 take 43 MB; files in so many have far shorter checksums.
_MAX_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PartDigests:
    """A part, and its chunks from index `first` on: all of `size` bytes, but the last of them.

    `digests` are their checksums, raw, one after the other.
    """

    part: Part
    first: int
    size: int
    last_size: int
    digests: bytes

    def count(self, algorithm: str) -> int:
        """Return how many chunks the part has."""
        return len(self.digests) // ALGORITHMS[algorithm].digest_size

    def chunks(self, algorithm: str, start: int, stop: int) -> list[Chunk]:
        """Return chunks `start` to `stop` - 1 of the part, counted within it from 0."""
        width = ALGORITHMS[algorithm].digest_size
        last = self.count(algorithm) - 1
        return [
            Chunk(
                self.first + place,
                self.last_size if place == last else self.size,
                base64.b64encode(self.digests[place * width : (place + 1) * width]).decode(),
            )
            for place in range(start, min(stop, last + 1))
        ]


async def write_digests(staging: Staging, session_id: str, digests: PartDigests) -> None:
    """Store what a part consists of, overwriting what was said before."""
    body = await asyncio.to_thread(_encode, digests)
    await staging.put_object(session_id, _name(digests.part), body)


async def delete_digests(staging: Staging, session_id: str, part: Part) -> None:
    """Delete what was said of a part, and only of the one with that ETag."""
    await staging.delete([folder_of(session_id) + _name(part)])


async def delete_other_digests(staging: Staging, session_id: str, part: Part) -> None:
    """Delete what was said of all others with the same number: this one counts."""
    kept = _name(part)
    async with aclosing(staging.names(session_id, _start(part))) as names:
        others = [folder_of(session_id) + name async for name in names if name != kept]
    await staging.delete(others)


async def read_digests(staging: Staging, session_id: str) -> AsyncGenerator[PartDigests, None]:
    """Yield what is said of parts, in order of number; what makes no sense is passed over."""
    async with aclosing(staging.names(session_id, _NAME)) as names:
        async for name in names:
            try:
                body = await staging.get_object(session_id, name, limit=_MAX_BYTES)
            except NoSuchObject:
                continue
            digests = await asyncio.to_thread(_decode, body)
            if digests is not None and name == _name(digests.part):
                yield digests


def _start(part: Part) -> str:
    return f"{_NAME}{part.number:05d}-"


def _name(part: Part) -> str:
    return _start(part) + sha256(part.etag.encode()).hexdigest()[:16]


def _encode(digests: PartDigests) -> bytes:
    record: dict[str, Any] = {
        "version": _VERSION,
        "part": part_to_record(digests.part),
        "first": digests.first,
        "size": digests.size,
        "last_size": digests.last_size,
        "digests": base64.b64encode(digests.digests).decode(),
    }
    return json.dumps(record).encode()


def _decode(body: bytes) -> PartDigests | None:
    try:
        record = json.loads(body)
        if record["version"] != _VERSION:
            return None
        return PartDigests(
            part_from_record(record["part"]),
            int(record["first"]),
            int(record["size"]),
            int(record["last_size"]),
            base64.b64decode(record["digests"]),
        )
    except (ValueError, KeyError, TypeError, GatewayError):
        return None
