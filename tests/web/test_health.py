"""Health, readiness and figures."""

import asyncio
from dataclasses import dataclass

from gateways import serving

from gateway.telemetry import Metrics
from gateway.web.health import health_routes


@dataclass
class Answer:
    ok: bool
    detail: str = "ok"


class Checks:
    def __init__(self) -> None:
        self.answers = {"redis": Answer(ok=True), "store": Answer(ok=True)}
        self.asked = 0

    async def __call__(self) -> dict[str, Answer]:
        self.asked += 1
        await asyncio.sleep(0)
        return self.answers


async def test_the_process_is_alive_whatever_else_is_not() -> None:
    checks = Checks()
    checks.answers["redis"] = Answer(ok=False, detail="timeout")
    async with (
        serving(routes=health_routes(checks, Metrics())) as gateway,
        gateway.client.get("/healthz", headers={"Authorization": ""}) as answer,
    ):
        assert (answer.status, await answer.json()) == (200, {"status": "alive"})
    assert checks.asked == 0


async def test_it_is_ready_when_everything_is_well() -> None:
    async with (
        serving(routes=health_routes(Checks(), Metrics())) as gateway,
        gateway.client.get("/readyz") as answer,
    ):
        assert answer.status == 200
        assert await answer.json() == {
            "status": "ready",
            "checks": {
                "redis": {"ok": True, "detail": "ok"},
                "store": {"ok": True, "detail": "ok"},
            },
        }


async def test_it_is_not_ready_when_something_is_wrong() -> None:
    checks = Checks()
    checks.answers["store"] = Answer(ok=False, detail="timeout")
    async with (
        serving(routes=health_routes(checks, Metrics())) as gateway,
        gateway.client.get("/readyz") as answer,
    ):
        assert answer.status == 503
        assert (await answer.json())["checks"]["store"] == {"ok": False, "detail": "timeout"}


async def test_it_is_not_ready_while_it_drains() -> None:
    draining = False
    routes = health_routes(Checks(), Metrics(), draining=lambda: draining)
    async with serving(routes=routes) as gateway:
        async with gateway.client.get("/readyz") as answer:
            assert answer.status == 200
        draining = True
        async with gateway.client.get("/readyz") as answer:
            assert answer.status == 503
            assert (await answer.json())["status"] == "draining"


async def test_asking_often_does_not_ask_the_store_often() -> None:
    checks = Checks()
    async with serving(routes=health_routes(checks, Metrics())) as gateway:

        async def ask() -> int:
            async with gateway.client.get("/readyz") as answer:
                return answer.status

        assert await asyncio.gather(*(ask() for _ in range(20))) == [200] * 20
    assert checks.asked == 1


async def test_figures_are_in_prometheus_form_and_belong_to_one_application() -> None:
    metrics = Metrics()
    metrics.request("/uploads/{session_id}", "GET", 200, 0.004)
    metrics.request("unmatched", "BREW", 404, 0.004)
    metrics.store_call("complete", "ok", 0.004)
    async with (
        serving(routes=health_routes(Checks(), metrics)) as gateway,
        gateway.client.get("/metrics") as answer,
    ):
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        text = await answer.text()
    line = 'gateway_http_requests_total{method="GET",route="/uploads/{session_id}",status="200"} 1'
    assert line in text
    assert 'method="OTHER",route="unmatched"' in text
    assert 'gateway_store_calls_total{operation="complete",outcome="ok"} 1' in text
    assert "upload.completed" not in Metrics().exposition().decode()
