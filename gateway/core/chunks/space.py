"""How many bytes may be staged, over all sessions and gateways, and how many are."""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.core.chunks.store import ChunkStore
from gateway.errors import StorageFull

_RETRY_AFTER = 30.0


@dataclass(frozen=True, slots=True)
class SpaceFigures:
    """Bytes staged over all sessions as last heard of, the limit or None, and how many were refused."""

    staged: int
    limit: int | None
    refused: int


class StagingSpace:
    """Lets pieces in while there is room.

    It counts what is recorded of all sessions, and what this process is just staging. Gateways do
    not see what others have on the way, so that together they may go beyond by as much.
    """

    def __init__(self, chunks: ChunkStore, limit: int | None = None) -> None:
        self._chunks = chunks
        self._limit = limit
        self._on_the_way: dict[str, int] = {}
        self._sum_on_the_way = 0
        self._known = 0
        self._refused = 0

    @property
    def figures(self) -> SpaceFigures:
        """The figures of the last look."""
        return SpaceFigures(self._known + self._sum_on_the_way, self._limit, self._refused)

    async def refresh(self) -> None:
        """Look how much is staged, for the figures."""
        self._known = await self._chunks.staged_bytes()

    async def reserve(self, key: str, size: int) -> None:
        """Let a piece in, or raise StorageFull `staging_full`; until `release` it is on the way."""
        if self._limit is not None:
            await self.refresh()
            if self._known + self._sum_on_the_way + size > self._limit:
                self._refused += 1
                raise StorageFull(
                    "As many bytes are waiting to become parts of files as may.",
                    code="staging_full",
                    hint="Send the chunks that other files still lack, or this one again later.",
                    retry_after=_RETRY_AFTER,
                    details={"staging_limit": self._limit},
                )
        self._on_the_way[key] = size
        self._sum_on_the_way += size

    def release(self, keys: Iterable[str]) -> None:
        """Forget pieces that are recorded, or deleted."""
        for key in keys:
            self._sum_on_the_way -= self._on_the_way.pop(key, 0)
