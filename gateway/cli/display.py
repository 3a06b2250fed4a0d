"""Shows a transfer that is under way: a bar on a terminal, a plain line now and then elsewhere."""

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from gateway.cli.remote import human_size, human_time, say
from gateway.client import Progress

REFRESH: Final = 0.1
PLAIN_EVERY: Final = 10.0
_SPEED_OVER: Final = 8.0
"""Seconds over which speed is averaged, so that it neither jumps nor lags."""


class Speed:
    """Bytes a second over the last seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, moved: int) -> float:
        """Take in how many bytes have moved in all; return the speed."""
        now = self._clock()
        self._samples.append((now, moved))
        while len(self._samples) > 2 and now - self._samples[0][0] > _SPEED_OVER:  # noqa: PLR2004 - a speed needs two samples
            self._samples.popleft()
        then, before = self._samples[0]
        return (moved - before) / (now - then) if now > then else 0.0


def describe(progress: Progress, speed: float) -> str:
    """Return the figures in words: bytes, speed and time left, or what is being waited for."""
    done, size = progress.shown_bytes, progress.size
    figures = f"{human_size(done)} of {human_size(progress.read_bytes if size is None else size)}"
    if size is None:
        figures += " so far"
    if progress.phase in {"uploading", "downloading"}:
        if progress.trouble:
            return f"{figures}, waiting"
        if speed > 0:
            figures += f", {human_size(speed)}/s"
            if size is not None and size > done:
                figures += f", {human_time((size - done) / speed)} left"
        return f"{figures}, through the gateway" if progress.relayed else figures
    if progress.phase == "verifying" and progress.fraction is not None:
        return f"verifying, {progress.fraction:.0%}"
    if progress.phase == "done":
        return f"{human_size(size or 0)}, done"
    return progress.phase


@asynccontextmanager
async def shown(current: Callable[[], Progress], *, quiet: bool) -> AsyncIterator[None]:
    """Show what `current` returns until the block ends."""
    if quiet:
        yield
        return
    show = _bar if sys.stderr.isatty() else _lines
    task = asyncio.create_task(show(current))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _bar(current: Callable[[], Progress]) -> None:
    console = Console(stderr=True)
    speed = Speed()
    bar = Bar(
        SpinnerColumn(),
        TextColumn("{task.fields[name]}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[percent]}"),
        TextColumn("{task.fields[figures]}", markup=False),
        console=console,
        expand=True,
        refresh_per_second=1 / REFRESH,
    )
    logger = logging.getLogger("gateway.client")
    plain = logger.handlers[:]
    # Lines written past the console would tear the bar apart.
    logger.handlers[:] = [
        RichHandler(console=console, show_time=False, show_level=False, show_path=False)
    ]
    try:
        with bar:
            task = bar.add_task("", name="", figures="", percent="", total=None)
            try:
                while True:
                    _update(bar, task, current(), speed)
                    await asyncio.sleep(REFRESH)
            finally:
                # The bar stays on the screen as it was at the end.
                _update(bar, task, current(), speed)
    finally:
        logger.handlers[:] = plain


def _update(bar: Bar, task: TaskID, progress: Progress, speed: Speed) -> None:
    # An empty file is done as soon as it is done; a bar of no length would stay at 0 %.
    total, done = (progress.size, progress.shown_bytes) if progress.size != 0 else (1, 0)
    if progress.phase == "done" and total is not None:
        done = total
    bar.update(
        task,
        total=total,
        completed=done,
        # Of a stream nobody knows how far it is: its bar only moves.
        percent="" if total is None else f"{done / total:>4.0%}",
        name=progress.name,
        figures=describe(progress, speed.add(progress.moved_bytes)),
    )


async def _lines(current: Callable[[], Progress]) -> None:
    speed = Speed()
    last = ""
    while True:
        await asyncio.sleep(PLAIN_EVERY)
        progress = current()
        line = f"{progress.name}: {describe(progress, speed.add(progress.moved_bytes))}"
        if line != last:
            say(line)
        last = line
