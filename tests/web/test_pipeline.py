"""What every request passes: ids, errors, headers, figures and the log."""

import asyncio
from collections.abc import Iterable
from typing import ClassVar

import pytest
from aiohttp import ClientPayloadError, web
from gateways import ORIGIN, TOKEN, serving
from structlog.testing import capture_logs

from gateway.errors import Conflict, GatewayError, Unavailable
from gateway.web.door import PRINCIPAL, Door, DoorTable
from gateway.web.errors import status_of


class PlainDoor(Door):
    """A door that says its errors in one word."""

    prefixes: ClassVar[tuple[str, ...]] = ("/plain", "/plain/deep/")

    def __init__(self, name: str = "plain", prefixes: tuple[str, ...] | None = None) -> None:
        self.name = name
        self.stopped = 0
        if prefixes is not None:
            self.prefixes = prefixes  # type: ignore[misc] - each door of a test has its own.

    def routes(self) -> Iterable[web.RouteDef]:
        prefix = self.prefixes[0]
        return [
            web.get(f"{prefix}/who", self.who),
            web.get(f"{prefix}/open", self.who),
            web.get(f"{prefix}/conflict", self.conflict),
            web.get(f"{prefix}/http/{{status}}", self.http),
            web.get(f"{prefix}/cut", self.cut),
            web.get(f"{prefix}/moved", self.moved),
        ]

    def is_public(self, request: web.Request) -> bool:
        return request.path.endswith("/open")

    def render_error(self, _request: web.Request, error: GatewayError) -> web.StreamResponse:
        return web.Response(status=status_of(error), text=f"{self.name}:{error.code}")

    def stop(self) -> None:
        self.stopped += 1

    async def who(self, request: web.Request) -> web.Response:
        principal = request.get(PRINCIPAL)
        return web.Response(text=principal.principal_id if principal else "nobody")

    async def conflict(self, _request: web.Request) -> web.Response:
        raise Conflict("Not now.", code="not_now", retry_after=7)

    async def http(self, request: web.Request) -> web.Response:
        classes = {
            error.status_code: error
            for error in (
                web.HTTPBadRequest,
                web.HTTPForbidden,
                web.HTTPGone,
                web.HTTPUnsupportedMediaType,
                web.HTTPServiceUnavailable,
                web.HTTPInternalServerError,
            )
        }
        if request.match_info["status"] == "413":
            raise web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2)
        raise classes[int(request.match_info["status"])]

    async def cut(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 100
        await response.prepare(request)
        await response.write(b"half")
        raise Unavailable("The store went away.")

    async def moved(self, _request: web.Request) -> web.Response:
        raise web.HTTPFound("/plain/who")


async def test_a_doors_handler_knows_who_calls() -> None:
    async with serving([PlainDoor()]) as gateway:
        async with gateway.client.get("/plain/who") as answer:
            assert await answer.text() == "local"
        async with gateway.client.get("/plain/open", headers={"Authorization": ""}) as answer:
            assert await answer.text() == "nobody"


async def test_each_door_renders_its_own_errors_and_the_longest_prefix_wins() -> None:
    doors = [PlainDoor("root", ("/",)), PlainDoor("a", ("/a",)), PlainDoor("ab", ("/a/b",))]
    async with serving(doors) as gateway:
        for path, words in [
            ("/a/conflict", "a:not_now"),
            ("/a/b/conflict", "ab:not_now"),
            ("/a/b", "ab:no_such_route"),
            ("/a/bc", "a:no_such_route"),
            ("/a/b/c", "ab:no_such_route"),
            ("/ab", "root:no_such_route"),
            ("/", "root:no_such_route"),
            ("/a/%62/x", "ab:no_such_route"),
        ]:
            async with gateway.client.get(path) as answer:
                assert await answer.text() == words, path


async def test_without_a_door_errors_have_the_native_form() -> None:
    async def fail(request: web.Request) -> web.Response:
        raise RuntimeError("secret")

    async with serving(routes=[web.get("/fail", fail)]) as gateway:
        for path, status, code in [
            ("/nothing", 404, "no_such_route"),
            ("/fail", 500, "internal_error"),
        ]:
            async with gateway.client.get(path) as answer:
                assert answer.status == status
                document = await answer.json(content_type="application/problem+json")
                assert document["code"] == code
                assert document["request_id"] == answer.headers["X-Request-Id"]


async def test_headers_that_http_wants_are_added_to_any_doors_error() -> None:
    async with serving([PlainDoor()]) as gateway:
        async with gateway.client.get("/plain/conflict") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (409, "7")
        async with gateway.client.post("/plain/who") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
        async with gateway.client.get("/plain/who", headers={"Authorization": ""}) as answer:
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="gateway"'


@pytest.mark.parametrize("status", [400, 403, 410, 413, 415, 500, 503])
async def test_what_aiohttp_raises_is_rendered_like_everything_else(status: int) -> None:
    async with (
        serving([PlainDoor()]) as gateway,
        gateway.client.get(f"/plain/http/{status}") as answer,
    ):
        assert answer.status == status
        assert (await answer.text()).startswith("plain:")


async def test_a_redirection_is_no_error() -> None:
    async with (
        serving([PlainDoor()]) as gateway,
        gateway.client.get("/plain/moved", allow_redirects=False) as answer,
    ):
        assert (answer.status, answer.headers["Location"]) == (302, "/plain/who")


async def test_an_answer_that_fails_half_way_is_cut() -> None:
    async with serving([PlainDoor()]) as gateway, gateway.client.get("/plain/cut") as answer:
        assert answer.status == 200
        with pytest.raises(ClientPayloadError):
            await answer.read()


@pytest.mark.parametrize(
    "given", ["", "short", "x" * 65, "with blank s", "ünïcödé-id", "a/b=c&d=e"]
)
async def test_a_request_id_that_is_not_short_and_plain_is_replaced(given: str) -> None:
    async with (
        serving([PlainDoor()]) as gateway,
        gateway.client.get("/plain/who", headers={"X-Request-Id": given}) as answer,
    ):
        assert answer.headers["X-Request-Id"] != given
        assert len(answer.headers["X-Request-Id"]) == 16


async def test_the_log_has_a_line_a_request_without_its_query() -> None:
    async with serving([PlainDoor()]) as gateway:
        with capture_logs() as logs:
            async with gateway.client.get("/plain/who?token=hunter2") as answer:
                await answer.read()
    (line,) = [entry for entry in logs if entry["event"] == "request"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/plain/who", 200)
    assert "hunter2" not in str(logs)
    assert TOKEN not in str(logs)


async def test_the_log_holds_no_control_characters_of_a_path() -> None:
    async with serving([PlainDoor()]) as gateway:
        with capture_logs() as logs:
            await gateway.raw(b"GET /%1b[2J%0a%c2%9b HTTP/1.0\r\n\r\n")
    (line,) = [entry for entry in logs if entry["event"] == "request"]
    assert line["path"] == "/%1b[2J%0a%c2%9b"


async def test_an_unexpected_exception_is_logged_with_its_traceback() -> None:
    async def fail(request: web.Request) -> web.Response:
        raise RuntimeError("what went wrong")

    async with serving(routes=[web.get("/fail", fail)]) as gateway:
        with capture_logs() as logs:
            async with gateway.client.get("/fail") as answer:
                await answer.read()
    (line,) = [entry for entry in logs if entry["event"] == "unexpected_error"]
    assert line["exc_info"]


async def test_a_preflight_of_a_method_that_is_not_there_does_not_offer_it() -> None:
    async with serving([PlainDoor()]) as gateway:
        asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "DELETE"}
        async with gateway.client.options("/plain/who", headers=asks) as answer:
            assert answer.status == 204
            assert "DELETE" not in answer.headers["Access-Control-Allow-Methods"]
        async with gateway.client.options("/plain/none", headers=asks) as answer:
            assert answer.status == 404
        asks["Origin"] = "https://evil.example"
        async with gateway.client.options("/plain/who", headers=asks) as answer:
            assert answer.status == 204
            assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_without_a_token_a_foreign_page_and_a_rebound_name_are_refused() -> None:
    async with serving([PlainDoor()], token=None) as gateway:
        for headers, status in [
            ({}, 200),
            ({"Origin": f"http://127.0.0.1:{gateway.port}"}, 200),
            ({"Origin": ORIGIN}, 200),
            ({"Origin": "https://evil.example"}, 403),
            ({"Host": "evil.example"}, 403),
            ({"Host": f"localhost:{gateway.port}"}, 200),
        ]:
            async with gateway.client.get("/plain/who", headers=headers) as answer:
                assert answer.status == status, headers


async def test_doors_are_told_once_that_the_server_stops() -> None:
    door = PlainDoor()
    async with serving([door]):
        assert door.stopped == 0
    assert door.stopped == 1


async def test_a_cancelled_handler_stays_cancelled() -> None:
    async def cancelled(request: web.Request) -> web.Response:
        raise asyncio.CancelledError

    async with serving(routes=[web.get("/cancelled", cancelled)]) as gateway:
        assert await gateway.raw(b"GET /cancelled HTTP/1.1\r\nHost: a\r\n\r\n") == b""


def test_a_table_without_doors_finds_none() -> None:
    assert DoorTable([]).doors == ()
