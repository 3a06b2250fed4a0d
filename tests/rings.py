"""Tells whether something is let go of at once, or lies in a ring until the next full collection."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Witness:
    """Put into a local variable, it lives as long as the frame, and all that the frame holds."""


class Watch:
    """Waits for witnesses to go."""

    def __init__(self) -> None:
        self._gone = asyncio.Event()
        self._refs: list[weakref.ref[Witness]] = []

    def witness(self) -> Witness:
        """Make a witness."""
        witness = Witness()
        self._refs.append(weakref.ref(witness, lambda _: self._gone.set()))
        return witness

    async def all_gone(self, *, seconds: float = 10.0) -> None:
        """Return when they have gone, and there was one at least; TimeoutError if they stay."""
        assert self._refs
        async with asyncio.timeout(seconds):
            while any(ref() is not None for ref in self._refs):
                self._gone.clear()
                await self._gone.wait()


@asynccontextmanager
async def no_collections() -> AsyncIterator[Watch]:
    """Keep the collector of rings from running inside."""
    gc.collect()
    gc.disable()
    try:
        yield Watch()
    finally:
        gc.enable()
