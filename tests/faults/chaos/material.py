"""The files that are uploaded: slices of one block of random bytes, so that none is kept twice.

A file is known by its size and its place in the block; any other place has other bytes, which is
what a mixture of two files would be made of.
"""

import random
from dataclasses import dataclass

MIB = 1024 * 1024
MIN_PART = 5 * MIB
LARGEST = 12 * MIB
_POOL_BYTES = 24 * MIB


@dataclass(frozen=True, slots=True)
class Source:
    """One file: `name` is unique in a run."""

    name: str
    size: int
    offset: int


class Material:
    """The block, made from the run's seed."""

    def __init__(self, seed: int) -> None:
        self._pool = random.Random(f"material {seed}").randbytes(_POOL_BYTES)

    def source(self, rng: random.Random, name: str) -> Source:
        """Choose a file: most are small, some have several parts, some are at the edges."""
        size = rng.choices(
            [
                rng.randint(100_000, 600_000),
                rng.randint(2, 5000),
                rng.choice([0, 1]),
                MIN_PART + rng.choice([-1, 0, 1]),
                rng.randint(MIN_PART + 1, LARGEST),
                2 * MIN_PART,
            ],
            weights=[60, 12, 6, 4, 14, 4],
        )[0]
        return Source(name, size, rng.randrange(_POOL_BYTES - LARGEST))

    def bytes_of(self, source: Source, start: int = 0, stop: int | None = None) -> bytes:
        """Return bytes [start, stop) of a file."""
        stop = source.size if stop is None else min(stop, source.size)
        return self._pool[source.offset + start : source.offset + stop]

    def other_bytes(self, source: Source, start: int, length: int) -> bytes:
        """Return as many bytes that are not the file's."""
        return bytes(byte ^ 0x55 for byte in self.bytes_of(source, start, start + length)[:64]) + (
            self.bytes_of(source, start + 64, start + length)
        )
