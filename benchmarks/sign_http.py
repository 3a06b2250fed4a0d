"""Sign requests a second over HTTP: one gateway process against one of @uppy/companion.

Both stand before the same store, and sign PUTs of parts of an upload there: the gateway by
POST /uploads/{id}/parts/sign, Companion by GET /s3/multipart/{id}/{number} or, for 100 URLs at a
time, its batch route. Companion is the least it can be (`peers/companion.mjs`): it checks no
token, knows no session, and asks nobody. The gateway checks the token, reads the session from
Valkey, and binds the part's length to the URL. Before anything is timed, a part is sent to a URL
of each, and the store must take both.

Requests come over connections that stay open, from a process of its own, whose ceiling against a
server that does nothing is told beside. Both servers have the same two cores, in turns.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import quote, urlsplit

import aiohttp
import orjson

from benchmarks import MIB, Ratio, Report, Row
from benchmarks.deployments import CLOSE_LOOK, Blocks, Deployment, deployment, watching
from benchmarks.installed import PACKAGES, node_server, version
from benchmarks.processes import Server, finish, serving
from benchmarks.store import exact
from gateway.client import GatewayClient

PART_SIZE: Final = 8 * MIB
PARTS: Final = 1000
_NAME: Final = "holiday film.mp4"
_MANY: Final = 100
_ANSWER_BYTES: Final = 500
_WARM_UP: Final = 0.5


@dataclass(frozen=True, slots=True)
class Case:
    """How many URLs one request asks for, and how many requests are under way at a time."""

    label: str
    urls: int
    connections: int
    goal: float | None


ONE_BY_ONE: Final = (
    Case("one URL a request", 1, 1, 15),
    Case(f"{_MANY} URLs a request", _MANY, 1, 40),
)
TOGETHER: Final = (Case(f"one URL a request, {_MANY} requests at a time", 1, _MANY, 15),)
"""The goals of performance.md, which was written with URLs in mind that come at a time."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one server did in a turn: requests a second, seconds of them, CPU seconds for 1,000."""

    rate: float
    p99: float
    server: float
    valkey: float
    client: float


def run(arguments: Sequence[str]) -> Report:
    """Measure; `--seconds` for a turn (3), `--rounds` (5)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks sign-http")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--without-peer", action="store_true", help="measure the gateway alone, and compare nothing"
    )
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        target = stack.enter_context(deployment(environment=CLOSE_LOOK))
        idle = stack.enter_context(
            serving([sys.executable, "-m", "benchmarks.load", str(_ANSWER_BYTES)])
        )
        companion = None
        if not options.without_peer:
            scratch = stack.enter_context(TemporaryDirectory())
            companion = stack.enter_context(_companion(target, Path(scratch)))
        measurement = _SignHTTP(target, idle, companion, options.seconds)
        return asyncio.run(measurement.measure(max(1, options.rounds)))


def _companion(target: Deployment, scratch: Path) -> AbstractContextManager[Server]:
    s3 = target.s3
    return node_server(
        "companion.mjs",
        {
            "SCRATCH": str(scratch),
            "S3_ENDPOINT": s3["endpoint"],
            "S3_REGION": s3["region"],
            "S3_BUCKET": s3["bucket"],
            "S3_ACCESS_KEY_ID": s3["access_key_id"],
            "S3_SECRET_ACCESS_KEY": s3["secret_access_key"],
        },
    )


class _SignHTTP:
    """One run: the servers, and how to ask each of them."""

    def __init__(
        self, target: Deployment, idle: Server, companion: Server | None, seconds: float
    ) -> None:
        self._target = target
        self._idle = idle
        self._companion = companion
        self._seconds = seconds
        # Of the uploads that are signed for: ours, and Companion's with its key.
        self._session_id = ""
        self._upload_id = ""
        self._key = ""

    async def measure(self, rounds: int) -> Report:
        await self._prepare()
        rows: list[Row] = []
        ratios: list[Ratio] = []
        for cases, goal in ((ONE_BY_ONE, True), (TOGETHER, False)):
            blocks = Blocks()
            async with watching(self._target.url, blocks):
                for case in cases:
                    measured, compared = await self._case(case, rounds)
                    rows += measured
                    ratios += compared
            during = "one request at a time" if goal else f"{_MANY} requests, all their turns"
            rows.append(blocks.row(during))
            ratios.append(blocks.ratio(during, goal=goal))
        return Report(
            name="sign-http",
            compared="sign requests a second over HTTP, one gateway process against "
            f"@uppy/companion {version('@uppy/companion') or PACKAGES['@uppy/companion']} (no "
            f"token, no sessions), the same SeaweedFS behind both; {self._seconds:g} s a turn, "
            f"median of {rounds} rounds, taking turns. CPU is milliseconds of processor time for "
            "1,000 requests.",
            rows=tuple(rows),
            ratios=tuple(ratios),
        )

    async def _case(self, case: Case, rounds: int) -> tuple[list[Row], list[Ratio]]:
        ours: list[Turn] = []
        theirs: list[Turn] = []
        ceiling: list[Turn] = []
        for _ in range(rounds):
            ours.append(await self._gateway(case))
            if self._companion is not None:
                theirs.append(await self._peer(case, self._companion))
            ceiling.append(await self._ceiling(case))
        rows = [_row(f"gateway, {case.label}", ours)]
        ratios: list[Ratio] = []
        if theirs:
            rows.append(_row(f"Companion, {case.label}", theirs))
            pairs = list(zip(ours, theirs, strict=True))
            ratios = [
                Ratio(
                    f"gateway / Companion, {case.label}",
                    median(a.rate / b.rate for a, b in pairs),
                    case.goal,
                ),
                Ratio(
                    "the same by processor time, Valkey's too",
                    median(b.server / (a.server + a.valkey) for a, b in pairs),
                ),
            ]
        rows.append(_row(f"ceiling of the generator, {case.label}", ceiling))
        return rows, ratios

    async def _prepare(self) -> None:
        """Begin an upload with each, and send a part of it to a URL of each."""
        async with (
            GatewayClient(self._target.url, token=self._target.token) as gateway,
            aiohttp.ClientSession() as http,
        ):
            session = await gateway.create(_NAME, PARTS * PART_SIZE, part_size=PART_SIZE)
            [signed] = await gateway.sign(session.session_id, [{"part_number": 7}])
            await _put(http, signed.url)
            self._session_id = session.session_id
            if self._companion is None:
                return
            url = f"{self._companion.said['url']}/s3/multipart"
            begun = {"filename": _NAME, "type": "video/mp4", "metadata": {}}
            async with http.post(url, json=begun) as answer:
                upload = await answer.json()
            self._key = quote(upload["key"], safe="")
            self._upload_id = quote(upload["uploadId"], safe="")
            part = f"{url}/{self._upload_id}/7?key={self._key}"
            async with http.get(exact(part)) as answer:
                await _put(http, (await answer.json())["url"])

    async def _gateway(self, case: Case) -> Turn:
        requests = []
        for first in range(1, _MANY + 1):
            numbers = range(first, first + case.urls)
            body = orjson.dumps({"parts": [{"part_number": number} for number in numbers]})
            requests.append(
                _request(
                    f"POST /uploads/{self._session_id}/parts/sign",
                    self._target.url,
                    f"Authorization: Bearer {self._target.token}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n",
                )
                + body.decode()
            )
        target = self._target
        return await self._turn(
            target.url,
            case,
            requests,
            lambda: (target.cpu_seconds("gateway"), target.cpu_seconds("valkey")),
        )

    async def _peer(self, case: Case, companion: Server) -> Turn:
        requests = []
        for first in range(1, _MANY + 1):
            numbers = range(first, first + case.urls)
            query = f"key={self._key}"
            if case.urls > 1:
                query += "&partNumbers=" + ",".join(map(str, numbers))
            what = "batch" if case.urls > 1 else str(first)
            path = f"GET /s3/multipart/{self._upload_id}/{what}?{query}"
            requests.append(_request(path, companion.said["url"], ""))
        return await self._turn(
            companion.said["url"], case, requests, lambda: (companion.cpu_seconds(), 0.0)
        )

    async def _ceiling(self, case: Case) -> Turn:
        url = self._idle.said["url"]
        return await self._turn(
            url, case, [_request("GET /", url, "")], lambda: (self._idle.cpu_seconds(), 0.0)
        )

    async def _turn(
        self,
        url: str,
        case: Case,
        requests: Sequence[str],
        cpu: Callable[[], tuple[float, float]],
    ) -> Turn:
        await self._load(url, case, requests, min(_WARM_UP, self._seconds))
        before = cpu()
        loaded = await self._load(url, case, requests, self._seconds)
        server, valkey = (now - then for now, then in zip(cpu(), before, strict=True))
        thousands = loaded["requests"] / 1000
        return Turn(
            rate=loaded["requests"] / loaded["seconds"],
            p99=loaded["p99"],
            server=server / thousands,
            valkey=valkey / thousands,
            client=loaded["cpu"] / thousands,
        )

    async def _load(
        self, url: str, case: Case, requests: Sequence[str], seconds: float
    ) -> Mapping[str, float]:
        address = urlsplit(url)
        order = {
            "host": address.hostname,
            "port": address.port,
            "requests": requests,
            "connections": case.connections,
            "seconds": seconds,
        }
        command = [sys.executable, "-m", "benchmarks.load"]
        out = await finish(command, {}, standard_input=orjson.dumps(order))
        loaded: Mapping[str, float] = orjson.loads(out)
        return loaded


def _request(first: str, url: str, headers: str) -> str:
    return f"{first} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n{headers}\r\n"


def _row(subject: str, turns: Sequence[Turn]) -> Row:
    return Row(
        subject,
        {
            "requests/s": median(turn.rate for turn in turns),
            "p99, ms": median(turn.p99 for turn in turns) * 1000,
            "CPU of server": median(turn.server for turn in turns) * 1000,
            "of Valkey": median(turn.valkey for turn in turns) * 1000,
            "of generator": median(turn.client for turn in turns) * 1000,
        },
    )


async def _put(http: aiohttp.ClientSession, url: str) -> None:
    async with http.put(exact(url), data=bytes(PART_SIZE)) as answer:
        if not answer.ok:
            raise SystemExit(f"The store refuses a signed part: {await answer.text()}")
