"""The fault proxy does what it says, so that a test which stands on it tests something."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from faults.calls import OPERATIONS, call_of
from faults.proxy import Fault, Kind, StoreProxy
from yarl import URL

PART = "/bucket/a%2Fkey?partNumber=3&uploadId=u1&X-Amz-Signature=abc"
BODY = bytes(range(256)) * 1024
XML = b'<?xml version="1.0"?><Done><ETag>&quot;e&quot;</ETag><Key>k</Key></Done>'


class Upstream:
    """Echoes the body of what it is asked, or answers XML where there is none."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.hosts: list[str] = []
        self.paths: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        self.hosts.append(request.headers["Host"])
        self.paths.append(request.raw_path)
        return web.Response(body=body or XML, headers={"ETag": '"e"'})


@asynccontextmanager
async def served(handler: Any) -> AsyncIterator[str]:
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "http://{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest_asyncio.fixture
async def proxy(upstream: Upstream) -> AsyncIterator[StoreProxy]:
    async with served(upstream.handle) as url, StoreProxy(url).running() as running:
        yield running


async def ask(proxy: StoreProxy, method: str = "PUT", path: str = PART, data: Any = BODY) -> Any:
    """Return status, headers and body of one call that is not repeated."""
    async with aiohttp.ClientSession() as http:
        http._retry_connection = False
        url = URL(proxy.url + path, encoded=True)
        async with http.request(method, url, data=data) as answer:
            return answer.status, answer.headers, await answer.read()


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "/b/k?uploads", "CreateMultipartUpload"),
        ("POST", "/b/k?uploads=", "CreateMultipartUpload"),
        ("PUT", "/b/k?partNumber=2&uploadId=u", "UploadPart"),
        ("PUT", "/b/k?X-Amz-Date=1&partNumber=2&uploadId=u&x-id=UploadPart", "UploadPart"),
        ("GET", "/b/k?uploadId=u&part-number-marker=1000", "ListParts"),
        ("POST", "/b/k?uploadId=u", "CompleteMultipartUpload"),
        ("DELETE", "/b/k?uploadId=u", "AbortMultipartUpload"),
        ("PUT", "/b/folder/k", "PutObject"),
        ("GET", "/b/k?X-Amz-Expires=1&response-content-type=a", "GetObject"),
        ("HEAD", "/b/k", "HeadObject"),
        ("DELETE", "/b/k", "DeleteObject"),
        ("GET", "/b?list-type=2&prefix=a%2Fb", "ListObjectsV2"),
        ("GET", "/b/?uploads=&prefix=a", "ListMultipartUploads"),
        ("POST", "/b?delete", "DeleteObjects"),
        ("PUT", "/b", "CreateBucket"),
        ("HEAD", "/b", "HeadBucket"),
        ("GET", "/b?cors", "Other"),
        ("GET", "/b/k?acl", "Other"),
        ("OPTIONS", "/b/k", "Other"),
    ],
)
def test_operations_are_recognised(method: str, path: str, operation: str) -> None:
    call = call_of(make_mocked_request(method, path))
    assert call.operation == operation
    assert operation in OPERATIONS
    assert call.bucket == "b"


async def test_without_faults_everything_passes_unchanged(
    proxy: StoreProxy, upstream: Upstream
) -> None:
    status, headers, body = await ask(proxy)
    assert (status, headers["ETag"], body) == (200, '"e"', BODY)
    assert upstream.hosts == [proxy.url.removeprefix("http://")]
    assert upstream.paths == [PART]
    [call] = proxy.calls
    assert (call.operation, call.part_number, call.upload_id) == ("UploadPart", 3, "u1")
    assert (call.store_status, call.status, call.fault, call.done) == (200, 200, None, True)
    assert proxy.stored == {3: 1}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        (Kind.FAIL, 500, b"<Code>InternalError</Code>"),
        (Kind.SLOW_DOWN, 503, b"<Code>SlowDown</Code>"),
        (Kind.OK_WITH_ERROR, 200, b"<Error><Code>InternalError</Code>"),
        (Kind.OK_EMPTY, 200, b""),
    ],
)
async def test_a_reply_can_be_put_in_the_place_of_the_store_s(
    proxy: StoreProxy, upstream: Upstream, kind: Kind, status: int, words: bytes, *, after: bool
) -> None:
    fault = proxy.add(Fault("UploadPart", kind, after=after, retry_after=7))
    answer = await ask(proxy)
    assert answer[0] == status
    assert words in answer[2] if words else answer[2] == b""
    assert "ETag" not in answer[1]
    assert answer[1].get("Retry-After") == ("7" if words else None)
    assert upstream.bodies == ([BODY] if after else [])
    assert fault.hits == 1
    assert proxy.calls[0].fault == kind
    assert proxy.calls[0].store_status == (200 if after else None)
    assert (await ask(proxy))[2] == BODY


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", [Kind.RESET, Kind.DROP])
async def test_a_connection_can_be_cut_instead_of_a_reply(
    proxy: StoreProxy, upstream: Upstream, kind: Kind, *, after: bool
) -> None:
    proxy.add(Fault("UploadPart", kind, after=after))
    with pytest.raises(aiohttp.ClientConnectionError) as caught:
        await ask(proxy)
    if kind is Kind.DROP:
        assert isinstance(caught.value, aiohttp.ServerDisconnectedError)
    assert upstream.bodies == ([BODY] if after else [])
    assert proxy.calls[0].status is None


async def test_a_request_can_be_cut_on_its_way(proxy: StoreProxy, upstream: Upstream) -> None:
    proxy.add(Fault("UploadPart", Kind.CUT_REQUEST, at=1000))
    with pytest.raises(aiohttp.ClientConnectionError):
        await ask(proxy)
    assert upstream.bodies == []
    assert proxy.calls[0].store_status is None


async def test_a_bit_of_a_request_can_be_flipped(proxy: StoreProxy, upstream: Upstream) -> None:
    proxy.add(Fault("UploadPart", Kind.FLIP_REQUEST, at=200_000))
    await ask(proxy)
    [body] = upstream.bodies
    assert [n for n in range(len(BODY)) if body[n] != BODY[n]] == [200_000]
    assert len(body) == len(BODY)


@pytest.mark.parametrize("at", [None, 200_000])
async def test_a_bit_of_a_reply_can_be_flipped(proxy: StoreProxy, at: int | None) -> None:
    proxy.add(Fault("UploadPart", Kind.FLIP_REPLY, at=at))
    _, _, body = await ask(proxy)
    assert [n for n in range(len(BODY)) if body[n] != BODY[n]] == [at or len(BODY) // 2]


async def test_a_reply_can_be_cut(proxy: StoreProxy) -> None:
    proxy.add(Fault("ListParts", Kind.CUT_REPLY, at=20))
    with pytest.raises(aiohttp.ClientPayloadError):
        await ask(proxy, "GET", "/b/k?uploadId=u", None)


async def test_a_reply_can_be_shortened(proxy: StoreProxy) -> None:
    proxy.add(Fault("ListParts", Kind.SHORT_REPLY))
    status, _, body = await ask(proxy, "GET", "/b/k?uploadId=u", None)
    assert (status, body) == (200, XML[: len(XML) // 2])


async def test_a_reply_can_lack_its_etag(proxy: StoreProxy) -> None:
    proxy.add(Fault("CompleteMultipartUpload", Kind.OK_WITHOUT_ETAG))
    status, headers, body = await ask(proxy, "POST", "/b/k?uploadId=u", None)
    assert (status, body) == (200, XML.replace(b"<ETag>&quot;e&quot;</ETag>", b""))
    assert "ETag" not in headers


@pytest.mark.parametrize("after", [False, True])
async def test_blanks_can_come_before_a_reply(
    proxy: StoreProxy, upstream: Upstream, *, after: bool
) -> None:
    fault = proxy.add(Fault("CompleteMultipartUpload", Kind.WHITE_SPACE, after=after))
    asking = asyncio.create_task(ask(proxy, "POST", "/b/k?uploadId=u", None))
    await proxy.until(lambda: fault.hits)
    if after:
        await proxy.until(lambda: upstream.bodies)
    assert not asking.done()
    fault.release()
    status, _, body = await asking
    assert status == 200
    assert body.startswith(b"<?xml")
    assert body.count(b"?>") == 1
    assert body.partition(b"?>")[2].strip() == XML.partition(b"?>")[2]
    assert len(upstream.bodies) == 1


@pytest.mark.parametrize("after", [False, True])
async def test_a_stalled_call_goes_on_when_released(
    proxy: StoreProxy, upstream: Upstream, *, after: bool
) -> None:
    fault = proxy.add(Fault("UploadPart", Kind.STALL, after=after))
    asking = asyncio.create_task(ask(proxy))
    await proxy.until(lambda: fault.hits)
    if after:
        await proxy.until(lambda: proxy.stored[3])
    assert not asking.done()
    assert len(upstream.bodies) == after
    fault.release()
    assert (await asking)[2] == BODY


async def test_a_stalled_call_goes_on_by_itself_after_some_time(proxy: StoreProxy) -> None:
    proxy.add(Fault("UploadPart", Kind.STALL, seconds=0.01))
    assert (await ask(proxy))[2] == BODY


async def test_a_late_call_reaches_the_store_when_its_caller_has_long_gone(
    proxy: StoreProxy, upstream: Upstream
) -> None:
    late = proxy.add(Fault("UploadPart", Kind.LATE))
    with pytest.raises(aiohttp.ClientConnectionError):
        await ask(proxy)
    await ask(proxy, data=b"newer")
    late.release()
    await proxy.until(lambda: proxy.calls[0].done)
    assert upstream.bodies == [b"newer", BODY]
    assert proxy.calls[0].store_status == 200
    assert proxy.calls[0].status is None


async def test_a_fault_strikes_the_nth_call_that_fits_and_as_often_as_it_is_told(
    proxy: StoreProxy,
) -> None:
    fault = proxy.add(
        Fault(
            "UploadPart",
            Kind.FAIL,
            nth=2,
            times=2,
            part=3,
            when=lambda call: call.upload_id == "u1",
        )
    )
    await ask(proxy, path=PART.replace("=3", "=4"))
    await ask(proxy, path=PART.replace("=u1", "=u2"))
    assert [(await ask(proxy))[0] for _ in range(4)] == [200, 500, 500, 200]
    assert fault.hits == 2
    assert proxy.count("UploadPart") == 6
    assert proxy.count("UploadPart", part_number=3, status=500) == 2


async def test_faults_taken_out_of_force_strike_no_more(proxy: StoreProxy) -> None:
    proxy.add(Fault("*", Kind.STALL, times=None))
    asking = asyncio.create_task(ask(proxy))
    await proxy.until(lambda: proxy.calls)
    proxy.clear()
    assert (await asking)[0] == 200
    assert (await ask(proxy))[0] == 200


async def test_a_store_that_is_away_looks_as_if_there_were_no_proxy(upstream: Upstream) -> None:
    async with served(upstream.handle) as url:
        pass
    async with StoreProxy(url).running() as proxy:
        with pytest.raises(aiohttp.ClientConnectionError):
            await ask(proxy)
        assert proxy.calls[0].store_status is None


def test_a_fault_that_could_never_strike_is_refused() -> None:
    with pytest.raises(ValueError, match="UploadParts"):
        Fault("UploadParts", Kind.FAIL)
    with pytest.raises(ValueError, match="after"):
        Fault("UploadPart", Kind.FLIP_REPLY, after=True)
