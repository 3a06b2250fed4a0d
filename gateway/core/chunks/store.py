"""The port that remembers which chunks of a session are stored; see `ports` for what holds for all.

It stands beside `ports`, which is long enough. The answers are an index, like those of the session
store: pieces under the staging prefix and digests beside the parts are the truth (law 4).
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.core.ports import PartOutcome


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stored chunk: index from 0, size in bytes, checksum (base64) in the session's algorithm.

    `token` names the attempt whose pieces lie in staging; it is empty where the chunk went straight
    into a part.
    """

    index: int
    size: int
    checksum: str
    token: str = ""


class ChunkStore(Protocol):
    """Remembers chunks. Every method is atomic for its session, and may be repeated."""

    @abstractmethod
    async def add_chunk(self, session_id: str, chunk: Chunk, *, total: int) -> PartOutcome:
        """Record a chunk of an open session, unless its index is known with the same bytes.

        That is a success in any state of the session; other bytes raise Conflict `chunk_conflict`,
        and what is recorded stays. The first chunk that is not the last one decides the size of all
        but the last: another size raises InvalidRequest `chunk_size_mismatch`. Raises Conflict
        `session_not_open`, SessionNotFound. A chunk without a token marks its own part: that of
        the number index + 1.
        """

    @abstractmethod
    async def chunks_of(self, session_id: str, indexes: Sequence[int]) -> dict[int, Chunk]:
        """Return those recorded among the indexes."""

    @abstractmethod
    async def restore_chunks(
        self, session_id: str, chunks: Sequence[Chunk], *, total: int
    ) -> list[bool]:
        """Record chunks found in storage; tell which are recorded so now.

        An index that is known otherwise, or whose size does not fit, stays as it is. Chunks without
        a token do not count as staged; which part holds them, `mark_assembled` says.
        """

    @abstractmethod
    async def mark_restored(self, session_id: str) -> None:
        """Note that what is recorded is as complete as storage: `Progress.chunks_known`."""

    @abstractmethod
    async def mark_assembled(self, session_id: str, number: int, staged_bytes: int) -> None:
        """Note that the chunks of a part are in it, and so many staged bytes fewer, once."""

    @abstractmethod
    async def forget_chunks(self, session_id: str, number: int, chunks: Sequence[Chunk]) -> None:
        """Forget chunks of a part that were lost, where they are recorded so, and the part's mark."""

    @abstractmethod
    async def forget_staged(self, session_id: str) -> None:
        """Take the session out of the sum of staged bytes: its staging is empty for good."""

    @abstractmethod
    async def staged_bytes(self) -> int:
        """Return the bytes staged over all sessions, as far as is known."""
