"""The checksum pass: whether the stored object is what the client said it would be (law 11).

Compares the client's word with what the store reports for the whole object, and reads the object
back where the store reports nothing to compare with. It decides nothing but that: the completer
moves the session.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import md5

from gateway.core.checksums import ALGORITHMS, Hasher
from gateway.core.model import (
    Part,
    Problem,
    StorageLimits,
    StoredObject,
    UploadSession,
    VerifiedBy,
)
from gateway.core.ports import ObjectStore

STAMP = "gw-session"
"""The metadata name under which the object carries its session id (law 1)."""

_PARTS_AT_A_TIME = 1000
_HINT = "The object is kept in quarantine. Upload the file again in a new session."


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who vouches for the object, or the problem found; `checksums` are those known to be true."""

    verified_by: VerifiedBy | None
    checksums: dict[str, str]
    problem: Problem | None = None


async def combined(session: UploadSession, parts: Sequence[Part]) -> str | None:
    """Return the whole-object checksum that the client's part checksums make, if they make one."""
    algorithm = ALGORITHMS[session.checksum_algorithm]
    if not algorithm.combinable or not parts:
        return None
    stretches: list[tuple[str, int]] = []
    for start in range(0, len(parts), _PARTS_AT_A_TIME):
        # 10,000 parts at once would hold up everybody else for 15 ms.
        await asyncio.sleep(0)
        stretch = parts[start : start + _PARTS_AT_A_TIME]
        words = [(part.checksum, part.size) for part in stretch if part.checksum is not None]
        if len(words) < len(stretch):
            return None
        stretches.append((algorithm.combine(words), sum(size for _, size in words)))
    return algorithm.combine(stretches)


async def verify(
    session: UploadSession,
    parts: Sequence[Part],
    stored: StoredObject,
    *,
    objects: ObjectStore,
    limits: StorageLimits,
    on_progress: Callable[[int], Awaitable[None]],
) -> Verdict:
    """Compare the object with the client's word; `on_progress` hears of bytes read back so far.

    Raises what `ObjectStore.read` raises: an interrupted pass says nothing about the object.
    """
    problem = _compare_shape(session, parts, stored, limits)
    if problem:
        return Verdict(None, dict(stored.checksums), problem)

    # An object that was completed behind our back may consist of other parts than those known.
    known = parts if sum(part.size for part in parts) == stored.size else ()
    expected = {session.checksum.algorithm: session.checksum.value} if session.checksum else {}
    of_parts = await combined(session, known)
    if of_parts is not None:
        declared = expected.setdefault(session.checksum_algorithm, of_parts)
        if declared != of_parts:
            return Verdict(
                None,
                dict(stored.checksums),
                _mismatch("The parts' checksums contradict the file's."),
            )
    by_part = of_parts is None and known and all(part.checksum is not None for part in known)

    actual = dict(stored.checksums)
    unread = [name for name in expected if name not in actual]
    if unread or by_part:
        reader = _ReadBack(session.checksum_algorithm, known if by_part else (), unread)
        async with aclosing(
            objects.read(stored.bucket, stored.key, if_match=stored.etag)
        ) as blocks:
            async for block in blocks:
                await on_progress(reader.update(block))
        if reader.size != stored.size:
            return Verdict(None, actual, _mismatch("The object ends early when it is read back."))
        actual |= reader.values()
        if reader.wrong_part is not None:
            return Verdict(None, actual, _mismatch(f"Part {reader.wrong_part} holds other bytes."))

    for name, value in expected.items():
        if actual[name] != value:
            return Verdict(None, actual, _mismatch(f"The {name} of the object is another."))
    return Verdict(_voucher(session, known if expected or by_part else ()), actual)


def _voucher(session: UploadSession, vouched: Sequence[Part]) -> VerifiedBy:
    if session.checksum:
        return VerifiedBy.CLIENT_FILE
    if any(part.relayed for part in vouched):
        return VerifiedBy.GATEWAY
    return VerifiedBy.CLIENT_PARTS if vouched else VerifiedBy.STORE


def _compare_shape(
    session: UploadSession, parts: Sequence[Part], stored: StoredObject, limits: StorageLimits
) -> Problem | None:
    if stored.metadata.get(STAMP) != session.session_id:
        return Problem("object_replaced", "Another object lies under the key now.", _HINT)
    if session.size is not None and stored.size != session.size:
        return Problem(
            "size_mismatch", f"The object has {stored.size} bytes, not {session.size}.", _HINT
        )
    if session.object and session.object.etag != stored.etag:
        return Problem("object_replaced", "The object changed after it was completed.", _HINT)
    if limits.object_etag_is_md5_of_md5s and sum(part.size for part in parts) == stored.size:
        etag = _etag_of(parts)
        if etag is not None and etag != stored.etag:
            return Problem("etag_mismatch", "The object consists of other parts.", _HINT)
    return None


def _etag_of(parts: Sequence[Part]) -> str | None:
    try:
        digests = [bytes.fromhex(part.etag) for part in parts]
    except ValueError:
        return None
    if not digests or any(len(digest) != 16 for digest in digests):  # noqa: PLR2004 - MD5's size
        return None
    return f"{md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def _mismatch(message: str) -> Problem:
    return Problem("checksum_mismatch", message, _HINT)


class _ReadBack:
    """Hashes a stream of blocks, as a whole and, where `parts` are given, part by part."""

    def __init__(self, algorithm: str, parts: Sequence[Part], whole: Sequence[str]) -> None:
        self.size = 0
        self.wrong_part: int | None = None
        self._algorithm = ALGORITHMS[algorithm]
        self._whole: dict[str, Hasher] = {name: ALGORITHMS[name].new() for name in whole}
        self._parts = iter(parts)
        self._open_part()

    def update(self, block: bytes) -> int:
        """Take in a block of at most 1 MiB, small enough not to hold up the loop; return the total."""
        self.size += len(block)
        for hasher in self._whole.values():
            hasher.update(block)
        rest = memoryview(block)
        while rest and self._part:
            piece, rest = rest[: self._left], rest[self._left :]
            self._hasher.update(piece)
            self._left -= len(piece)
            self._close_full_part()
        return self.size

    def values(self) -> dict[str, str]:
        return {name: hasher.value() for name, hasher in self._whole.items()}

    def _open_part(self) -> None:
        self._part = next(self._parts, None)
        self._hasher = self._algorithm.new()
        self._left = self._part.size if self._part else 0
        self._close_full_part()

    def _close_full_part(self) -> None:
        if self._part is None or self._left:
            return
        if self._part.checksum != self._hasher.value() and self.wrong_part is None:
            self.wrong_part = self._part.number
        self._open_part()
