"""Which chunks make up which part: pure arithmetic, and bitmaps of what is there.

A file in chunks consists of chunks of one size, but for the last, which may be smaller. Part k
holds the `per_part` chunks from (k - 1) · `per_part` on, so that parts are equal, too. Chunks are
counted from 0, parts from 1. Nothing here knows a session, a store or a network.

Bitmaps are as Redis keeps them: number 0 is the highest bit of the first byte, and what lies beyond
the end is not set.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.core.plan import PartLimits, plan_parts
from gateway.errors import TooLarge

MAX_CHUNKS = 1_000_000
"""A file has no more: what is remembered of each takes some hundred bytes of Redis."""
MAX_RANGES = 1000
"""Gaps that are written out at a time; who has filled these asks again."""

_ZEROS = re.compile("0+")
_FULL = 0xFF


def has_bit(bits: bytes, number: int) -> bool:
    """Tell whether a number is in a bitmap."""
    index, bit = divmod(number, 8)
    return index < len(bits) and bool(bits[index] & (0x80 >> bit))


def has_all(bits: bytes, numbers: range) -> bool:
    """Tell whether all of a range, in steps of 1, are in a bitmap."""
    if not numbers:
        return True
    first, last = numbers[0] // 8, numbers[-1] // 8
    if last >= len(bits):
        return False
    window = int.from_bytes(bits[first : last + 1], "big")
    width = (last - first + 1) * 8
    # Drop what lies behind the range, then what lies before it.
    window >>= width - (numbers[-1] - first * 8) - 1
    wanted = (1 << len(numbers)) - 1
    return window & wanted == wanted


def gaps(bits: bytes, count: int) -> Iterator[range]:
    """Yield the ranges below `count` that a bitmap lacks, in order."""
    used = bits[: (count + 7) // 8]
    if not used:
        if count:
            yield range(count)
        return
    text = f"{int.from_bytes(used, 'big'):0{len(used) * 8}b}"
    text = text[:count].ljust(count, "0")
    for run in _ZEROS.finditer(text):
        yield range(run.start(), run.end())


def unbroken(bits: bytes) -> int:
    """Return how many numbers from 0 on are there without a gap."""
    for index, byte in enumerate(bits):
        if byte != _FULL:
            # A byte that is not full has a bit that is not set; the first one ends the run.
            return index * 8 + 8 - (byte ^ _FULL).bit_length()
    return len(bits) * 8


def format_gaps(bits: bytes, count: int) -> str:
    """Write the ranges that a bitmap lacks: `3-17,20`, and no more than the first 1,000."""
    texts: list[str] = []
    for gap in gaps(bits, count):
        if len(texts) == MAX_RANGES:
            break
        texts.append(f"{gap[0]}-{gap[-1]}" if len(gap) > 1 else f"{gap[0]}")
    return ",".join(texts)


@dataclass(frozen=True, slots=True)
class ChunkLayout:
    """How the `total` chunks of a file, `size` bytes each but the last, make up its parts."""

    total: int
    size: int
    per_part: int

    @property
    def part_size(self) -> int:
        """Bytes of every part but the last."""
        return self.per_part * self.size

    @property
    def part_count(self) -> int:
        """How many parts there are."""
        return -(-self.total // self.per_part)

    def number_of(self, index: int) -> int:
        """Return the number of the part that a chunk belongs to."""
        return index // self.per_part + 1

    def chunks_of(self, number: int) -> range:
        """Return the chunks of a part."""
        start = (number - 1) * self.per_part
        return range(start, min(start + self.per_part, self.total))

    def file_size(self, last_size: int) -> int:
        """Return the bytes of the whole file, given those of its last chunk."""
        return (self.total - 1) * self.size + last_size

    def ready(self, chunks: bytes, parts: bytes) -> Iterator[int]:
        """Yield the numbers of parts whose chunks are all there, and which are not.

        `chunks` is the bitmap of chunks, `parts` that of parts, part 1 being its first bit.
        """
        # Nothing behind the last byte of the chunks can be ready: it costs nothing to look at.
        reach = min(self.part_count, -(-len(chunks) * 8 // self.per_part))
        for gap in gaps(parts, reach):
            for before in gap:
                if has_all(chunks, self.chunks_of(before + 1)):
                    yield before + 1


def lay_out(total: int, size: int, limits: PartLimits) -> ChunkLayout:
    """Decide which chunks make up which part, by the rule of the older chunk APIs.

    A chunk that is large enough is a part. Otherwise a part takes as many as make up the part size
    of such a file, or more where the file would have too many parts. Raises TooLarge
    (`file_too_large`, `chunk_too_large`).
    """
    if (total - 1) * size + 1 > limits.max_size:
        raise TooLarge(
            "So many chunks of this size make a file that is larger than is taken here.",
            code="file_too_large",
            hint=f"At most {limits.max_size} bytes are taken.",
            details={"max_size": limits.max_size},
        )
    if size > limits.max_part_size:
        raise TooLarge(
            "The chunk is larger than a part may be.",
            code="chunk_too_large",
            hint=f"Send chunks of at most {limits.max_part_size} bytes.",
            details={"max_size": limits.max_part_size},
        )
    if total == 1 or (size >= limits.min_part_size and total <= limits.max_parts):
        return ChunkLayout(total, size, 1)
    part_size = plan_parts(min(total * size, limits.max_size), limits).part_size
    # Rounded down where a part of one chunk more would be larger than the store takes.
    most = limits.max_part_size // size
    per_part = max(min(-(-part_size // size), most), -(-total // limits.max_parts))
    if per_part > most:
        raise TooLarge(
            "So many chunks do not fit into the parts that the store takes.",
            code="file_too_large",
            hint="Send larger chunks.",
        )
    return ChunkLayout(total, size, per_part)
