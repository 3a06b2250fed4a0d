"""What every door must do, whatever its protocol: subclass `DoorSuite` and say how to reach it.

The service behind the door is a fake, since the suite asks what the door makes of its answers.
"""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp.test_utils import make_mocked_request
from gateways import ORIGIN, SESSION_ID, FakeService, Serving, serving

from gateway.errors import (
    Conflict,
    Corrupt,
    Forbidden,
    GatewayError,
    Gone,
    Internal,
    InvalidRequest,
    NotFound,
    RateLimited,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedType,
)
from gateway.web.door import Door
from gateway.web.errors import STATUSES

SECRET = "redis://:hunter2@10.0.0.7"

ERRORS: list[type[GatewayError]] = [
    InvalidRequest,
    Unauthenticated,
    Forbidden,
    NotFound,
    Conflict,
    Gone,
    TooLarge,
    UnsupportedType,
    Corrupt,
    RateLimited,
    Unavailable,
    StorageFull,
    Internal,
]


class DoorSuite:
    """The promises of `gateway.web.door.Door`, seen from outside.

    `calls_a_verb` is a request (method, path) without a body that makes the door call the service.
    """

    calls_a_verb: tuple[str, str]

    def make(self, service: FakeService) -> Door:
        """Make the door over the service."""
        raise NotImplementedError

    def error_code(self, body: bytes) -> str:
        """Return what the protocol's error body says went wrong; raise if it is no such body."""
        raise NotImplementedError

    @pytest.fixture
    def service(self) -> FakeService:
        return FakeService()

    @pytest_asyncio.fixture
    async def gateway(self, service: FakeService) -> AsyncIterator[Serving]:
        async with serving([self.make(service)]) as running:
            yield running

    @pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.kind)
    async def test_every_kind_of_error_is_rendered_with_its_status(
        self, gateway: Serving, service: FakeService, error: type[GatewayError]
    ) -> None:
        service.error = error("It did not work.", hint="Try.", details={"parts": [1]})
        async with gateway.client.request(*self.calls_a_verb) as answer:
            assert answer.status == STATUSES[error.kind]
            assert self.error_code(await answer.read())
            assert ("Retry-After" in answer.headers) == service.error.retryable
            assert ("WWW-Authenticate" in answer.headers) == (error is Unauthenticated)

    async def test_an_unexpected_exception_tells_the_caller_nothing(
        self, gateway: Serving, service: FakeService
    ) -> None:
        service.error = RuntimeError(SECRET)
        async with gateway.client.request(*self.calls_a_verb) as answer:
            assert answer.status == 500
            body = await answer.read()
        assert self.error_code(body) == "internal_error"
        assert b"hunter2" not in body
        assert b"Traceback" not in body

    async def test_without_credentials_no_verb_is_called(
        self, gateway: Serving, service: FakeService
    ) -> None:
        for value in ("", "Bearer", "Bearer wrong-token", "Basic YTpi", "Bearer a b"):
            async with gateway.client.request(
                *self.calls_a_verb, headers={"Authorization": value}
            ) as answer:
                assert answer.status == 401
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                assert self.error_code(await answer.read())
        assert service.calls == []

    async def test_no_method_of_no_route_goes_without_credentials(
        self, gateway: Serving, service: FakeService
    ) -> None:
        public, closed = 0, 0
        for route in gateway.runner.app.router.routes():
            resource = route.resource
            assert resource is not None
            path = resource.canonical.replace("{session_id}", SESSION_ID)
            path = re.sub("{[a-z_]+}", "1", path)
            request = make_mocked_request(route.method, path)
            async with gateway.client.request(
                route.method, path, headers={"Authorization": ""}
            ) as answer:
                if self.make(service).is_public(request):
                    public += 1
                    assert answer.status < 400
                else:
                    closed += 1
                    assert answer.status == 401, (route.method, path)
        assert service.calls == []
        assert closed > public

    async def test_an_unknown_address_is_refused_in_the_doors_own_words(
        self, gateway: Serving
    ) -> None:
        for prefix in self.make(FakeService()).prefixes:
            path = f"{prefix.rstrip('/')}/no/such/address/of/anybody"
            async with gateway.client.get(path) as answer:
                assert answer.status == 404
                assert self.error_code(await answer.read())

    async def test_a_wrong_method_is_refused_and_the_right_ones_are_named(
        self, gateway: Serving
    ) -> None:
        async with gateway.client.request("PROPFIND", self.calls_a_verb[1]) as answer:
            assert answer.status == 405
            assert self.calls_a_verb[0] in answer.headers["Allow"]
            assert self.error_code(await answer.read())

    async def test_answers_carry_the_request_id_and_are_not_kept(self, gateway: Serving) -> None:
        async with gateway.client.request(
            *self.calls_a_verb, headers={"X-Request-Id": "my-request-1"}
        ) as answer:
            assert answer.headers["X-Request-Id"] == "my-request-1"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Date" in answer.headers

    async def test_a_page_of_an_allowed_origin_can_read_answers_and_errors(
        self, gateway: Serving, service: FakeService
    ) -> None:
        for error in (None, Conflict("Not now.")):
            service.error = error
            async with gateway.client.request(
                *self.calls_a_verb, headers={"Origin": ORIGIN}
            ) as answer:
                assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
                assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"]
                assert "Origin" in answer.headers["Vary"]

    async def test_a_page_of_another_origin_can_read_nothing(self, gateway: Serving) -> None:
        for origin in ("https://evil.example", "null", ORIGIN + ".evil.example", ORIGIN.upper()):
            async with gateway.client.request(
                *self.calls_a_verb, headers={"Origin": origin}
            ) as answer:
                assert not [name for name in answer.headers if name.startswith("Access-Control")]
                assert "Origin" in answer.headers["Vary"]

    async def test_a_preflight_needs_no_credentials_and_names_the_methods(
        self, gateway: Serving, service: FakeService
    ) -> None:
        method, path = self.calls_a_verb
        asks = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization",
        }
        async with gateway.client.options(path, headers={**asks, "Authorization": ""}) as answer:
            assert answer.status == 204
            assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
            assert "Authorization" in answer.headers["Access-Control-Allow-Headers"].split(", ")
            assert int(answer.headers["Access-Control-Max-Age"]) <= 600
        assert service.calls == []

    async def test_figures_count_the_route_and_not_the_address(self, gateway: Serving) -> None:
        async with gateway.client.request(*self.calls_a_verb) as answer:
            await answer.read()
        figures = gateway.metrics.exposition().decode()
        assert f'method="{self.calls_a_verb[0]}",route="' in figures
        assert self.calls_a_verb[1] not in figures
