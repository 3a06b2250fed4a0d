"""The file being sent: opened once, read in bounded blocks in threads, watched for change.

All reads go through one descriptor, so that a file renamed over it in mid-upload does no harm. A
file that is written to is noticed by its size and modification time after every read; where those
cannot be trusted (`doubtful`), `digest` has to be repeated before the upload is completed.
"""

import mimetypes
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self
from unicodedata import category

from gateway.core.checksums import ALGORITHMS
from gateway.errors import Conflict, InvalidRequest

BLOCK: Final = 1 << 20
"""Bytes of one read when sending. Measured: whole parts in memory take no less processor time."""

_DIGEST_BLOCK: Final = 1 << 18
"""Bytes of one read when hashing: small enough to stay in the processor's cache."""

# File systems stamp times no finer than the kernel's tick (up to 10 ms), older ones whole seconds.
_TICK_NS: Final = 50_000_000
_SECOND_NS: Final = 1_000_000_000


class SourceFile:
    """An open regular file. `size` is in bytes; `name` is its last path component, as text.

    Reading methods block: run them in a thread. All raise Conflict (`file_changed`) as soon as
    the file is no longer the one that was opened, and InvalidRequest (`file_unreadable`).
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.name = _clean_name(path)
        self._fd = descriptor
        self._opened = os.fstat(descriptor)
        age = time.time_ns() - self._opened.st_mtime_ns
        coarse = self._opened.st_mtime_ns % _SECOND_NS == 0
        self._fresh = age < (2 * _SECOND_NS if coarse else _TICK_NS)
        self._stopped = False
        self.size = self._opened.st_size

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file. Raises InvalidRequest (`file_unreadable`) for all but a regular file."""
        try:
            # A named pipe would block here without O_NONBLOCK; to regular files it means nothing.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        try:
            _require_regular(path, descriptor)
            return cls(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def stop(self) -> None:
        """Make reads that are under way in threads end soon, with RuntimeError."""
        self._stopped = True

    def close(self) -> None:
        """Close the file; a second time does nothing. No thread may be reading any more.

        A read after closing could meet another file under the same descriptor.
        """
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def modified_ns(self) -> int:
        """When the file was last modified as it was opened, in nanoseconds since 1970."""
        return self._opened.st_mtime_ns

    @property
    def content_type(self) -> str | None:
        """The media type that the name suggests."""
        return mimetypes.guess_type(self.name)[0]

    @property
    def doubtful(self) -> bool:
        """Whether size and modification time may hide a change that happened since opening.

        So it is when the file was written to just before it was opened (within one tick of the
        file system's clock), and when something else about it changed, perhaps the modification
        time itself, set back.
        """
        return self._fresh or os.fstat(self._fd).st_ctime_ns != self._opened.st_ctime_ns

    def check(self) -> None:
        """Raise Conflict (`file_changed`) unless size and modification time are as at opening."""
        now = os.fstat(self._fd)
        if (now.st_size, now.st_mtime_ns) != (self._opened.st_size, self._opened.st_mtime_ns):
            raise self.changed()

    def changed(self) -> Conflict:
        """Return the error for a file that was written to meanwhile."""
        return Conflict(
            f"{self.path} changed while it was being uploaded.",
            code="file_changed",
            hint="Wait until nothing writes to the file, and start again: "
            "what was sent of the old content is not used for the new.",
        )

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`."""
        with self._errors():
            block = os.pread(self._fd, length, offset)
            while len(block) < length:
                more = os.pread(self._fd, length - len(block), offset + len(block))
                if not more:
                    raise self.changed()
                block += more
        return block

    def digest(self, offset: int, length: int, algorithms: tuple[str, ...]) -> tuple[str, ...]:
        """Return the base64 checksums of that piece of the file, one for each algorithm."""
        hashers = [ALGORITHMS[name].new() for name in algorithms]
        buffer = memoryview(bytearray(min(_DIGEST_BLOCK, length)))
        position, end = offset, offset + length
        with self._errors():
            while position < end:
                if self._stopped:
                    raise RuntimeError("The file is being closed.")
                count = os.preadv(self._fd, [buffer[: min(len(buffer), end - position)]], position)
                if not count:
                    raise self.changed()
                for hasher in hashers:
                    hasher.update(buffer[:count])
                position += count
            self.check()
        return tuple(hasher.value() for hasher in hashers)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _unreadable(self.path, error) from error


def _clean_name(path: Path) -> str:
    # Sessions take UTF-8 names without controls and backslashes; a file system takes any bytes.
    text = os.fsencode(path.name or path.resolve().name).decode("utf-8", "replace")
    # Cc: controls; Zl, Zp: line breaks.
    return "".join(
        "_" if char == "\\" or category(char) in {"Cc", "Zl", "Zp"} else char for char in text
    )


def _require_regular(path: Path, descriptor: int) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise InvalidRequest(
            f"{path} is not a regular file.",
            code="file_unreadable",
            hint="Folders, pipes and devices cannot be uploaded; give their files.",
        )


def _unreadable(path: Path, error: Exception) -> InvalidRequest:
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return InvalidRequest(
        f"{path} cannot be read: {why}.",
        code="file_unreadable",
        hint="Check that the file exists and that you may read it.",
    )
