"""Whether the gateway lives, whether it can work, and its figures; for machines, without a token.

`/healthz` says that the process answers. `/readyz` says that Redis and the store do and that the
clock is sane; it fails while the gateway drains, so that nobody sends it more. The checks' details
are codes, never addresses or names.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import orjson
from aiohttp import hdrs, web

from gateway.telemetry import Metrics

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


def health_routes(
    checks: Checks, metrics: Metrics, *, draining: Callable[[], bool] = lambda: False
) -> list[web.RouteDef]:
    """Return `/healthz`, `/readyz` and `/metrics`. `checks` bounds its own time."""
    ready = _Readiness(checks)

    async def get_health(_request: web.Request) -> web.Response:
        return _json({"status": "alive"})

    async def get_readiness(_request: web.Request) -> web.Response:
        found = {
            name: {"ok": check.ok, "detail": check.detail}
            for name, check in (await ready.ask()).items()
        }
        if draining():
            return _json({"status": "draining", "checks": found}, status=503)
        well = all(check["ok"] for check in found.values())
        status = "ready" if well else "not_ready"
        return _json({"status": status, "checks": found}, status=200 if well else 503)

    async def get_metrics(_request: web.Request) -> web.Response:
        return web.Response(
            body=metrics.exposition(), headers={hdrs.CONTENT_TYPE: metrics.content_type}
        )

    return [
        web.get("/healthz", get_health, name="health"),
        web.get("/readyz", get_readiness, name="readiness"),
        web.get("/metrics", get_metrics, name="metrics"),
    ]


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


def _json(value: Mapping[str, object], *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
