"""What this client thinks identifies a file, to find its unfinished session again.

It is a hint and never a proof: two files may have one fingerprint, and a file may change and keep
it. Before a stored part is relied on, its checksum is compared with the file's.
"""

from hashlib import sha256
from typing import Final

from gateway.client.source import SourceFile

VERSION: Final = "gw1"
EDGE: Final = 64 * 1024
SAMPLES: Final = 8
SAMPLE: Final = 16 * 1024


def fingerprint(source: SourceFile) -> str:
    """Return the fingerprint, 68 ASCII characters: it hashes name, size, time and samples.

    Samples are the first and last 64 KiB and eight blocks of 16 KiB between, evenly spread; small
    files are read whole. It reads at most 256 KiB, in the calling thread.
    """
    digest = sha256(f"{source.name}\0{source.size}\0{source.modified_ns}\0".encode())
    for offset, length in sampled(source.size):
        digest.update(source.read(offset, length))
    source.check()
    return f"{VERSION}-{digest.hexdigest()}"


def sampled(size: int) -> list[tuple[int, int]]:
    """Return which pieces of a file of this size are read, as (offset, length), ascending."""
    middle = size - 2 * EDGE
    if middle <= SAMPLES * SAMPLE:
        return [(0, size)] if size else []
    step = (middle - SAMPLE) // (SAMPLES - 1)
    between = [(EDGE + index * step, SAMPLE) for index in range(SAMPLES)]
    return [(0, EDGE), *between, (size - EDGE, EDGE)]
