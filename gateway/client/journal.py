"""What a client remembers of an unfinished upload, on its own disk.

One small file for each server and fingerprint: lines of JSON, each behind its own CRC, appended as
parts are stored. It is an aid, never the truth: with it lost the session is found again by its
fingerprint, and a damaged line is dropped together with all that follow it. Its one claim of
weight, that a part with a certain ETag was stored from bytes with a certain checksum, is written
only after the store has said so.

The file is locked while an upload uses it, so that two runs never work on one file at once. Where
no state directory can be written, uploads go on without a journal, after a warning.
"""

import fcntl
import logging
import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from threading import RLock
from typing import Any, Final, Self

import orjson

from gateway.client.identity import is_at
from gateway.errors import Conflict

MAX_AGE: Final = 60 * 24 * 3600
"""Seconds after which a journal is thrown away; sessions live days, never months."""

LOCK_PATIENCE: Final = 3.0
"""Seconds to wait for a lock: a run that was just killed may still be on its way out."""

_FORMAT: Final = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartRecord:
    """The store answered `etag` to a part whose checksum was `checksum`, in base64."""

    etag: str
    checksum: str


@dataclass(slots=True)
class Entry:
    """What a journal says: the session and its parts, by part number."""

    session_id: str
    parts: dict[int, PartRecord] = field(default_factory=dict)


def state_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where journals live: GW_STATE_DIR, else `gateway` under the user's state directory.

    The latter is XDG_STATE_HOME, by default ~/.local/state
    (https://specifications.freedesktop.org/basedir-spec/latest/).
    """
    if environ.get("GW_STATE_DIR"):
        return Path(environ["GW_STATE_DIR"])
    base = environ.get("XDG_STATE_HOME", "")
    # The specification says that relative paths are to be ignored.
    root = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return root / "gateway"


class Journal:
    """An open, locked journal. Its methods block for a write to disk: call them in threads.

    A call that comes after `close` writes nothing. `entry` is what was found when it was opened, None for nothing usable.
    """

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self.entry: Entry | None = None
        self._fd = descriptor
        # A descriptor must not be closed, and perhaps be another file's, while a thread writes.
        self._busy = RLock()

    @classmethod
    def open(cls, directory: Path, server: str, fingerprint: str) -> Self:
        """Open and lock the journal of this upload, and read what it holds.

        Raises Conflict (`upload_running`) when another process holds it. A directory that cannot
        be used gives a journal that keeps nothing, and a warning.
        """
        name = sha256(f"{server}\0{fingerprint}".encode()).hexdigest()[:40]
        path = directory / "uploads" / f"{name}.jsonl"
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _prune(path.parent)
            journal = cls(path, _open_locked(path))
        except OSError as error:
            _log.warning(
                "No journal can be kept in %s (%s): an interrupted upload will be found again "
                "by its fingerprint only.",
                path.parent,
                error.strerror,
            )
            return cls(path, None)
        try:
            journal.entry = journal._read()
        except BaseException:
            journal.close()
            raise
        return journal

    def start(self, session_id: str) -> None:
        """Forget what was, and note the session: before anything is sent to it."""
        self.entry = Entry(session_id)
        head = {"format": _FORMAT, "session_id": session_id}
        self._write(_line(head), truncate=True)

    def add(self, parts: Mapping[int, PartRecord]) -> None:
        """Note stored parts. The note survives the death of this process at once.

        A failure of the power may take it, which costs sending those parts again on stores that
        know no checksum; waiting for the disk after every part would cost more.

        Raises RuntimeError before `start`.
        """
        if self.entry is None:
            raise RuntimeError("A journal takes parts after its session.")
        self.entry.parts.update(parts)
        lines = (
            _line({"part": number, "etag": part.etag, "checksum": part.checksum})
            for number, part in parts.items()
        )
        self._write(b"".join(lines))

    def sync(self) -> None:
        """Wait until all notes are on the disk, and the file itself in its directory."""
        with self._busy:
            if self._fd is None:
                return
            # A copy, so that a slow disk holds up neither notes nor the end of the upload.
            copy = os.dup(self._fd)
        try:
            try:
                os.fsync(copy)
            finally:
                os.close(copy)
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            self._give_up(error)

    def remove(self) -> None:
        """Delete the journal, because its upload has come to an end, and close it."""
        with self._busy:
            if self._fd is not None:
                # While the lock is held, nobody else can have taken the file over.
                self.path.unlink(missing_ok=True)
            self.close()

    def close(self) -> None:
        """Let go of the journal; what it holds stays for the next run."""
        with self._busy:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _read(self) -> Entry | None:
        if self._fd is None:
            return None
        data = b""
        while block := os.read(self._fd, 1 << 20):
            data += block
        # What is appended later must not follow upon a torn line.
        entry, good = _parse(data)
        if good < len(data):
            _log.warning(
                "The journal %s is damaged%s.",
                self.path,
                " and is ignored" if entry is None else " at its end; the rest is used",
            )
            os.ftruncate(self._fd, good)
        return entry

    def _write(self, data: bytes, *, truncate: bool = False) -> None:
        with self._busy:
            if self._fd is None:
                return
            try:
                if truncate:
                    os.ftruncate(self._fd, 0)
                view = memoryview(data)
                while view:
                    view = view[os.write(self._fd, view) :]
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        _log.warning("The journal %s cannot be written: %s.", self.path, error.strerror)
        self.close()


def _open_locked(path: Path) -> int:
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A run that ended in between may have deleted the file that was locked here.
            if is_at(descriptor, path):
                os.fchmod(descriptor, 0o600)
                return descriptor
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise Conflict(
                    "Another process is uploading this very file to this server.",
                    code="upload_running",
                    hint="Wait for it to end, or stop it; then the upload can be resumed.",
                ) from error
            time.sleep(0.05)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _prune(directory: Path) -> None:
    oldest = time.time() - MAX_AGE
    for path in directory.glob("*.jsonl"):
        try:
            if path.stat().st_mtime < oldest:
                path.unlink()
        except FileNotFoundError:  # Another run was quicker.
            continue


def _line(note: dict[str, Any]) -> bytes:
    text = orjson.dumps(note)
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(data: bytes) -> tuple[Entry | None, int]:
    """Return the entry, and how many bytes of the data are sound."""
    entry: Entry | None = None
    good = 0
    for line in data.splitlines(keepends=True):
        note = _note(line)
        try:
            if note is None:
                break
            if entry is None:
                if note["format"] != _FORMAT:
                    break
                entry = Entry(str(note["session_id"]))
            elif "part" in note:
                record = PartRecord(str(note["etag"]), str(note["checksum"]))
                entry.parts[int(note["part"])] = record
        except (KeyError, TypeError, ValueError):
            break
        good += len(line)
    return entry, good


def _note(line: bytes) -> dict[str, Any] | None:
    crc, _, text = line.removesuffix(b"\n").partition(b" ")
    if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(text):
        return None
    note = orjson.loads(text)
    return note if isinstance(note, dict) else None
