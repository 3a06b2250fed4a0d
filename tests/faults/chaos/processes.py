"""One gateway of the run as a process: started, signalled, measured, and started again."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import aiohttp

from gateway.embedded import free_port
from gateway.embedded.process import ServerProcess

DRAIN_SECONDS = 4
_PROGRAM = Path(__file__).with_name("hurried.py")
# What a gateway may take beyond its drain, busy as the machine is.
_MARGIN_SECONDS = 12
_ANSWER_SECONDS = 5


class Gateway:
    """One `gateway serve`, started again in the same place with the same log."""

    def __init__(self, number: int, home: Path, environment: dict[str, str], life: float) -> None:
        self.number = number
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = home / f"gateway-{number}.log"
        self.resident: list[int] = []
        self._home = home
        self._life = life
        self._environment = environment | {"GW_PORT": self.url.rpartition(":")[2]}
        self._process: ServerProcess | None = None
        self._came_up = False

    def start(self) -> None:
        """Start it, without waiting for anything."""
        self._came_up = False
        lock = os.open(self._home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._process = ServerProcess(
                [sys.executable, str(_PROGRAM), str(self._life), "serve"],
                directory=self._home,
                environment=self._environment,
                standard_input=b"",
                log=self.log,
                lock=lock,
            )
        finally:
            os.close(lock)

    async def is_ready(self) -> bool:
        """Whether it says that it is ready, within seconds."""
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as http,
                http.get(f"{self.url}/readyz") as answer,
            ):
                self._came_up |= answer.ok
                return answer.ok
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def has_come_up(self) -> bool:
        """Whether it has been ready since it was started, however it is now."""
        return self._came_up or await self.is_ready()

    def send(self, number: signal.Signals) -> None:
        """Signal it."""
        assert self._process is not None
        self._process.send(number)

    async def kill(self) -> None:
        """SIGKILL it."""
        if self._process is not None:
            await self._process.kill()

    async def stop(self) -> int | None:
        """SIGTERM it, and return its exit code; one that does not drain in time is killed."""
        if self._process is None:
            return None
        await self._process.terminate(DRAIN_SECONDS + _MARGIN_SECONDS)
        return self._process.exit_code

    def measure(self) -> int:
        """Return its resident memory in bytes, 0 for a process that is gone, and remember it."""
        with suppress(FileNotFoundError, ProcessLookupError):
            assert self._process is not None
            status = Path(f"/proc/{self._process.pid}/status").read_text()
            for line in status.splitlines():
                if line.startswith("VmRSS:"):
                    self.resident.append(int(line.split()[1]) * 1024)
                    return self.resident[-1]
        return 0
