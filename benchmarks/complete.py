"""Completing and verifying an upload of many parts, against the bare CompleteMultipartUpload.

Two measurements. In the first, the store is real: parts of 5 MiB, as many as `--parts` says, are
sent to it and acknowledged, and then the upload is completed, once through the gateway, until it
is verified, and once by nothing but S3's call, each in a store of its own. Both uploads are made
in the same way, through the gateway, so that the store has the same to do; and before both the
gateway completes one of a single part, since what a process does for the first time is slower.

In the second, there are ten thousand parts, which only exist in the answers of a stub
(`benchmarks.stub`) before the store. It says nothing about a store; it says what the gateway adds:
seconds, processor time and the longest block of its event loop. The sidecars go to the real store.

The object is not read back in either: its checksum follows from those of the parts.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import aiohttp

from benchmarks import Ratio, Report, Row
from benchmarks.deployments import CLOSE_LOOK, Blocks, Deployment, deployment, metrics, watching
from benchmarks.processes import Server, serving
from benchmarks.store import BareStore, exact, upload_id_of
from benchmarks.stub import ALGORITHM, NAME, PART_CHECKSUM, PART_ETAG, PART_SIZE
from gateway.client import GatewayClient
from gateway.client.model import SignedPart
from gateway.core.checksums import ALGORITHMS

GOAL: Final = 1.15
PARALLEL: Final = 4
_SIGNED_AHEAD: Final = 200
_WAIT: Final = 50.0
_READY_SECONDS: Final = 60.0
_READY_POLL: Final = 0.5
_READ: Final = 'gateway_store_calls_total{operation="read",outcome="ok"}'


@dataclass(frozen=True, slots=True)
class Spent:
    """One completion: seconds, and processor seconds of the gateway, Valkey and the store."""

    seconds: float
    gateway: float
    valkey: float
    store: float


@dataclass(frozen=True, slots=True)
class Upload:
    """All parts are there; nothing is completed."""

    session_id: str
    key: str
    upload_id: str
    etags: dict[int, str]


def run(arguments: Sequence[str]) -> Report:
    """Measure; `--parts` real ones (400), `--made-up` ones (10,000), `--rounds` (5), `--folder`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks complete")
    parser.add_argument("--parts", type=int, default=400)
    parser.add_argument("--made-up", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="for the stores")
    options = parser.parse_args(arguments)
    return asyncio.run(
        _measure(options.parts, options.made_up, max(1, options.rounds), options.folder)
    )


async def _measure(parts: int, made_up: int, rounds: int, folder: Path | None) -> Report:
    bare: list[Spent] = []
    ours: list[Spent] = []
    for number in range(rounds):
        for is_ours in (number % 2 == 0, number % 2 == 1):
            with deployment(folder) as target:
                (ours if is_ours else bare).append(await _real(target, parts, is_ours=is_ours))
    stub_bare: list[Spent] = []
    stub_ours: list[Spent] = []
    blocks = Blocks()
    with deployment(folder) as target, _stubbed(target, made_up) as stubbed:
        await _until_ready(stubbed.url)
        async with watching(stubbed.url, blocks):
            for _ in range(rounds):
                stub_bare.append(await stubbed.bare())
                stub_ours.append(await stubbed.ours())
        _require_not_read(stubbed.url)
    during = f"{made_up:,} parts, stub"
    return Report(
        name="complete",
        compared=f"completing and verifying an upload of {parts:,} parts of 5 MiB, all sent and "
        "acknowledged before, against CompleteMultipartUpload alone, each in a new SeaweedFS on "
        f"this machine; and what the gateway adds with {made_up:,} parts that only a stub's "
        f"answers know; median of {rounds} rounds, taking turns. CPU is milliseconds of "
        "processor time; that of the store is the stub's where there is one.",
        rows=(
            _row(f"CompleteMultipartUpload alone, {parts:,} parts", bare),
            _row(f"gateway, verified, {parts:,} parts", ours),
            _row(f"CompleteMultipartUpload alone, {during}", stub_bare),
            _row(f"gateway, verified, {during}", stub_ours),
            blocks.row(during),
        ),
        ratios=(
            Ratio(
                f"gateway / bare call, seconds, {parts:,} parts",
                median(a.seconds / b.seconds for a, b in zip(ours, bare, strict=True)),
                GOAL,
                at_most=True,
            ),
            blocks.ratio(during),
        ),
    )


async def _real(target: Deployment, count: int, *, is_ours: bool) -> Spent:
    async with (
        GatewayClient(target.url, token=target.token) as client,
        aiohttp.ClientSession() as http,
    ):
        await _complete(client, (await _send(client, http, 1)).session_id)
        upload = await _send(client, http, count)
        before = _now(target)
        if is_ours:
            await _complete(client, upload.session_id)
        else:
            await BareStore(http, target.s3).complete(upload.key, upload.upload_id, upload.etags)
        spent = _since(before, _now(target))
    if is_ours:
        _require_not_read(target.url)
    return spent


async def _send(client: GatewayClient, http: aiohttp.ClientSession, count: int) -> Upload:
    """Create a session, and send and acknowledge all its parts."""
    body = os.urandom(PART_SIZE)
    checksum = ALGORITHMS[ALGORITHM].value_of(body)
    session = await client.create(
        "parts.bin", count * PART_SIZE, part_size=PART_SIZE, checksum_algorithm=ALGORITHM
    )
    numbers = range(1, count + 1)
    etags: dict[int, str] = {}
    url = ""

    async def work(left: Iterator[SignedPart]) -> None:
        for part in left:
            async with http.put(exact(part.url), data=body, headers=part.headers) as answer:
                answer.raise_for_status()
                etags[part.part_number] = answer.headers["ETag"]

    # Not all at once: sending ten thousand may take longer than a URL lives.
    for first in range(0, count, _SIGNED_AHEAD):
        signed = await client.sign(
            session.session_id,
            [
                {"part_number": n, "checksum": checksum}
                for n in numbers[first : first + _SIGNED_AHEAD]
            ],
        )
        url = signed[0].url
        left = iter(signed)
        await asyncio.gather(*(work(left) for _ in range(PARALLEL)))
    await client.acknowledge(
        session.session_id,
        [{"part_number": n, "etag": etags[n], "checksum": checksum} for n in numbers],
    )
    # The URL has the bucket in its path, as `gateway dev` has it.
    key = exact(url).path.split("/", 2)[2]
    return Upload(session.session_id, key, upload_id_of(url), etags)


async def _complete(client: GatewayClient, session_id: str) -> None:
    while True:
        session, again_in = await client.complete(session_id, wait=_WAIT)
        if again_in is None:
            break
    if (session.state, session.verified_by) != ("completed", "client_parts"):
        raise SystemExit(f"The upload ended as {session.state}, by {session.verified_by}.")


def _require_not_read(url: str) -> None:
    if metrics(url).get(_READ):
        raise SystemExit("The gateway has read the object back, which is another benchmark.")


async def _until_ready(url: str) -> None:
    async with asyncio.timeout(_READY_SECONDS), aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{url}/readyz") as answer:
                if answer.ok:
                    return
            await asyncio.sleep(_READY_POLL)


@dataclass(frozen=True, slots=True)
class Stubbed:
    """The stub before the store of `target`, and a second gateway before the stub."""

    target: Deployment
    stub: Server
    gateway: Server
    count: int

    @property
    def url(self) -> str:
        """The gateway's address."""
        return str(self.gateway.said["url"])

    def now(self) -> Spent:
        """Return the clock, and the processor times so far."""
        return Spent(
            time.perf_counter(),
            self.gateway.cpu_seconds(),
            self.target.cpu_seconds("valkey"),
            self.stub.cpu_seconds(),
        )

    async def bare(self) -> Spent:
        """Complete an upload by the call alone."""
        async with aiohttp.ClientSession() as http:
            store = BareStore(http, self.target.s3, endpoint=self.stub.said["url"])
            key = f"bare/{time.time_ns()}/{NAME}"
            upload_id = await store.create(key)
            etags = dict.fromkeys(range(1, self.count + 1), PART_ETAG)
            before = self.now()
            await store.complete(key, upload_id, etags)
            return _since(before, self.now())

    async def ours(self) -> Spent:
        """Complete one through the gateway."""
        async with GatewayClient(self.url, token=self.target.token) as client:
            session = await client.create(
                NAME, self.count * PART_SIZE, part_size=PART_SIZE, checksum_algorithm=ALGORITHM
            )
            await client.acknowledge(
                session.session_id,
                [
                    {"part_number": number, "etag": PART_ETAG, "checksum": PART_CHECKSUM}
                    for number in range(1, self.count + 1)
                ],
            )
            before = self.now()
            await _complete(client, session.session_id)
            return _since(before, self.now())


@contextmanager
def _stubbed(target: Deployment, count: int) -> Iterator[Stubbed]:
    command = [sys.executable, "-m", "benchmarks.stub", target.s3["endpoint"], str(count)]
    with serving(command) as stub:
        settings = {
            "GW_PORT": "0",
            "GW_TOKEN": target.token,
            "GW_S3_ENDPOINT": stub.said["url"],
            "GW_S3_REGION": target.s3["region"],
            "GW_S3_BUCKET": target.s3["bucket"],
            "GW_S3_ACCESS_KEY_ID": target.s3["access_key_id"],
            "GW_S3_SECRET_ACCESS_KEY": target.s3["secret_access_key"],
            "GW_REDIS_URL": target.redis_url,
            "GW_REDIS_PREFIX": "stub",
            # Its first line in the log names its address.
            "GW_LOG_FORMAT": "json",
            "GW_LOG_LEVEL": "info",
            **CLOSE_LOOK,
        }
        command = [sys.executable, "-m", "gateway", "serve"]
        with serving(command, environment=settings) as gateway:
            yield Stubbed(target, stub, gateway, count)


def _now(target: Deployment) -> Spent:
    return Spent(
        time.perf_counter(),
        target.cpu_seconds("gateway"),
        target.cpu_seconds("valkey"),
        target.cpu_seconds("seaweed"),
    )


def _since(before: Spent, now: Spent) -> Spent:
    return Spent(
        now.seconds - before.seconds,
        now.gateway - before.gateway,
        now.valkey - before.valkey,
        now.store - before.store,
    )


def _row(subject: str, turns: Sequence[Spent]) -> Row:
    return Row(
        subject,
        {
            "ms": median(turn.seconds for turn in turns) * 1000,
            "CPU of gateway": median(turn.gateway for turn in turns) * 1000,
            "of Valkey": median(turn.valkey for turn in turns) * 1000,
            "of store": median(turn.store for turn in turns) * 1000,
        },
    )
