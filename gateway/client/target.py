"""The file being written by a download: filled in order, hashed on the way, named only at the end.

Until it is verified, the bytes lie beside their destination under a name ending in `.part` that
holds the session's id, so that a later try can go on from there. What such a file holds is hashed
again before it is built upon; and the checksum of the whole decides in the end.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from gateway.core.checksums import ALGORITHMS
from gateway.errors import Conflict, GatewayError, StorageFull

_BLOCK: Final = 1 << 20


class TargetFile:
    """A locked `.part` file. All methods block: call them in a thread, one at a time.

    Raises Conflict (`file_exists`, `download_running`, `cannot_write`) and StorageFull
    (`disk_full`).
    """

    def __init__(
        self, destination: Path, part: Path, descriptor: int, names: Sequence[str]
    ) -> None:
        self.destination = destination
        self.position = 0
        self._part = part
        self._fd = descriptor
        self._names = tuple(names)
        self._hashers = [ALGORITHMS[name].new() for name in names]

    @classmethod
    def open(cls, destination: Path, session_id: str, names: Sequence[str], *, force: bool) -> Self:
        """Open what an earlier try left, or a new file; `names` are the checksums to compute."""
        if not force and destination.exists():
            raise _exists(destination)
        part = destination.with_name(f"{destination.name}.{session_id[:12]}.part")
        with _errors(part):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(part, flags, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(descriptor)
                raise Conflict(
                    f"Another process is downloading to {destination}.",
                    code="download_running",
                    hint="Wait for it to end, or give another path with -o.",
                ) from error
            except BaseException:
                os.close(descriptor)
                raise
        return cls(destination, part, descriptor, names)

    def resume(self, limit: int, on_block: Callable[[int], None]) -> None:
        """Take over what is there, up to `limit` bytes; `on_block` hears of each block's size."""
        with _errors(self._part):
            while self.position < limit:
                block = os.pread(self._fd, min(_BLOCK, limit - self.position), self.position)
                if not block:
                    break
                self._take(block)
                on_block(len(block))
            os.ftruncate(self._fd, self.position)

    def restart(self) -> None:
        """Throw away everything."""
        with _errors(self._part):
            os.ftruncate(self._fd, 0)
        self.position = 0
        self._hashers = [ALGORITHMS[name].new() for name in self._names]

    def append(self, data: bytes) -> None:
        """Write the next bytes."""
        with _errors(self._part):
            view = memoryview(data)
            position = self.position
            while view:
                count = os.pwrite(self._fd, view, position)
                view, position = view[count:], position + count
        self._take(data)

    def checksums(self) -> dict[str, str]:
        """Return the base64 checksums of all bytes so far, by algorithm."""
        values = (hasher.value() for hasher in self._hashers)
        return dict(zip(self._names, values, strict=True))

    def publish(self, *, force: bool) -> None:
        """Give the finished file its name; only `force` replaces another file."""
        with _errors(self._part):
            os.fsync(self._fd)
            if force:
                self._part.replace(self.destination)
            else:
                _rename_new(self._part, self.destination)
        self.close()

    def discard(self) -> None:
        """Delete what was written, and close."""
        with _errors(self._part):
            self._part.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the file; what it holds stays for the next try."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self, data: bytes) -> None:
        for hasher in self._hashers:
            hasher.update(data)
        self.position += len(data)


def _rename_new(part: Path, destination: Path) -> None:
    try:
        # Unlike a rename, a link never replaces a file that has appeared meanwhile.
        destination.hardlink_to(part)
    except FileExistsError as error:
        raise _exists(destination) from error
    except OSError:
        # Some file systems have no hard links.
        if destination.exists():
            raise _exists(destination) from None
        part.rename(destination)
    else:
        part.unlink()


def _exists(destination: Path) -> Conflict:
    return Conflict(
        f"{destination} exists already.",
        code="file_exists",
        hint="Give another path with -o, or --force to replace it.",
    )


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> GatewayError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFull(
            "The disk has no room for the file.",
            code="disk_full",
            hint="Free some space, and start the download again: it goes on where it was.",
            retryable=False,
        )
    return Conflict(
        f"{path} cannot be written: {error.strerror}.",
        code="cannot_write",
        hint="Check the folder and its permissions, or give another path with -o.",
    )
