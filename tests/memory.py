"""How much memory a tree of processes takes, held down by the kernel where this machine lets us.

A cgroup (v1 or v2) makes the limit real: what does not fit is killed. Elsewhere the resident memory
of the processes is sampled, and the test compares.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
_ROOT = Path("/sys/fs/cgroup")
_EVERY = 0.05


@dataclass
class Watched:
    """What was seen: the most resident memory of all processes together, and how it was bounded."""

    limit: int
    peak: int = 0
    group: Path | None = None

    def __str__(self) -> str:
        bounded = "held down by a cgroup" if self.group else "sampled"
        return f"{self.peak / MIB:.0f} MiB at most, of {self.limit // MIB} allowed, {bounded}"


@asynccontextmanager
async def within(limit: int, pids: Sequence[int]) -> AsyncIterator[Watched]:
    """Hold processes within `limit` bytes together, and watch what they take."""
    watched = Watched(limit, group=_new_group(limit))
    if watched.group:
        for pid in pids:
            (watched.group / "cgroup.procs").write_text(str(pid))
    following = asyncio.create_task(_follow(watched, pids))
    try:
        yield watched
    finally:
        following.cancel()
        await asyncio.wait([following])
        if watched.group:
            for pid in pids:
                with suppress(OSError):
                    (watched.group.parent / "cgroup.procs").write_text(str(pid))
            watched.group.rmdir()


async def _follow(watched: Watched, pids: Sequence[int]) -> None:
    while True:
        watched.peak = max(watched.peak, sum(map(resident, pids)))
        await asyncio.sleep(_EVERY)


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes (proc(5), statm); 0 for one that is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _new_group(limit: int) -> Path | None:
    for parent, name in ((_ROOT / "memory", "memory.limit_in_bytes"), (_ROOT, "memory.max")):
        group = parent / f"gateway-test-{uuid.uuid4().hex[:8]}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / name).write_text(str(limit))
        except OSError:
            group.rmdir()
            continue
        return group
    return None
