"""A gateway to measure: `gateway dev` as its own processes on a throw-away data directory."""

import asyncio
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import Ratio, Row
from benchmarks.processes import cpu_seconds, serving

# Half of the time for which a gateway surely remembers its longest block (telemetry.Longest).
_LOOK_EVERY: Final = 30.0
_ANSWER_SECONDS: Final = 10.0

CLOSE_LOOK: Final = {"GW_LOOP_HEARTBEAT": "0.005"}
"""Environment of a gateway whose event loop is watched closely; that costs up to 2 % of a core."""
MAX_BLOCK_MS: Final = 20.0


class Deployment:
    """What `gateway dev --json` said, and how much processor time each process took so far."""

    def __init__(self, announced: Mapping[str, Any]) -> None:
        self.url: str = announced["url"]
        self.token: str = announced["token"]
        self.s3: dict[str, str] = announced["s3"]
        self.redis_url: str = announced["redis_url"]
        self._pids: dict[str, int] = announced["pids"]

    def cpu_seconds(self, process: str) -> float:
        """Return user and system time of `gateway`, `valkey` or `seaweed`; Linux alone has it."""
        return cpu_seconds(self._pids[process])

    def peak_mib(self, process: str) -> float:
        """Return the most memory that one of them had so far, in MiB (proc(5), VmHWM)."""
        lines = Path(f"/proc/{self._pids[process]}/status").read_text("ascii").splitlines()
        [kib] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
        return int(kib) / 1024


@contextmanager
def deployment(
    folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Deployment]:
    """Start it with its data in a folder below `folder` (None: the system's), and remove both.

    `environment` has further settings of the gateway.
    """
    data_dir = tempfile.mkdtemp(prefix="gateway-benchmark-", dir=folder)
    command = [sys.executable, "-m", "gateway", "dev", "--port=0", f"--data-dir={data_dir}"]
    try:
        with serving([*command, "--json"], environment=environment) as server:
            yield Deployment(server.said)
    finally:
        shutil.rmtree(data_dir)


@dataclass(slots=True)
class Blocks:
    """The longest that a gateway's event loop was late, and blocked, in seconds.

    A lag counts the time in which the loop was ready and had no processor, as on a machine where
    store, client and gateway share two; a block does not (`gateway.web.heartbeat`).
    """

    lag: float = 0.0
    block: float = 0.0

    def row(self, during: str) -> Row:
        """Return both for the table."""
        return Row(
            f"event loop, longest, {during}",
            {"lag, ms": self.lag * 1000, "block, ms": self.block * 1000},
        )

    def ratio(self, during: str, *, goal: bool = True) -> Ratio:
        """Return the block by the limit of performance.md, or without.

        A lag of many short callbacks, one for each of many requests, is a queue and no block.
        """
        subject = f"longest block of the event loop, ms, {during}"
        return Ratio(subject, self.block * 1000, MAX_BLOCK_MS if goal else None, at_most=True)


@asynccontextmanager
async def watching(url: str, blocks: Blocks) -> AsyncIterator[None]:
    """Follow the gateway's event loop meanwhile; what is worse than `blocks` is put there."""

    def look() -> None:
        figures = metrics(url)
        blocks.lag = max(blocks.lag, figures["gateway_event_loop_longest_lag_seconds"])
        blocks.block = max(blocks.block, figures["gateway_event_loop_longest_block_seconds"])

    async def follow() -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            await asyncio.to_thread(look)

    following = asyncio.create_task(follow())
    try:
        yield
    finally:
        following.cancel()
        await asyncio.wait([following])
    await asyncio.to_thread(look)


def metrics(url: str) -> dict[str, float]:
    """Return the figures at a gateway's /metrics, by name and labels as they are written there."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=_ANSWER_SECONDS) as answer:  # noqa: S310 - the address of a gateway that was started here.
        lines = answer.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}
