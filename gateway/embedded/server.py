"""What the embedded servers have in common: a data directory, one process, start and end."""

import abc
import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from gateway.embedded.ports import is_free
from gateway.embedded.process import ServerProcess
from gateway.errors import Conflict, Unavailable

# A server killed with its parent needs a moment to let go of its directory.
LOCK_SECONDS = 5.0
POLL_SECONDS = 0.02
# Somebody may take a port between our choice and the server's bind.
START_ATTEMPTS = 3
# A log that has grown beyond this is set aside, once, when the server starts.
LOG_BYTES = 8 * 1024 * 1024
LOG_TAIL_LINES = 5


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server once: its command, what it reads, and the ports it will bind."""

    command: Sequence[str]
    ports: Sequence[int]
    standard_input: bytes = b""


class EmbeddedServer(abc.ABC):
    """A server on loopback whose data outlive it: `async with`, or `start()` and `stop()`.

    `start()` after `stop()`, `kill()` or a crash comes back with the same data, and with the same
    port unless somebody took it. Only one server at a time has a data directory.
    """

    name: ClassVar[str]
    ready_seconds: ClassVar[float]
    stop_seconds: ClassVar[float]

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        self._process: ServerProcess | None = None

    @abc.abstractmethod
    def _prepare(self) -> Launch:
        """Choose ports, write configuration files into `data_dir`, and say how to start."""

    @abc.abstractmethod
    async def _is_ready(self) -> bool:
        """Whether the server serves reads and writes. Answers within two seconds."""

    def _clean_up(self) -> None:  # noqa: B027 - most servers leave nothing behind.
        """Remove what an ended server leaves outside its data directory."""

    @property
    def log(self) -> Path:
        """What the server printed."""
        return self.data_dir / f"{self.name}.log"

    @property
    def running(self) -> bool:
        """Whether its process is there, paused or not."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """The process id of the latest start; raises Conflict before the first."""
        return self._started().pid

    async def start(self) -> None:
        """Start it and return when it serves reads and writes.

        Raises Unavailable: `embedded_missing` (no wheel), `embedded_failed` (it exited, or was not
        ready within `ready_seconds`); Conflict: `embedded_running`, `embedded_directory_in_use`.
        """
        if self.running:
            raise Conflict(f"{self.name} is running already.", code="embedded_running")
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with self._directory_lock() as lock:
            try:
                await self._start(lock)
            except BaseException:
                await self.kill()
                raise

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL after `stop_seconds`. Does nothing if it is not running."""
        if self._process is not None:
            await self._process.terminate(self.stop_seconds)
            self._clean_up()

    async def kill(self) -> None:
        """Kill it (SIGKILL) and wait for its end, as a crash would. Does nothing if it is gone."""
        if self._process is not None:
            await self._process.kill()
            self._clean_up()

    def pause(self) -> None:
        """Stop it from running (SIGSTOP): connections open, nothing answers."""
        self._started().send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again after `pause()`."""
        self._started().send(signal.SIGCONT)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _started(self) -> ServerProcess:
        if self._process is None:
            raise Conflict(f"{self.name} has not been started.", code="embedded_not_running")
        return self._process

    async def _start(self, lock: int) -> None:
        clock = asyncio.get_running_loop()
        deadline = clock.time() + self.ready_seconds
        for attempt in range(1, START_ATTEMPTS + 1):
            await self.kill()  # What is left of a start before this one, crashed perhaps.
            launch = self._prepare()
            self._set_log_aside()
            self._process = ServerProcess(
                launch.command,
                directory=self.data_dir,
                environment=_environment(self.data_dir),
                standard_input=launch.standard_input,
                log=self.log,
                lock=lock,
            )
            while self._process.running:
                if await self._is_ready():
                    return
                if clock.time() >= deadline:
                    raise self._failed(f"was not ready within {self.ready_seconds:g} s")
                await asyncio.sleep(POLL_SECONDS)
            if attempt == START_ATTEMPTS or all(is_free(port) for port in launch.ports):
                raise self._failed(f"exited with code {self._process.exit_code}")

    def _failed(self, what: str) -> Unavailable:
        last = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return Unavailable(
            f"The embedded {self.name} server {what}.",
            code="embedded_failed",
            hint="Its last words: " + " | ".join(last),
            details={"log": str(self.log)},
        )

    def _set_log_aside(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))

    @contextlib.asynccontextmanager
    async def _directory_lock(self) -> AsyncIterator[int]:
        """Hold the data directory's lock, which the server inherits and keeps when we let go."""
        clock = asyncio.get_running_loop()
        deadline = clock.time() + LOCK_SECONDS
        lock = os.open(self.data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not _locked(lock):
                if clock.time() >= deadline:
                    raise Conflict(
                        f"Another {self.name} server runs in {self.data_dir}.",
                        code="embedded_directory_in_use",
                        hint="End the other one, or choose another data directory.",
                    )
                await asyncio.sleep(POLL_SECONDS)
            yield lock
        finally:
            os.close(lock)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _environment(home: Path) -> dict[str, str]:
    """Hand on very little: credentials or settings meant for others would change the server.

    SeaweedFS for one takes AWS_ACCESS_KEY_ID for an administrator, and reads files under HOME.
    """
    kept = {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ}
    return {**kept, "HOME": str(home), "LANG": "C.UTF-8"}
