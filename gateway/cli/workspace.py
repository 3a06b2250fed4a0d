"""The data directory of `gateway dev`: who may use it, and what it remembers between two starts.

It holds the servers' data and one file, readable by its owner only, with the secrets and ports of
the last start, so that addresses, keys and the token stay what they were. Whoever can read the
directory can read the uploads; there is no protection beyond the file modes.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import orjson

from gateway.errors import Conflict, InvalidRequest

_STATE = "dev.json"
_LOCK = "dev.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class DevState:
    """What stays the same from one start to the next; a port of 0 is not chosen yet."""

    token: str
    access_key_id: str
    secret_access_key: str
    redis_password: str
    port: int = 0
    redis_port: int = 0
    s3_port: int = 0

    @classmethod
    def new(cls) -> Self:
        """Make secrets for a directory that has none."""
        return cls(
            token=secrets.token_urlsafe(24),
            access_key_id="GW" + secrets.token_hex(9).upper(),
            secret_access_key=secrets.token_urlsafe(30),
            redis_password=secrets.token_urlsafe(24),
        )


@contextmanager
def claimed(data_dir: Path) -> Iterator[None]:
    """Hold the directory, made if need be, for this process alone.

    Raises Conflict `data_dir_in_use` while another `gateway dev` has it, and InvalidRequest
    `invalid_data_dir` where it cannot be made or written.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidRequest(
            f"{data_dir} cannot be used as the data directory: {error.strerror}.",
            code="invalid_data_dir",
            hint="Choose a directory that you may write to: gateway dev --data-dir DIR.",
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"Another `gateway dev` is running on {data_dir}{_holder(lock)}.",
                code="data_dir_in_use",
                hint="Use that one, end it, or choose another directory with --data-dir.",
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        # The lock goes with the descriptor; the file stays, or two could lock different files.
        os.close(lock)


def read_state(data_dir: Path) -> DevState:
    """Return what the directory remembers, or new secrets where it is new.

    Raises InvalidRequest `invalid_data_dir` for a damaged file: new keys would lock the data out.
    """
    path = data_dir / _STATE
    try:
        return DevState(**orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return DevState.new()
    except (OSError, TypeError, orjson.JSONDecodeError) as error:
        raise InvalidRequest(
            f"{path} cannot be read: {error}.",
            code="invalid_data_dir",
            hint="Restore it, or delete it to begin with new keys and a new token.",
        ) from error


def write_state(data_dir: Path, state: DevState) -> None:
    """Replace the file in one step; nobody else may read it at any moment."""
    new = data_dir / f"{_STATE}.new"
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(orjson.dumps(asdict(state), option=orjson.OPT_INDENT_2))
        file.flush()
        os.fsync(file.fileno())
    new.replace(data_dir / _STATE)


def _holder(lock: int) -> str:
    written = os.pread(lock, 32, 0).decode(errors="replace")
    return f" (process {written})" if written.isdecimal() else ""
