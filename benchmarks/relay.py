"""A file through the gateway against the same file straight to the store, and the memory of it.

Both ways the parts are the same, as many are sent at a time, each brings its checksum, and the
gateway completes and verifies the object. A sender of our own does both, so that nothing differs
but the way: direct parts are signed a hundred at a time and acknowledged one by one, relayed ones
are a single request. The two take turns on one gateway and one store, and who goes first changes.

Then one more upload grows through the same gateway, and its memory is told at one GiB and at the
end: it must not depend on the size of the file.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any, Final

import aiohttp

from benchmarks import GIB, MIB, Ratio, Report, Row
from benchmarks.deployments import CLOSE_LOOK, Blocks, Deployment, deployment, watching
from benchmarks.store import exact
from gateway.core.checksums import ALGORITHMS

PART_SIZE: Final = 8 * MIB
SPEED_GOAL: Final = 0.9
MEMORY_GOAL: Final = 150.0
"""MiB of the gateway at most, whatever the file."""
GROWTH_GOAL: Final = 20.0
"""MiB that it may take more at the end of the long upload than at its first GiB."""
_ALGORITHM: Final = "crc64nvme"
_SIGNED_AT_A_TIME: Final = 100
_COMPLETE_WAIT: Final = 60

_Put = Callable[[int, bytes, str], Awaitable[None]]


def run(arguments: Sequence[str]) -> Report:
    """Measure; `--mib`, `--rounds`, `--parallel`, `--growth-mib` of the long one, `--folder`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks relay")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--growth-mib", type=int, default=10_240)
    parser.add_argument("--folder", type=Path, help="for the store")
    options = parser.parse_args(arguments)
    sender = _Sender(options.mib * MIB, options.parallel)
    return asyncio.run(
        _measure(sender, max(1, options.rounds), options.growth_mib * MIB, options.folder)
    )


async def _measure(sender: "_Sender", rounds: int, growth: int, folder: Path | None) -> Report:
    blocks = Blocks()
    ways = {"relay": sender.relay, "direct": sender.direct}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with (
        tempfile.TemporaryDirectory(dir=folder) as scratch,
        deployment(Path(scratch), CLOSE_LOOK) as target,
    ):
        async with sender.connected(target):
            for send in ways.values():
                # What is done for the first time is done, and the store makes room.
                await send(sender.size)
            for turn in range(rounds):
                names = list(ways) if turn % 2 else list(ways)[::-1]
                for name in names:
                    start, cpu = time.perf_counter(), target.cpu_seconds("gateway")
                    await ways[name](sender.size)
                    taken[name].append(
                        (time.perf_counter() - start, target.cpu_seconds("gateway") - cpu)
                    )
            async with watching(target.url, blocks):
                await sender.relay(min(GIB, growth))
            at_first = target.peak_mib("gateway")
            if growth > GIB:
                await sender.relay(growth)
            at_last = target.peak_mib("gateway")
            together = at_last + target.peak_mib("valkey")
    gib = sender.size / GIB
    rows = [
        Row(
            {"relay": "through the gateway", "direct": "on presigned URLs"}[name],
            {
                "seconds": median(seconds for seconds, _ in turns),
                "MiB/s": sender.size / MIB / median(seconds for seconds, _ in turns),
                "CPU of gateway, s a GiB": median(cpu for _, cpu in turns) / gib,
            },
        )
        for name, turns in taken.items()
    ]
    rows += [
        Row("peak of the gateway, MiB, after 1 GiB relayed", {"MiB": at_first}),
        Row(f"the same after {growth // MIB:,} MiB more", {"MiB": at_last}),
        Row("gateway and Valkey together", {"MiB": together}),
        blocks.row("while relaying"),
    ]
    return Report(
        name="relay",
        compared=f"{sender.size // MIB:,} MiB in {PART_SIZE // MIB} MiB parts, {sender.parallel} at"
        f" a time, to a verified object; median of {rounds} rounds, in changing order, on one"
        " SeaweedFS of this machine.",
        rows=tuple(rows),
        ratios=(
            Ratio(
                "relay / direct, speed",
                median(
                    direct / relay
                    for (relay, _), (direct, _) in zip(taken["relay"], taken["direct"], strict=True)
                ),
                SPEED_GOAL,
            ),
            Ratio("peak memory of the gateway, MiB", at_last, MEMORY_GOAL, at_most=True),
            Ratio("growth to the end, MiB", at_last - at_first, GROWTH_GOAL, at_most=True),
            blocks.ratio("while relaying"),
        ),
    )


class _Sender:
    """Sends files that are nowhere: one random part, with its number in front."""

    def __init__(self, size: int, parallel: int) -> None:
        self.size = size
        self.parallel = parallel
        self._block = os.urandom(PART_SIZE)
        self._url = ""

    def connected(self, target: Deployment) -> aiohttp.ClientSession:
        """Open the connections that both ways use."""
        self._url = target.url
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=300),
        )
        self._headers = {"Authorization": f"Bearer {target.token}"}
        return self._http

    async def relay(self, size: int) -> None:
        """Send a file through the gateway."""
        session = await self._create(size)

        async def put(number: int, body: bytes, checksum: str) -> None:
            headers = {**self._headers, ALGORITHMS[_ALGORITHM].header: checksum}
            url = f"{self._url}/uploads/{session}/parts/{number}"
            async with self._http.put(url, data=BytesIO(body), headers=headers) as answer:
                answer.raise_for_status()

        await self._send(session, size, put)

    async def direct(self, size: int) -> None:
        """Send a file to the store."""
        session = await self._create(size)
        plain: dict[int, dict[str, Any]] = {}

        async def sign(number: int) -> dict[str, Any]:
            if number not in plain:
                # The checksum is bound to each URL, so that those of a stretch are computed first.
                last = min(number + _SIGNED_AT_A_TIME, -(-size // PART_SIZE) + 1)
                parts = [
                    {"part_number": n, "checksum": _checksum(self._part(n, size))}
                    for n in range(number, last)
                ]
                found = await self._call(f"{session}/parts/sign", {"parts": parts})
                plain.update({part["part_number"]: part for part in found["parts"]})
            return plain[number]

        lock = asyncio.Lock()

        async def put(number: int, body: bytes, checksum: str) -> None:
            async with lock:
                signed = await sign(number)
            async with self._http.put(
                exact(signed["url"]), data=BytesIO(body), headers=signed["headers"]
            ) as answer:
                answer.raise_for_status()
                etag = answer.headers["ETag"]
            part = {"part_number": number, "etag": etag, "checksum": checksum}
            await self._call(f"{session}/parts", {"parts": [part]})

        await self._send(session, size, put)

    async def _create(self, size: int) -> str:
        new = {"filename": "file.bin", "size": size, "part_size": PART_SIZE}
        session: str = (await self._call("", new))["session_id"]
        return session

    async def _send(self, session: str, size: int, put: _Put) -> None:
        numbers = iter(range(1, -(-size // PART_SIZE) + 1))

        async def work() -> None:
            for number in numbers:
                body = self._part(number, size)
                await put(number, body, _checksum(body))

        await asyncio.gather(*(work() for _ in range(self.parallel)))
        done = await self._call(f"{session}/complete?wait={_COMPLETE_WAIT}", {})
        if (done["state"], done["verified_by"]) != ("completed", "client_parts"):
            raise SystemExit(f"The upload ended as {done['state']}.")

    async def _call(self, path: str, body: dict[str, Any]) -> Any:
        url = f"{self._url}/uploads/{path}".rstrip("/")
        async with self._http.post(url, json=body, headers=self._headers) as answer:
            if not answer.ok:
                raise SystemExit(f"{answer.status}: {await answer.text()}")
            return await answer.json()

    def _part(self, number: int, size: int) -> bytes:
        length = min(PART_SIZE, size - (number - 1) * PART_SIZE)
        return number.to_bytes(8) + self._block[8:length]


def _checksum(body: bytes) -> str:
    return ALGORITHMS[_ALGORITHM].value_of(body)
