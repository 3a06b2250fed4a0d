"""Where parts of a stream lie until the store has them: a temporary file without a name.

A part that fails on its way must be sent again, and a stream gives its bytes once. The file has
room for a fixed number of parts, used in turn, so neither memory nor disk grows with the stream;
when every place is taken, the producer waits. Nothing of it survives the process.
"""

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

from gateway.errors import Conflict, Corrupt, GatewayError, StorageFull


class Spool:
    """Room for `places` parts of up to `part_size` bytes.

    Reading and writing block: call them in threads. They raise StorageFull (`disk_full`) and
    Conflict (`cannot_write`).
    """

    def __init__(self, places: int, part_size: int, directory: Path | None = None) -> None:
        self._part_size = part_size
        self._directory = directory
        self._free = list(range(places))
        self._place_of: dict[int, int] = {}
        self._opening = Lock()
        self._fd = -1

    def take(self, number: int) -> None:
        """Give a part its place; there must be a free one."""
        self._place_of[number] = self._free.pop()

    def give_back(self, number: int) -> None:
        """Let others have the place of a part; nobody must read it any more."""
        self._free.append(self._place_of.pop(number))

    def write(self, number: int, position: int, data: bytes) -> None:
        """Write a piece of a part, `position` bytes from its start."""
        start = self._place_of[number] * self._part_size + position
        try:
            descriptor = self._open()
            view = memoryview(data)
            while view:
                count = os.pwrite(descriptor, view, start)
                view, start = view[count:], start + count
        except OSError as error:
            raise self._cannot(error) from error

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset` of the whole stream, all of one part."""
        index, position = divmod(offset, self._part_size)
        start = self._place_of[index + 1] * self._part_size + position
        try:
            block = os.pread(self._fd, length, start)
        except OSError as error:
            raise self._cannot(error) from error
        if len(block) < length:
            raise self.changed()
        return block

    def check(self) -> None:
        """Do nothing: no one else can reach the file, and bytes are compared by checksum."""

    def changed(self) -> GatewayError:
        """Return the error for a part that does not come back as it was written."""
        return Corrupt(
            "The temporary copy of a part is not what was written.",
            code="spool_damaged",
            hint="Look after the disk and the memory of this machine.",
        )

    def close(self) -> None:
        """Let go of the file, and thereby of all that it holds."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        with self._opening:
            if self._fd < 0:
                directory = self._directory or spool_directory()
                with tempfile.TemporaryFile(dir=directory, prefix="gateway-") as file:
                    self._fd = os.dup(file.fileno())
        return self._fd

    def _cannot(self, error: OSError) -> GatewayError:
        where = self._directory or spool_directory() or tempfile.gettempdir()
        hint = (
            f"Up to {self._part_size * (len(self._free) + len(self._place_of)) >> 20} MiB are "
            "needed; set TMPDIR to a folder with more room, or use smaller or fewer parts."
        )
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return StorageFull(
                f"There is no room in {where} for parts of the stream.",
                code="disk_full",
                hint=hint,
                retryable=False,
            )
        return Conflict(
            f"Parts of the stream cannot be kept in {where}: {error.strerror}.",
            code="cannot_write",
            hint=hint,
        )


def spool_directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return where parts are spooled: TMPDIR, else /var/tmp, else None for the system's choice.

    /tmp is in memory on many systems, and hundreds of MiB do not belong there
    (https://systemd.io/TEMPORARY_DIRECTORIES/).
    """
    if environ.get("TMPDIR"):
        return Path(environ["TMPDIR"])
    large = Path("/var/tmp")  # noqa: S108 - files there are made without a name
    return large if os.access(large, os.W_OK) else None
