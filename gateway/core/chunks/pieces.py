"""How a staged chunk is cut into pieces, and what these are called.

A body of unknown length is cut into pieces of known length, since an S3 PUT needs one. All pieces
of a session lie in one folder, `.gateway/staging/<session id>/`:

    <chunk index>-<token>-<piece>                    a piece of one attempt to send one chunk
    <chunk index>-<token>-<piece>-<size>-<checksum>  its last one: the chunk's size, checksum in hex

An attempt is whole when its last piece is there and the sizes add up, so that a list of the folder
alone tells which chunks are whole (law 4). Which of two whole attempts counts, it does not tell.
Names and sizes outlive versions of this code: what is staged was written with them.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.core.checksums import ALGORITHMS
from gateway.core.chunks.store import Chunk

PREFIX: Final = ".gateway/staging/"
PIECE_BYTES: Final = 1024 * 1024

_PIECE: Final = re.compile(
    r"([0-9]{7})-([0-9a-f]{12})-([0-9]{6})(?:-([0-9]{1,16})-([0-9a-f]{8,64}))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class PieceName:
    """What a piece's name says; `chunk` is what the last one says of the whole."""

    index: int
    token: str
    number: int
    chunk: Chunk | None = None

    @classmethod
    def parse(cls, name: str, algorithm: str) -> "PieceName | None":
        """Read a name; None for one that is no piece's."""
        match = _PIECE.fullmatch(name)
        if match is None:
            return None
        index, token, number, size, checksum = match.groups()
        chunk = _chunk(int(index), token, int(size), checksum, algorithm) if size else None
        return cls(int(index), token, int(number), chunk)


@dataclass(slots=True)
class Attempt:
    """What a list of the folder tells of one attempt; `chunk` is None unless it is whole."""

    index: int
    token: str
    keys: list[str] = field(default_factory=list)
    chunk: Chunk | None = None
    _size: int = 0

    def take(self, name: PieceName, key: str, size: int) -> None:
        """Take in a piece of this attempt; they come in order."""
        in_order = name.number == len(self.keys)
        self.keys.append(key)
        self._size += size
        if in_order and name.chunk is not None and name.chunk.size == self._size:
            self.chunk = name.chunk


class Piece:
    """A buffer that gives its bytes away when it is full and more come."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._size = 0

    def fill(self, block: bytes) -> Iterator[bytes]:
        """Take in a block; yield what was full before it."""
        rest = memoryview(block)
        while rest:
            if self._size == PIECE_BYTES:
                yield self.rest()
            taken = rest[: PIECE_BYTES - self._size]
            # Blocks are taken as they are wherever that is possible.
            self._blocks.append(block if len(taken) == len(block) else bytes(taken))
            self._size += len(taken)
            rest = rest[len(taken) :]

    def rest(self) -> bytes:
        """Return what is in it, and be empty."""
        whole = self._blocks[0] if len(self._blocks) == 1 else b"".join(self._blocks)
        self._blocks, self._size = [], 0
        return whole


def folder_of(session_id: str) -> str:
    """Return the prefix of all that a session has in staging."""
    return f"{PREFIX}{session_id}/"


def piece_keys(session_id: str, chunk: Chunk) -> Iterator[str]:
    """Yield the keys of a chunk's pieces in order."""
    start = f"{folder_of(session_id)}{chunk.index:07d}-{chunk.token}-"
    last = -(-chunk.size // PIECE_BYTES) - 1
    for number in range(last):
        yield f"{start}{number:06d}"
    checksum = binascii.a2b_base64(chunk.checksum).hex()
    yield f"{start}{last:06d}-{chunk.size}-{checksum}"


def _chunk(index: int, token: str, size: int, checksum: str, algorithm: str) -> Chunk | None:
    try:
        digest = bytes.fromhex(checksum)
    except ValueError:
        return None
    if not size or len(digest) != ALGORITHMS[algorithm].digest_size:
        return None
    value = binascii.b2a_base64(digest, newline=False).decode("ascii")
    return Chunk(index, size, value, token)
