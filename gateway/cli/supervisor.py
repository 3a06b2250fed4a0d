"""Keeps a number of worker processes running that share the listening sockets.

The parent holds no event loop and no threads: it forks, waits and forwards signals. A worker that
ends by itself is started again, later each time it ends soon; one that does not drain in time is
killed. Workers notice the end of their parent by a pipe, whatever ended it, and drain then too.
It promises nothing about requests that a crashed worker was serving.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import structlog

log = structlog.get_logger(__name__)

WATCHED: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})

Work = Callable[[int], None]
"""What a worker does: it gets a descriptor that reaches its end when the parent is gone."""


@dataclass(frozen=True, slots=True)
class SupervisorOptions:
    """Times in seconds. A worker that lived for `settled` counts as healthy again.

    With `reload_on_hangup`, SIGHUP is not the end, but handed on to the workers.
    """

    workers: int
    drain_timeout: float
    first_pause: float = 0.5
    longest_pause: float = 30.0
    settled: float = 60.0
    reload_on_hangup: bool = False


@dataclass(slots=True)
class _Slot:
    """One of the workers: its process, or the time of its next start."""

    number: int
    pid: int = 0
    started: float = 0.0
    start_at: float = 0.0
    failures: int = 0


class Supervisor:
    """Runs `work` in each worker process until told to stop by SIGTERM, SIGINT or SIGHUP.

    A worker whose parent reloads on SIGHUP ignores that signal until it has its own handler.
    """

    def __init__(
        self, work: Work, options: SupervisorOptions, *, at_stop: Callable[[], None]
    ) -> None:
        """`at_stop` lets go of what the parent holds only for workers that start later."""
        self._at_stop = at_stop
        self._work = work
        self._options = options
        self._slots = [_Slot(number) for number in range(1, options.workers + 1)]
        self._no_stops = {signal.SIGCHLD}
        if options.reload_on_hangup:
            self._no_stops.add(signal.SIGHUP)
        self._signals = _Signals()
        self._lifeline = os.pipe()

    def run(self) -> int:
        """Return the process's exit code: 0 after a drain, 1 where a worker had to be killed."""
        with self._signals:
            try:
                while not self._is_told_to_stop():
                    pass
                return self._drain()
            finally:
                for end in self._lifeline:
                    os.close(end)

    def _is_told_to_stop(self) -> bool:
        now = time.monotonic()
        for slot in self._slots:
            if not slot.pid and slot.start_at <= now:
                self._start(slot)
        starts = [slot.start_at - now for slot in self._slots if not slot.pid]
        received = self._signals.wait(max(0.0, min(starts, default=3600.0)))
        if self._options.reload_on_hangup and signal.SIGHUP in received:
            self._send(signal.SIGHUP)
        if received - self._no_stops:
            return True
        self._reap(restart=True)
        return False

    def _start(self, slot: _Slot) -> None:
        # What is buffered would be written by both.
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal that came to the copy before it has its own handlers would be taken for ours.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        try:
            pid = os.fork()
            if pid == 0:
                self._become_worker(before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        slot.pid, slot.started = pid, time.monotonic()
        log.info("worker started", worker=slot.number, pid=pid)

    def _become_worker(self, before: set[int]) -> NoReturn:
        code = 1
        try:
            self._signals.leave_to_others()
            os.close(self._lifeline[1])
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._work(self._lifeline[0])
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            log.exception("worker failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # Nothing of the parent's may run on in the copy.
            os._exit(code)

    def _reap(self, *, restart: bool) -> None:
        for slot in self._slots:
            if not slot.pid:
                continue
            pid, status = os.waitpid(slot.pid, os.WNOHANG)
            if pid == 0:
                continue
            now = time.monotonic()
            slot.failures = 0 if now - slot.started >= self._options.settled else slot.failures + 1
            pause = min(
                self._options.first_pause * 2 ** min(slot.failures, 16) / 2,
                self._options.longest_pause,
            )
            slot.pid, slot.start_at = 0, now + pause
            if restart:
                code = os.waitstatus_to_exitcode(status)
                log.error("worker ended", worker=slot.number, pid=pid, code=code, again_in=pause)

    def _drain(self) -> int:
        self._at_stop()
        self._send(signal.SIGTERM)
        deadline = time.monotonic() + self._options.drain_timeout
        while any(slot.pid for slot in self._slots):
            left = deadline - time.monotonic()
            if left <= 0:
                log.error("workers killed", reason="not drained in time")
                self._send(signal.SIGKILL)
                for slot in self._slots:
                    if slot.pid:
                        os.waitpid(slot.pid, 0)
                return 1
            if self._signals.wait(left) - self._no_stops:
                # Asked a second time: the workers give up what they still serve.
                self._send(signal.SIGTERM)
            self._reap(restart=False)
        return 0

    def _send(self, number: signal.Signals) -> None:
        for slot in self._slots:
            if slot.pid:
                with suppress(ProcessLookupError):
                    os.kill(slot.pid, number)


class _Signals:
    """The watched signals as something to wait for; none is lost between a look and a wait."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        signal.set_wakeup_fd(self._writing)
        for number in WATCHED:
            # The handler itself does nothing: the number arrives in the pipe.
            self._before[number] = signal.signal(number, lambda *_: None)

    def __exit__(self, *_: object) -> None:
        self.leave_to_others()

    def leave_to_others(self) -> None:
        """Put everything back as it was."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reading)
        os.close(self._writing)

    def wait(self, seconds: float) -> set[int]:
        """Return the signals that came, at once or within the time."""
        if not select.select([self._reading], [], [], seconds)[0]:
            return set()
        return set(os.read(self._reading, 4096))
