"""A file to a verified object: our client and gateway against a bare client and against peers.

All take the same file, cut it into the same parts, and send as many at a time to the same kind of
store: a new one for every turn, since a store that has just taken a file is not that of the next.
They take turns, and who goes first changes. The bare client does nothing but that: it signs in its
own process, computes no checksum, asks nobody, remembers nothing; its time is what the store alone
takes. In each turn a file of one byte goes before: a server does for the first time what it does
once, and the store makes room. After each turn the object's size and ETag, a digest of its parts'
digests, are compared with those of the file.

Bare, library and the tus client run in this process; commands are started as people start them.
What that and other fixed costs take is told beside, as the time that a file of one byte takes.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import file_digest, md5
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from typing import Final

import aiohttp

from benchmarks import GIB, MIB, Ratio, Report, Row
from benchmarks.contenders import CONTENDERS, PART_SIZE, Contender, Turn
from benchmarks.deployments import CLOSE_LOOK, Blocks, deployment, watching
from benchmarks.store import BareStore, read_at

GOALS: Final = (
    ("library", "bare", 0.97),
    ("command", "aws-cli", 1.0),
    ("command", "rclone", 1.0),
    ("library", "tus", 2.0),
    ("command", "bare", None),
)
"""Who is to be how many times as fast as whom."""
CPU_GOAL: Final = 50.0
"""Milliseconds of the gateway's processor time for a GiB."""
_ONE_BYTE_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of one turn: by the clock, and of processors. `server` is a gateway or a peer's."""

    seconds: float
    client: float
    server: float
    valkey: float
    store: float


def run(arguments: Sequence[str]) -> Report:
    """Measure; `--mib`, `--rounds`, `--parallel`, `--folder` for file and stores, `--only` whom."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks direct")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="for the file and the stores")
    parser.add_argument("--only", default=",".join(CONTENDERS), help="some of: %(default)s")
    options = parser.parse_args(arguments)
    names = [name for name in CONTENDERS if name in options.only.split(",")]
    if unknown := {*options.only.split(",")} - {*CONTENDERS}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    for name in names:
        CONTENDERS[name].require()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        scratch = Path(folder)
        file = scratch / "file.bin"
        with file.open("wb") as out:
            for _ in range(options.mib):
                out.write(os.urandom(MIB))
        direct = _Direct(file, options.mib * MIB, options.parallel, scratch)
        return asyncio.run(direct.measure(names, max(1, options.rounds)))


class _Direct:
    """One run: the file, and what its object must look like."""

    def __init__(self, file: Path, size: int, parallel: int, scratch: Path) -> None:
        self._file = file
        self._size = size
        self._parallel = parallel
        self._scratch = scratch
        self._etag = _etag_of(file, size)

    async def measure(self, names: Sequence[str], rounds: int) -> Report:
        blocks = Blocks()
        # First, so that what every program loads at its first use is loaded.
        one_byte = await self._aside(names, blocks)
        spent: dict[str, list[Spent]] = {name: [] for name in names}
        for turn in range(rounds):
            for index in range(len(names)):
                name = names[(index + turn) % len(names)]
                spent[name].append(await self._turn(CONTENDERS[name]))
        rows = [self._row(name, turns, one_byte[name]) for name, turns in spent.items()]
        ratios = [
            Ratio(
                f"{ours} / {theirs}, speed",
                median(
                    b.seconds / a.seconds for a, b in zip(spent[ours], spent[theirs], strict=True)
                ),
                goal,
            )
            for ours, theirs, goal in GOALS
            if ours in spent and theirs in spent
        ]
        if "library" in spent:
            cost = median(turn.server for turn in spent["library"]) / (self._size / GIB) * 1000
            subject = "processor time of the gateway, ms a GiB"
            ratios.append(Ratio(subject, cost, CPU_GOAL, at_most=True))
            rows.append(blocks.row("in a turn of its own"))
            ratios.append(blocks.ratio("in a turn of its own"))
        return Report(
            name="direct",
            compared=f"{self._size // MIB:,} MiB from file to object in {PART_SIZE // MIB} MiB "
            f"parts, {self._parallel} at a time; the gateway's are verified. A new SeaweedFS on "
            f"this machine for every turn; median of {rounds} rounds, in changing order. CPU is "
            "seconds of processor time a GiB; the server is the gateway or the tus server.",
            rows=tuple(rows),
            ratios=tuple(ratios),
        )

    async def _turn(self, contender: Contender) -> Spent:
        with (
            tempfile.TemporaryDirectory(dir=self._scratch) as scratch,
            deployment(Path(scratch)) as target,
        ):
            turn = Turn(target, self._file, self._size, self._parallel, Path(scratch))
            with contender.serve(turn) as server:
                turn = replace(turn, server=server)
                first = Path(scratch) / "first"
                first.write_bytes(b"1")
                await contender.send(replace(turn, file=first, size=1))
                before = _now(turn)
                key = await contender.send(turn)
                spent = _since(before, turn)
            async with aiohttp.ClientSession() as http:
                size, etag = await BareStore(http, target.s3).describe(key)
        # rclone sends less than 200 MiB in one request.
        wanted = self._etag if "-" in etag else self._etag_in_one
        if (size, etag) != (self._size, wanted):
            raise SystemExit(f"{contender.label} stored another object: {size} bytes, {etag}.")
        return spent

    @cached_property
    def _etag_in_one(self) -> str:
        with self._file.open("rb") as file:
            return file_digest(file, "md5").hexdigest()

    async def _aside(self, names: Sequence[str], blocks: Blocks) -> dict[str, float]:
        """Return how long each takes with one byte to send, and watch a gateway's event loop."""
        taken: dict[str, list[float]] = {name: [] for name in names}
        with (
            tempfile.TemporaryDirectory(dir=self._scratch) as scratch,
            deployment(Path(scratch), CLOSE_LOOK) as target,
            ExitStack() as serving,
        ):
            turn = Turn(target, self._file, 1, self._parallel, Path(scratch))
            servers = {name: serving.enter_context(CONTENDERS[name].serve(turn)) for name in names}
            for number in range(_ONE_BYTE_ROUNDS):
                for name in names:
                    file = Path(scratch) / f"{name}-{number}"
                    file.write_bytes(b"1")
                    start = time.perf_counter()
                    await CONTENDERS[name].send(replace(turn, file=file, server=servers[name]))
                    taken[name].append(time.perf_counter() - start)
            if "library" in names:
                async with watching(target.url, blocks):
                    await CONTENDERS["library"].send(replace(turn, size=self._size))
        return {name: median(times) for name, times in taken.items()}

    def _row(self, name: str, turns: Sequence[Spent], one_byte: float) -> Row:
        seconds = median(turn.seconds for turn in turns)
        gib = self._size / GIB
        figures = {
            "seconds": seconds,
            "MiB/s": self._size / MIB / seconds,
            "CPU of client": median(turn.client for turn in turns) / gib,
            "of server": median(turn.server for turn in turns) / gib,
            "of Valkey": median(turn.valkey for turn in turns) / gib,
            "of store": median(turn.store for turn in turns) / gib,
            "1 byte, seconds": one_byte,
        }
        return Row(CONTENDERS[name].label, figures)


def _now(turn: Turn) -> Spent:
    children = getrusage(RUSAGE_CHILDREN)
    target = turn.target
    server = turn.server.cpu_seconds() if turn.server else target.cpu_seconds("gateway")
    return Spent(
        time.perf_counter(),
        time.process_time() + children.ru_utime + children.ru_stime,
        server,
        target.cpu_seconds("valkey"),
        target.cpu_seconds("seaweed"),
    )


def _since(before: Spent, turn: Turn) -> Spent:
    now = _now(turn)
    return Spent(
        now.seconds - before.seconds,
        now.client - before.client,
        now.server - before.server,
        now.valkey - before.valkey,
        now.store - before.store,
    )


def _etag_of(file: Path, size: int) -> str:
    """Return the ETag that S3 gives an object of such parts."""
    parts = [
        md5(read_at(file, offset, PART_SIZE), usedforsecurity=False).digest()
        for offset in range(0, size, PART_SIZE)
    ]
    return f"{md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"
