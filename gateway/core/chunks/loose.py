"""A chunk that came before anybody knew whose it is: form posts may put the file before the fields."""

import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Final, Protocol

from gateway.core.budget import Grant
from gateway.core.chunks.pieces import PREFIX
from gateway.errors import GatewayError

LOOSE: Final = f"{PREFIX}loose/"
"""Pieces of loose chunks lie here, each named after the time at which its chunk came."""

_NAME: Final = re.compile(r"([0-9]{8}T[0-9]{6})-[0-9a-f]{12}-[0-9]{6}", re.ASCII)
_TIME: Final = "%Y%m%dT%H%M%S"


class Shelf(Protocol):
    """Where the pieces lie."""

    def read_object(self, key: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a piece."""

    async def delete(self, keys: list[str]) -> None:
        """Delete pieces."""


class LooseChunk(AsyncIterable[bytes]):
    """A body that came before anybody knew whose it is; read it once or more, then discard it.

    Up to one piece is held in memory, more of it lies in the store.
    """

    def __init__(self, shelf: Shelf, held: bytes, keys: list[str], size: int) -> None:
        self.size = size
        self.held = held
        self._shelf = shelf
        self._keys = keys
        self._grant: Grant | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._blocks()

    async def discard(self) -> None:
        """Let go of it. What cannot be deleted now is swept a day later."""
        if self._grant is not None:
            self._grant.give_back()
            self._grant = None
        self.held = b""
        keys, self._keys = self._keys, []
        with suppress(GatewayError):
            await self._shelf.delete(keys)

    def keep(self, grant: Grant) -> None:
        """Hold on to the memory that the piece takes, until it is discarded."""
        self._grant = grant

    async def _blocks(self) -> AsyncGenerator[bytes, None]:
        if self.held:
            yield self.held
        for key in self._keys:
            async with aclosing(self._shelf.read_object(key)) as blocks:
                async for block in blocks:
                    yield block


def loose_prefix(now: datetime, token: str) -> str:
    """Return what the pieces of a loose chunk that comes now are called, but for their number."""
    return f"{LOOSE}{now.astimezone(UTC).strftime(_TIME)}-{token}-"


def came_before(name: str, moment: datetime) -> bool:
    """Tell whether a name is that of a piece whose chunk came before a moment."""
    made = _NAME.fullmatch(name)
    if made is None:
        return False
    with suppress(ValueError):
        return datetime.strptime(f"{made[1]}+0000", f"{_TIME}%z") < moment
    return False
