"""Whether the gateway lives, whether it can work, and its figures; for machines, without a token.

`/healthz` says that the process answers. `/readyz` says that Redis and the store do and that the
clock is sane; it fails while the gateway drains, so that nobody sends it more. The checks' details
are codes, never addresses or names.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, Protocol

import orjson
from aiohttp import hdrs, web

# pydantic takes it on Python 3.11 from there only.
from typing_extensions import TypedDict

from gateway.telemetry import Metrics
from gateway.web.operations import GATEWAY, JSON, Answer, Operation

# Everybody may ask, so asking often must not cost more than asking once, in seconds.
_REMEMBERED = 1.0


class CheckResult(Protocol):
    """What a check found: `detail` in a few words."""

    @property
    def ok(self) -> bool:
        """Whether all is well."""

    @property
    def detail(self) -> str:
        """How, in a few words."""


Checks = Callable[[], Awaitable[Mapping[str, CheckResult]]]


class Health(TypedDict):
    """That the process answers."""

    status: Literal["alive"]


class CheckDocument(TypedDict):
    """What a check found; the detail is `ok` or a code."""

    ok: bool
    detail: str


class Readiness(TypedDict):
    """Whether the gateway can work, and what it asked to know."""

    status: Literal["ready", "not_ready", "draining"]
    checks: dict[str, CheckDocument]


def health_routes(
    checks: Checks, metrics: Metrics, *, draining: Callable[[], bool] = lambda: False
) -> list[web.RouteDef]:
    """Return `/healthz`, `/readyz` and `/metrics`. `checks` bounds its own time."""
    ready = _Readiness(checks)

    async def get_health(_request: web.Request) -> web.Response:
        return _json(Health(status="alive"))

    async def get_readiness(_request: web.Request) -> web.Response:
        found: dict[str, CheckDocument] = {
            name: {"ok": check.ok, "detail": check.detail}
            for name, check in (await ready.ask()).items()
        }
        if draining():
            return _json(Readiness(status="draining", checks=found), status=503)
        if all(check["ok"] for check in found.values()):
            return _json(Readiness(status="ready", checks=found))
        return _json(Readiness(status="not_ready", checks=found), status=503)

    async def get_metrics(_request: web.Request) -> web.Response:
        return web.Response(
            body=metrics.exposition(), headers={hdrs.CONTENT_TYPE: metrics.content_type}
        )

    return [
        web.get("/healthz", get_health, name="health"),
        web.get("/readyz", get_readiness, name="readiness"),
        web.get("/metrics", get_metrics, name="metrics"),
    ]


HEALTH_OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/healthz",
        operation_id="health",
        tag=GATEWAY,
        summary="Tell that the process lives",
        answers=[Answer(200, "It does.", {JSON: Health}, example={"status": "alive"})],
        public=True,
    ),
    Operation(
        method="GET",
        path="/readyz",
        operation_id="readiness",
        tag=GATEWAY,
        summary="Tell whether it can work",
        description="Whether Redis and the store answer, and their clocks agree. Fails while the"
        " gateway drains, so that a load balancer sends it no more.",
        answers=[
            Answer(200, "It can.", {JSON: Readiness}),
            Answer(503, "It cannot, or drains.", {JSON: Readiness}),
        ],
        public=True,
    ),
    Operation(
        method="GET",
        path="/metrics",
        operation_id="metrics",
        tag=GATEWAY,
        summary="Give figures for Prometheus",
        answers=[Answer(200, "Prometheus's text format.", {"text/plain": {"type": "string"}})],
        public=True,
    ),
)


class _Readiness:
    """One question at a time, and its answer for a second."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._lock = asyncio.Lock()
        self._answer: Mapping[str, CheckResult] = {}
        self._until = 0.0

    async def ask(self) -> Mapping[str, CheckResult]:
        async with self._lock:
            if time.monotonic() >= self._until:
                self._answer = await self._checks()
                self._until = time.monotonic() + _REMEMBERED
            return self._answer


def _json(value: Health | Readiness, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
