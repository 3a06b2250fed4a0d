"""The way to the bytes: redirections, JSON, and relayed ranges."""

import asyncio
import email.message
import urllib.parse
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
from aiohttp import ClientPayloadError, hdrs
from aiohttp.test_utils import make_mocked_request
from gateways import SESSION_ID, FakeService, Serving
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import StoredObject
from gateway.doors.native.content import byte_range, content_disposition
from gateway.errors import Conflict, Gone, InvalidRequest

HERE = f"/uploads/{SESSION_ID}/content"
RELAY = f"{HERE}?relay=1"


async def fetch(
    gateway: Serving, path: str, method: str = "GET", **headers: str
) -> tuple[int, Mapping[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with gateway.client.request(method, path, headers=named, allow_redirects=False) as answer:
        return answer.status, answer.headers, await answer.read()


async def test_a_browser_is_led_to_the_store(gateway: Serving, service: FakeService) -> None:
    service.complete_with(b"0123456789")
    status, headers, _ = await fetch(gateway, HERE, Accept="text/html,*/*;q=0.8")
    assert status == 302
    assert headers["Location"] == "https://s3.example/object?X-Amz-Signature=abc"
    assert headers["Cache-Control"] == "no-store"
    assert "Accept" in headers["Vary"]


async def test_a_program_gets_the_url_as_json(gateway: Serving, service: FakeService) -> None:
    service.complete_with(b"0123456789")
    async with gateway.client.get(HERE, headers={"Accept": "application/json"}) as answer:
        assert answer.status == 200
        assert await answer.json() == {
            "url": "https://s3.example/object?X-Amz-Signature=abc",
            "expires_at": "2026-11-21T12:00:00.000Z",
            "filename": "film.mp4",
            "size": 10,
            "content_type": "video/mp4",
            "checksums": {"crc64nvme": "AAAAAAAAAAA="},
        }
    for accept, status in (
        ("text/html, application/json;q=0.5", 200),
        ("application/json;q=0", 302),
        ("application/json-seq", 302),
        ("", 302),
    ):
        assert (await fetch(gateway, HERE, Accept=accept))[0] == status


async def test_relayed_bytes_are_described_and_complete(
    gateway: Serving, service: FakeService
) -> None:
    service.complete_with(b"0123456789", filename='a "b".mp4', content_type="text/html")
    status, headers, body = await fetch(gateway, RELAY)
    assert (status, body) == (200, b"0123456789")
    assert headers["Content-Length"] == "10"
    assert headers["Content-Type"] == "text/html"
    assert headers["ETag"] == '"etag-1"'
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Content-Disposition"].startswith("attachment;")
    assert "sandbox" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Range" not in headers


@pytest.mark.parametrize(
    ("wanted", "body", "described"),
    [
        ("bytes=0-0", b"0", "0-0"),
        ("bytes=2-5", b"2345", "2-5"),
        ("bytes=7-", b"789", "7-9"),
        ("bytes=7-999", b"789", "7-9"),
        ("bytes=-3", b"789", "7-9"),
        ("bytes=-999", b"0123456789", "0-9"),
        ("bytes=0-9", b"0123456789", "0-9"),
        ("bytes = 1 - 2", b"12", "1-2"),
    ],
)
async def test_a_range_is_cut_out(
    gateway: Serving, service: FakeService, wanted: str, body: bytes, described: str
) -> None:
    service.complete_with(b"0123456789")
    status, headers, answer = await fetch(gateway, RELAY, Range=wanted)
    assert (status, answer) == (206, body)
    assert headers["Content-Range"] == f"bytes {described}/10"
    assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize(
    "wanted",
    ["bytes=0-1,3-4", "bytes=5-2", "bytes=a-b", "bytes=", "bytes=-", "items=0-1", "0-1", "x" * 500],
)
async def test_ranges_that_are_several_or_none_give_the_whole(
    gateway: Serving, service: FakeService, wanted: str
) -> None:
    service.complete_with(b"0123456789")
    status, headers, body = await fetch(gateway, RELAY, Range=wanted)
    assert (status, body) == (200, b"0123456789")
    assert "Content-Range" not in headers


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=99-100", "bytes=-0"])
async def test_a_range_after_the_end_is_416(
    gateway: Serving, service: FakeService, wanted: str
) -> None:
    service.complete_with(b"0123456789")
    status, headers, body = await fetch(gateway, RELAY, Range=wanted)
    assert status == 416
    assert headers["Content-Range"] == "bytes */10"
    assert b"range_not_satisfiable" in body


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ('"etag-1"', 206),
        ('"etag-2"', 200),
        ('W/"etag-1"', 200),
        ("etag-1", 200),
        ("Sat, 21 Nov 2026 12:00:00 GMT", 200),
    ],
)
async def test_a_range_of_another_version_gives_the_whole(
    gateway: Serving, service: FakeService, condition: str, status: int
) -> None:
    service.complete_with(b"0123456789")
    assert (await fetch(gateway, RELAY, Range="bytes=1-2", If_Range=condition))[0] == status


async def test_an_empty_file_is_relayed(gateway: Serving, service: FakeService) -> None:
    service.complete_with(b"")
    status, headers, body = await fetch(gateway, RELAY)
    assert (status, headers["Content-Length"], body) == (200, "0", b"")
    assert (await fetch(gateway, RELAY, Range="bytes=0-"))[0] == 416


async def test_head_describes_without_reading(gateway: Serving, service: FakeService) -> None:
    service.complete_with(b"0123456789")
    for path in (HERE, RELAY):
        status, headers, body = await fetch(gateway, path, "HEAD")
        assert (status, headers["Content-Length"], body) == (200, "10", b"")
        assert headers["ETag"] == '"etag-1"'
    assert "read_content" not in [name for name, _, _ in service.calls]


async def test_content_that_fails_half_way_is_never_taken_for_the_whole(
    gateway: Serving, service: FakeService
) -> None:
    service.complete_with(b"0123456789")
    service.content_error_after = 1
    async with gateway.client.get(RELAY) as answer:
        assert answer.status == 200
        with pytest.raises(ClientPayloadError):
            await answer.read()


async def test_content_that_fails_at_once_is_a_plain_error(
    gateway: Serving, service: FakeService
) -> None:
    service.complete_with(b"0123456789")
    service.content_error_after = 0
    assert (await fetch(gateway, RELAY))[0] == 500


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Conflict("Not yet.", code="not_completed"), 409),
        (Conflict("No.", code="quarantined"), 409),
        (Gone("Aborted."), 410),
    ],
)
async def test_content_that_is_not_to_be_had_is_refused(
    gateway: Serving, service: FakeService, error: Exception, status: int
) -> None:
    service.error = error
    for path in (HERE, RELAY):
        assert (await fetch(gateway, path))[0] == status
        assert (await fetch(gateway, path, "HEAD"))[0] == status


@given(st.text(min_size=1, max_size=60))
def test_any_name_makes_one_header_that_names_it(name: str) -> None:
    header = content_disposition(name)
    assert header.isascii()
    assert header.isprintable()
    message = email.message.Message()
    message["Content-Disposition"] = header
    assert message.get_content_disposition() == "attachment"
    extended = header.partition("filename*=UTF-8''")[2]
    assert urllib.parse.unquote(extended) == name.encode("utf-8", "replace").decode()
    assert header.count('"') == 2


@given(st.text(max_size=40) | st.from_regex(r"bytes=[0-9]{0,3}-[0-9]{0,3}"), st.integers(0, 500))
def test_any_range_stays_within_the_file(text: str, size: int) -> None:
    request = make_mocked_request("GET", HERE)
    stored = StoredObject("b", "k", size, "e")
    request = request.clone(headers={hdrs.RANGE: text.encode("utf-8", "replace").decode()})
    try:
        wanted = byte_range(request, stored)
    except InvalidRequest:
        return
    assert 0 <= wanted.start <= wanted.stop <= size
    assert wanted.partial or (wanted.start, wanted.stop) == (0, size)


async def test_slow_readers_cannot_take_all_connections_to_the_store(
    gateway: Serving, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.complete_with(b"0123456789")
    ended = asyncio.Event()

    async def read_slowly(*_args: Any) -> AsyncGenerator[bytes, None]:
        yield b"01234"
        await ended.wait()
        yield b"56789"

    with monkeypatch.context() as patched:
        patched.setattr(service, "read_content", read_slowly)
        async with gateway.client.get(RELAY) as first, gateway.client.get(RELAY) as second:
            assert (first.status, second.status) == (200, 200)
            async with gateway.client.get(RELAY) as third:
                assert third.status == 503
                problem = await third.json(content_type=None)
                assert problem["code"] == "too_many_relays"
                assert "Retry-After" in third.headers
                assert problem["hint"]
            assert (await fetch(gateway, HERE))[0] == 302
            ended.set()
            assert await first.read() == await second.read() == b"0123456789"
    status, _, content = await fetch(gateway, RELAY)
    assert (status, content) == (200, b"0123456789")
