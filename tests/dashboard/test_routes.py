"""What the page and its modules are served with, over the whole HTTP pipeline."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from gateways import Serving, serving

from gateway.dashboard.routes import DashboardOptions, routes

STORE = "https://s3.example:9000"


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Serving]:
    async with serving(routes=routes(DashboardOptions((STORE,)))) as running:
        yield running


async def test_the_page_may_run_its_own_scripts_and_talk_to_gateway_and_store_only(
    served: Serving,
) -> None:
    async with served.client.get("/") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/html"
        policy = dict(
            directive.partition(" ")[::2]
            for directive in answer.headers["Content-Security-Policy"].split("; ")
        )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == f"'self' {STORE}"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in str(policy)


@pytest.mark.parametrize("path", ["/", "/static/uploader.js", "/static/style.css"])
async def test_every_file_says_how_it_may_be_used(served: Serving, path: str) -> None:
    async with served.client.get(path) as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-cache"


async def test_the_library_can_be_imported_from_any_origin(served: Serving) -> None:
    for path in ("/static/uploader.js", "/static/uploader/digest-worker.js"):
        async with served.client.get(path, headers={"Origin": "https://any.example"}) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert answer.content_type == "text/javascript"


async def test_the_page_needs_no_token_and_is_not_readable_from_elsewhere(served: Serving) -> None:
    address = f"http://{served.host}:{served.port}/"
    async with aiohttp.ClientSession() as anybody, anybody.get(address) as answer:
        assert answer.status == 200
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_file_that_has_not_changed_is_not_sent_again(served: Serving) -> None:
    async with served.client.get("/static/uploader.js") as answer:
        etag = answer.headers["ETag"]
    again = {"If-None-Match": etag}
    async with served.client.get("/static/uploader.js", headers=again) as answer:
        assert answer.status == 304
        assert await answer.read() == b""
        assert answer.headers["ETag"] == etag
    async with served.client.get("/static/app.js", headers=again) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../routes.py",
        "/static/%2e%2e/routes.py",
        "/static/..%2froutes.py",
        "/static/uploader/../../__init__.py",
        "/static//etc/passwd",
        "/static/uploader",
        "/static/",
        "/static/nothing.js",
        "/static/app.js%00.css",
    ],
)
async def test_nothing_but_the_files_is_there(served: Serving, path: str) -> None:
    answer = await served.raw(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.split(b" ")[1] in {b"404", b"400"}
    assert b"import" not in answer
    assert b"root:" not in answer


async def test_head_describes_a_file(served: Serving) -> None:
    async with served.client.head("/static/uploader.js") as answer:
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) > 1000


@pytest.mark.parametrize(
    "origin",
    [
        "s3.example",
        "https://s3.example/",
        "https://s3.example; script-src *",
        "*",
        "https://u@s3",
        "",
    ],
)
def test_what_is_not_an_origin_never_reaches_the_policy(origin: str) -> None:
    with pytest.raises(ValueError, match="Not an origin"):
        DashboardOptions((origin,))
