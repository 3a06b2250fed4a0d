"""The server's own limits, from the other end of a socket."""

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator
from typing import Any, cast

import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from gateways import SESSION_ID, TOKEN, FakeService, Serving, serving
from structlog.testing import capture_logs

from gateway.doors.native import NativeDoor, NativeOptions
from gateway.web.bodies import PACE, BodyPace
from gateway.web.limits import ServerOptions

QUICK = ServerOptions(
    header_timeout=0.3, idle_timeout=0.4, lingering=0.2, max_connections=3, shutdown_timeout=1
)
STATUS = f"GET /uploads/{SESSION_ID} HTTP/1.1\r\n".encode()
HOST = b"Host: gateway.example\r\n"
AUTH = f"Authorization: Bearer {TOKEN}\r\n".encode()
JSON = b"Content-Type: application/json\r\n"
CREATE = b"POST /uploads HTTP/1.1\r\n" + HOST + AUTH + JSON


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest_asyncio.fixture
async def gateway(service: FakeService) -> AsyncIterator[Serving]:
    app = web.Application()
    app[PACE] = BodyPace(grace=0.3, min_rate=10_000)
    door = NativeDoor(cast("Any", service), NativeOptions("0.0"))
    async with serving([door], options=QUICK, app=app) as running:
        yield running


def read_problem(answer: bytes) -> dict[str, Any]:
    """Read the first answer, which must be an error in the native form."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    headers = {line.split(": ")[0].lower(): line.split(": ", 1)[1] for line in lines}
    document = orjson.loads(body[: int(headers["content-length"])])
    # aiohttp answers what it cannot parse as HTTP/1.0.
    assert status_line.split(" ")[0] in {"HTTP/1.1", "HTTP/1.0"}
    assert int(status_line.split(" ")[1]) == document["status"]
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-request-id"] == document["request_id"]
    assert document["hint"]
    return cast("dict[str, Any]", document)


async def test_half_a_head_is_given_up(gateway: Serving) -> None:
    began = time.monotonic()
    answer = await gateway.raw(STATUS + b"Host: gat")
    assert read_problem(answer)["code"] == "request_timeout"
    assert time.monotonic() - began >= 0.25


async def test_a_head_that_drips_is_given_up(gateway: Serving) -> None:
    reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    writer.write(STATUS)
    dripping = asyncio.create_task(_drip(writer))
    async with asyncio.timeout(3):
        answer = await reader.read()
    dripping.cancel()
    writer.close()
    assert read_problem(answer)["status"] == 408


async def _drip(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        for number in range(1000):
            writer.write(b"X-%d: y\r\n" % number)
            await asyncio.sleep(0.05)


async def test_an_idle_connection_is_closed_without_a_word(gateway: Serving) -> None:
    assert await gateway.raw(b"") == b""


async def test_a_connection_that_is_idle_after_a_request_is_closed(gateway: Serving) -> None:
    answer = await gateway.raw(STATUS + HOST + AUTH + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_more_connections_than_allowed_are_told_to_come_back(gateway: Serving) -> None:
    held = [await asyncio.open_connection(gateway.host, gateway.port) for _ in range(3)]
    # Connections are accepted in the order in which they were made.
    answer = await gateway.raw(STATUS + HOST + AUTH + b"\r\n")
    document = read_problem(answer)
    assert (document["status"], document["code"]) == (503, "too_many_connections")
    assert b"Retry-After: " in answer
    for _, writer in held:
        writer.close()
        await writer.wait_closed()
    # Closed in order as well, so that these are gone by the time the next one is accepted.
    answer = await gateway.raw(STATUS + HOST + AUTH + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_stops_coming_is_given_up(gateway: Serving, service: FakeService) -> None:
    answer = await gateway.raw(CREATE + b'Content-Length: 100\r\n\r\n{"filename":')
    assert read_problem(answer)["code"] == "request_timeout"
    assert service.calls == []


async def test_a_body_that_drips_is_given_up(gateway: Serving, service: FakeService) -> None:
    reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    writer.write(CREATE + b"Content-Length: 60000\r\n\r\n")
    dripping = asyncio.create_task(_drip(writer))
    async with asyncio.timeout(3):
        # Not up to the end: who goes on sending may find the connection reset.
        answer = await reader.readuntil(b'"details":{}}')
    dripping.cancel()
    writer.close()
    assert read_problem(answer)["code"] == "request_timeout"
    assert service.calls == []


async def test_a_body_that_ends_too_early_calls_nothing(
    gateway: Serving, service: FakeService
) -> None:
    _reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    writer.write(CREATE + b'Content-Length: 100\r\n\r\n{"filename": "a", "size": 1}')
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await _settled(gateway)
    assert service.calls == []


async def _settled(gateway: Serving) -> None:
    async with asyncio.timeout(3):
        while b'route="/uploads",status' not in gateway.metrics.exposition():  # noqa: ASYNC110 - no event tells that a handler has ended.
            await asyncio.sleep(0.01)


# Whoever reads each of these leniently finds one request, and nothing left over.
LENGTH = b"Content-Length: 4\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
FOUR = b"\r\n{}  "
NONE = b"\r\n"
LAST_CHUNK = b"\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(STATUS + HOST + HOST + AUTH + NONE, id="the same Host twice"),
        pytest.param(STATUS + HOST + b"Host: b.example\r\n" + AUTH + NONE, id="two Hosts"),
        pytest.param(STATUS + AUTH + NONE, id="no Host"),
        pytest.param(STATUS + b"Host: \r\n" + AUTH + NONE, id="an empty Host"),
        pytest.param(STATUS + b"Host: a b\r\n" + AUTH + NONE, id="a Host that is none"),
        pytest.param(STATUS + b"Host: a@b\r\n" + AUTH + NONE, id="a Host with a user"),
        pytest.param(CREATE + LENGTH + CHUNKED + LAST_CHUNK, id="length and chunks"),
        pytest.param(CREATE + LENGTH + LENGTH + FOUR, id="two lengths"),
        pytest.param(CREATE + b"Content-Length: +4\r\n" + FOUR, id="a signed length"),
        pytest.param(CREATE + b"Content-Length: -4\r\n" + FOUR, id="a negative length"),
        pytest.param(CREATE + b"Content-Length: 0_4\r\n" + FOUR, id="an odd length"),
        pytest.param(CREATE + b"Content-Length: 4, 4\r\n" + FOUR, id="a list of lengths"),
        pytest.param(
            CREATE + b"Transfer-Encoding: chunked, identity\r\n" + LAST_CHUNK, id="odd encodings"
        ),
        pytest.param(
            CREATE + b"Transfer-Encoding: xchunked\r\n" + LAST_CHUNK, id="an unknown encoding"
        ),
        pytest.param(CREATE + CHUNKED + CHUNKED + LAST_CHUNK, id="chunked twice"),
        pytest.param(CREATE + b"Content-Length : 4\r\n" + FOUR, id="a blank before the colon"),
        pytest.param(CREATE + b"X-A: b\r\n Content-Length: 4\r\n" + FOUR, id="a folded header"),
        pytest.param(CREATE + LENGTH + b"X-A: b\x00c\r\n" + FOUR, id="a NUL in a header"),
        pytest.param(CREATE + LENGTH + b"X A: b\r\n" + FOUR, id="a blank in a name"),
        pytest.param(b"GET /version HTTP/9.9\r\n" + HOST + NONE, id="an unknown version"),
        pytest.param(b"G\x01T /version HTTP/1.1\r\n" + HOST + NONE, id="a method that is none"),
    ],
)
async def test_a_head_that_two_servers_could_read_in_two_ways_is_refused(
    gateway: Serving, service: FakeService, request_bytes: bytes
) -> None:
    document = read_problem(await gateway.raw(request_bytes))
    assert document["status"] == 400
    assert document["code"] in {"malformed_request", "invalid_host"}
    assert service.calls == []


@pytest.mark.parametrize("line_end", [b"", b" HTTP/0.9", b" HTTP/2.0"])
async def test_other_versions_of_http_are_not_served(gateway: Serving, line_end: bytes) -> None:
    answer = await gateway.raw(b"GET /version" + line_end + b"\r\n" + HOST + b"\r\n")
    assert b" 400 Bad Request\r\n" in answer
    assert b'"code":"malformed_request"' in answer


async def test_a_refused_head_is_not_repeated_in_the_answer(gateway: Serving) -> None:
    answer = await gateway.raw(STATUS + b"Authorization Bearer hunter2\r\n\r\n")
    assert read_problem(answer)["code"] == "malformed_request"
    assert b"hunter2" not in answer


@pytest.mark.parametrize(
    "stray",
    [
        b"the-secret-rest-of-a-file\r\n\r\n",
        b"\xff\xfethe-secret-rest-of-a-file",
        STATUS + b"Authorization Bearer the-secret-rest-of-a-file\r\n\r\n",
    ],
    ids=["text", "bytes", "header"],
)
async def test_what_a_body_has_too_much_of_is_repeated_in_no_log(
    gateway: Serving, stray: bytes
) -> None:
    body = b'{"filename": "a"}'
    head = CREATE + b"Content-Length: %d\r\n\r\n" % len(body)
    with capture_logs() as logs:
        await gateway.raw(head + body + stray)
    assert "malformed_request" in [entry["event"] for entry in logs]
    assert "the-secret-rest" not in repr(logs)


@pytest.mark.parametrize(
    "head",
    [
        STATUS + HOST + b"X-Long: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /uploads?cursor=" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        STATUS + HOST + b"".join(b"X-%d: y\r\n" % number for number in range(500)) + b"\r\n",
    ],
    ids=["header", "address", "many headers"],
)
async def test_a_head_that_is_too_large_is_refused(gateway: Serving, head: bytes) -> None:
    document = read_problem(await gateway.raw(head))
    assert document["status"] in {400, 431}


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, x"])
async def test_a_compressed_body_is_refused_unseen(
    gateway: Serving, service: FakeService, encoding: str
) -> None:
    bomb = zlib.compress(bytes(50_000_000))
    head = CREATE + f"Content-Encoding: {encoding}\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    answer = await gateway.raw(head + bomb)
    document = read_problem(answer)
    assert (document["status"], document["code"]) == (415, "unsupported_encoding")
    assert service.calls == []


async def test_a_transfer_encoding_that_compresses_is_refused(
    gateway: Serving, service: FakeService
) -> None:
    body = b'20\r\n{"filename": "a.bin", "size": 1}\r\n0\r\n\r\n'
    answer = await gateway.raw(CREATE + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + body)
    assert read_problem(answer)["code"] == "unsupported_encoding"
    assert service.calls == []


async def test_a_body_that_says_that_it_is_huge_is_refused_before_it_comes(
    gateway: Serving, service: FakeService
) -> None:
    answer = await gateway.raw(CREATE + b"Content-Length: 99999999999\r\n\r\n")
    assert read_problem(answer)["code"] == "body_too_large"
    assert service.calls == []


async def test_a_body_without_an_end_is_refused_at_the_limit(
    gateway: Serving, service: FakeService
) -> None:
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    answer = await gateway.raw(CREATE + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 20)
    assert read_problem(answer)["code"] == "body_too_large"
    assert service.calls == []


async def test_chunks_that_are_none_are_refused(gateway: Serving, service: FakeService) -> None:
    answer = await gateway.raw(CREATE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n")
    assert read_problem(answer)["status"] == 400
    assert service.calls == []


async def test_what_follows_a_body_is_not_taken_for_a_part_of_it(
    gateway: Serving, service: FakeService
) -> None:
    answer = await gateway.raw(CREATE + b'Content-Length: 2\r\n\r\n{}"filename": "smuggled"}')
    assert read_problem(answer)["status"] == 400
    assert service.calls == []


async def test_a_client_that_waits_is_told_to_go_on_once_it_is_known(
    gateway: Serving, service: FakeService
) -> None:
    body = b'{"filename": "a.bin", "size": 1}'
    head = CREATE + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = await gateway.raw(head + body)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 ")
    assert service.calls[0][0] == "create"


async def test_a_client_that_waits_and_is_unknown_is_not_told_to_go_on(gateway: Serving) -> None:
    head = CREATE.replace(AUTH, b"") + b"Expect: 100-continue\r\nContent-Length: 50\r\n\r\n"
    answer = await gateway.raw(head)
    assert read_problem(answer)["status"] == 401


@pytest.mark.parametrize("target", [b"/uploads", b"/nothing", b"/version"])
@pytest.mark.parametrize("expected", [b"miracles", b"\xff", b"100-continue, x"])
async def test_an_expectation_that_nobody_knows_is_refused(
    gateway: Serving, target: bytes, expected: bytes
) -> None:
    head = b"POST " + target + b" HTTP/1.1\r\n" + HOST + b"Expect: " + expected + b"\r\n"
    assert read_problem(await gateway.raw(head + NONE))["code"] == "expectation_failed"


async def test_a_token_of_odd_bytes_is_no_token(gateway: Serving) -> None:
    odd = b"Authorization: Bearer \xe9\xff\r\n"
    assert read_problem(await gateway.raw(STATUS + HOST + odd + b"\r\n"))["status"] == 401


async def test_requests_sent_ahead_are_answered_in_order(gateway: Serving) -> None:
    one = STATUS + HOST + AUTH
    answer = await gateway.raw(
        one + b"X-Request-Id: request-1\r\n\r\n" + one + b"X-Request-Id: request-2\r\n\r\n"
    )
    assert 0 < answer.index(b"request-1") < answer.index(b"request-2")


async def test_limits_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        ServerOptions(header_timeout=0)
    with pytest.raises(ValueError, match="positive"):
        ServerOptions(max_connections=0)
    with pytest.raises(ValueError, match="positive"):
        BodyPace(min_rate=0)
