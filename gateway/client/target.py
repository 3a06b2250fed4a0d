"""The file being written by a download: filled in order, hashed on the way, named only at the end.

Until it is verified, the bytes lie beside their destination under a name ending in `.part` that
holds the session's id, so that a later try can go on from there. What such a file holds is hashed
again before it is built upon; and the checksum of the whole decides in the end.

`TargetStream` is the same for bytes that go on to somebody else at once, and cannot be taken back.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol, Self

from gateway.client.identity import is_at
from gateway.core.checksums import ALGORITHMS
from gateway.errors import Conflict, GatewayError, StorageFull

_BLOCK: Final = 1 << 20
_LOCK_TRIES: Final = 10


class Writable(Protocol):
    """A file-like object in binary mode."""

    def write(self, data: Any, /) -> int | None:
        """Write some bytes, and return how many; None for all."""


class _Counted:
    """Counts and hashes what a target has taken."""

    def __init__(self, names: Sequence[str]) -> None:
        self.position = 0
        self._names = tuple(names)
        self._hashers = [ALGORITHMS[name].new() for name in names]

    def checksums(self) -> dict[str, str]:
        """Return the base64 checksums of all bytes so far, by algorithm."""
        values = (hasher.value() for hasher in self._hashers)
        return dict(zip(self._names, values, strict=True))

    def _take(self, data: bytes) -> None:
        for hasher in self._hashers:
            hasher.update(data)
        self.position += len(data)

    def _forget(self) -> None:
        self.position = 0
        self._hashers = [ALGORITHMS[name].new() for name in self._names]


class TargetStream(_Counted):
    """Somebody else's file-like object; it stays open. `append` blocks for as long as its write."""

    def __init__(self, writer: Writable, names: Sequence[str]) -> None:
        super().__init__(names)
        self._writer = writer

    def append(self, data: bytes) -> None:
        """Write the next bytes. Raises Conflict (`cannot_write`) and StorageFull (`disk_full`)."""
        view = memoryview(data)
        try:
            while view:
                count = self._writer.write(view)
                view = view[len(view) if count is None else count :]
        except (OSError, ValueError) as error:
            raise _cannot_write("The output", error) from error
        self._take(data)


class TargetFile(_Counted):
    """A locked `.part` file. All methods block: call them in a thread.

    Raises Conflict (`file_exists`, `download_running`, `cannot_write`) and StorageFull
    (`disk_full`).
    """

    def __init__(
        self, destination: Path, part: Path, descriptor: int, names: Sequence[str]
    ) -> None:
        super().__init__(names)
        self.destination = destination
        self._part = part
        self._fd = descriptor
        self._stopped = False
        # A descriptor must not be closed, and perhaps be another file's, while a thread writes.
        self._busy = Lock()

    @classmethod
    def open(cls, destination: Path, session_id: str, names: Sequence[str], *, force: bool) -> Self:
        """Open what an earlier try left, or a new file; `names` are the checksums to compute."""
        if not force and destination.exists():
            raise _exists(destination)
        part = destination.with_name(f"{destination.name}.{session_id[:12]}.part")
        with _errors(part):
            for _ in range(_LOCK_TRIES):
                descriptor = _open_locked(part, destination)
                # Whoever held the lock may have given the file its name in between, and it would
                # be the finished one that is written to.
                if is_at(descriptor, part):
                    return cls(destination, part, descriptor, names)
                os.close(descriptor)
                if not force and destination.exists():
                    raise _exists(destination)
        raise _running(destination)

    def resume(self, limit: int, on_block: Callable[[int], None]) -> None:
        """Take over what is there, up to `limit` bytes; `on_block` hears of each block's size."""
        with self._writing():
            while self.position < limit and not self._stopped:
                block = os.pread(self._fd, min(_BLOCK, limit - self.position), self.position)
                if not block:
                    break
                self._take(block)
                on_block(len(block))
            if not self._stopped:
                os.ftruncate(self._fd, self.position)

    def restart(self) -> None:
        """Throw away everything."""
        with self._writing():
            os.ftruncate(self._fd, 0)
            self._forget()

    def append(self, data: bytes) -> None:
        """Write the next bytes."""
        with self._writing():
            view = memoryview(data)
            position = self.position
            while view:
                count = os.pwrite(self._fd, view, position)
                view, position = view[count:], position + count
            self._take(data)

    def publish(self, *, force: bool) -> None:
        """Give the finished file its name; only `force` replaces another file."""
        with self._writing():
            os.fsync(self._fd)
            if force:
                self._part.replace(self.destination)
            else:
                _rename_new(self._part, self.destination)
        self.close()

    def discard(self) -> None:
        """Delete what was written, and close."""
        with self._writing():
            self._part.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the file; what it holds stays for the next try."""
        # Hashing what is there already may take minutes.
        self._stopped = True
        with self._busy:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._busy, _errors(self._part):
            if self._fd < 0:
                raise RuntimeError("The file is closed.")
            yield


def _open_locked(part: Path, destination: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(part, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise _running(destination) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


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


def _running(destination: Path) -> Conflict:
    return Conflict(
        f"Another process is downloading to {destination}.",
        code="download_running",
        hint="Wait for it to end, or give another path with -o.",
    )


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
        raise _cannot_write(str(path), error) from error


def _cannot_write(what: str, error: OSError | ValueError) -> GatewayError:
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFull(
            "The disk has no room for the file.",
            code="disk_full",
            hint="Free some space, and start the download again: it goes on where it was.",
            retryable=False,
        )
    return Conflict(
        f"{what} cannot be written: {getattr(error, 'strerror', None) or error}.",
        code="cannot_write",
        hint="Check the folder and its permissions, or give another path with -o.",
    )
