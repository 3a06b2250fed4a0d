"""The tail of an upload that grows at its end: bytes that are durable, but short of a legal part.

It lies in the session's staging folder in segments that follow each other,

    tail-<offset>-<size>-<checksum in hex>

so that a list of the folder tells how far it goes (law 4). What is durable of the file are the
parts recorded from the first on, and the segments behind them.
"""

import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from gateway.core.checksums import ALGORITHMS
from gateway.core.chunks.layout import unbroken
from gateway.core.chunks.pieces import PREFIX
from gateway.core.chunks.staging import Staging
from gateway.core.model import UploadSession
from gateway.errors import Conflict, NoSuchObject

_START: Final = "tail-"
_NAME: Final = re.compile(_START + r"([0-9]{16})-([0-9]{1,9})-([0-9a-f]{8,64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the tail: where it begins in the file, its bytes, its checksum in hex."""

    offset: int
    size: int
    checksum: str

    @property
    def name(self) -> str:
        """How it is called in the session's folder."""
        return f"{_START}{self.offset:016d}-{self.size}-{self.checksum}"

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Stand:
    """What is durable: `parts` parts, which end at `boundary`, and the segments behind them."""

    parts: int
    boundary: int
    segments: tuple[Segment, ...] = ()

    @property
    def offset(self) -> int:
        """How many bytes of the file are durable without a gap."""
        return self.segments[-1].end if self.segments else self.boundary


class Tail:
    """The tails of sessions, in one staging prefix."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging

    async def stand(self, session: UploadSession) -> tuple[Stand, list[Segment]]:
        """Return what is durable, and the segments that lead nowhere (any more)."""
        parts = unbroken(session.progress.received)
        # The last part may be smaller, also where nobody has said yet how large the file is.
        size = session.progress.received_bytes if session.size is None else session.size
        boundary = min(parts * session.part_size, size)
        found: list[Segment] = []
        async with aclosing(self._staging.names(session.session_id, _START)) as names:
            async for name in names:
                if match := _NAME.fullmatch(name):
                    found += [Segment(int(match[1]), int(match[2]), match[3])]
        chain: list[Segment] = []
        end = boundary
        # Of two that begin at one place, the longer one holds the other.
        for segment in sorted(found, key=lambda item: (item.offset, -item.size)):
            if segment.offset == end:
                chain.append(segment)
                end = segment.end
        left = [segment for segment in found if segment not in chain]
        return Stand(parts, boundary, tuple(chain)), left

    async def write(self, session: UploadSession, offset: int, blocks: list[bytes]) -> Segment:
        """Make the blocks durable as the segment at an offset."""
        hasher = ALGORITHMS[session.checksum_algorithm].new()
        for block in blocks:
            hasher.update(block)
        body = b"".join(blocks)
        segment = Segment(offset, len(body), hasher.digest().hex())
        await self._staging.put_object(session.session_id, segment.name, body)
        return segment

    async def read(self, session: UploadSession, segment: Segment) -> AsyncGenerator[bytes, None]:
        """Yield a segment's bytes; one that is gone or damaged raises Conflict `offset_mismatch`."""
        hasher = ALGORITHMS[session.checksum_algorithm].new()
        size = 0
        try:
            async with aclosing(self._staging.read_object(_key(session, segment))) as blocks:
                async for block in blocks:
                    hasher.update(block)
                    size += len(block)
                    yield block
        except NoSuchObject as error:
            raise offset_mismatch(segment.offset) from error
        if (size, hasher.digest().hex()) != (segment.size, segment.checksum):
            # It goes, and the client sends again from there on.
            await self.delete(session, [segment])
            raise offset_mismatch(segment.offset)

    async def delete(self, session: UploadSession, segments: Iterable[Segment]) -> None:
        """Delete segments that a part holds, or that lead nowhere."""
        await self._staging.delete([_key(session, segment) for segment in segments])


def offset_mismatch(offset: int) -> Conflict:
    """Return the error for bytes that do not go on where the upload ends."""
    return Conflict(
        "The upload does not go on at this offset.",
        code="offset_mismatch",
        hint="Ask for the offset, and send what comes after it.",
        details={"offset": offset},
    )


def _key(session: UploadSession, segment: Segment) -> str:
    return f"{PREFIX}{session.session_id}/{segment.name}"
