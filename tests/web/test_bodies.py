"""JSON bodies: what is taken, and what each other thing is told."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from gateways import Serving, serving
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from rings import no_collections
from structlog.testing import capture_logs

from gateway.errors import InvalidRequest, TooLarge
from gateway.web.bodies import (
    MAX_VALUES,
    PACE,
    BodyPace,
    Wire,
    expect_later,
    iter_body,
    parse_object,
    read_json,
    validate,
)


class Inner(Wire):
    number: int
    etag: str


class Body(Wire):
    name: str
    size: int | None = None
    from_: int | None = Field(None, alias="from")
    replace: bool = False
    parts: list[Inner] | None = None
    labels: dict[str, str] | None = None


async def needed(request: web.Request) -> web.Response:
    body = await read_json(request, Body)
    return web.json_response({"name": body.name, "size": body.size})


async def optional(request: web.Request) -> web.Response:
    body = await read_json(request, Loose, optional=True)
    return web.json_response({"size": body.size})


class Loose(Wire):
    size: int | None = None


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[Serving]:
    routes = [
        web.post("/needed", needed, expect_handler=expect_later),
        web.post("/optional", optional, expect_handler=expect_later),
    ]
    async with serving(routes=routes) as running:
        yield running


async def post(
    gateway: Serving, path: str, body: bytes | None, **headers: str
) -> tuple[int, dict[str, Any]]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    skip = [] if "Content-Type" in names else ["Content-Type"]
    async with gateway.client.post(
        path, data=body, headers=names, skip_auto_headers=skip
    ) as answer:
        return answer.status, await answer.json(content_type=None)


JSON = {"Content_Type": "application/json"}


async def test_an_object_of_the_right_shape_is_taken(gateway: Serving) -> None:
    for content_type in ("application/json", "application/json; charset=utf-8", "text/x+json"):
        status, answer = await post(
            gateway, "/needed", '{"name": "ü🎬", "size": 3}'.encode(), Content_Type=content_type
        )
        assert (status, answer) == (200, {"name": "ü🎬", "size": 3})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"name": "a"',
        b'{"name": "a"} x',
        b'{"name": "a",}',
        b"{'name': 'a'}",
        b'{"name": "\\ud800"}',
        b'{"name": "\xff"}',
        b'{"name": "a", "size": NaN}',
        b'{"name": "a", "size": Infinity}',
        b'{"name": "a", "size": 1.0}',
        b'{"name": "a", "size": 1e3}',
        b'{"name": "a", "size": "1"}',
        b'{"name": "a", "size": true}',
        b'{"name": "a", "size": 123456789012345678901234567890}',
        b'{"name": "a", "size": ' + b"9" * 5000 + b"}",
        b'{"name": "a", "size": 01}',
        b'{"name": null}',
        b'{"name": 1}',
        b'{"name": ["a"]}',
        b"{}",
        b"[]",
        b"[1]",
        b"1",
        b'"name"',
        b"null",
        b"true",
        b"[" * 30_000,
        b'{"name":' * 8_000,
        b'{"name": "a", "replace": 1}',
        b'{"name": "a", "parts": {}}',
        b'{"name": "a", "parts": [{"number": "1", "etag": "e"}]}',
        b'{"name": "a", "parts": [[]]}',
        b'{"name": "a", "labels": {"a": 1}}',
        b'{"name": "a", "labels": []}',
        '{"name": "a"}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
    ],
)
async def test_what_does_not_fit_is_explained(gateway: Serving, body: bytes) -> None:
    status, problem = await post(gateway, "/needed", body, **JSON)
    assert (status, problem["code"]) == (400, "invalid_body")
    assert problem["message"]
    assert problem["hint"]
    assert not problem["retryable"]


async def test_the_wrong_fields_are_named_and_their_values_not_repeated(gateway: Serving) -> None:
    body = b'{"name": 1, "size": "hunter2", "parts": [{"number": 1, "etag": "e"}, {"number": 2}]}'
    _, problem = await post(gateway, "/needed", body, **JSON)
    fields = [item["field"] for item in problem["details"]["errors"]]
    assert fields == ["name", "size", "parts.1.etag"]
    assert problem["details"]["error_count"] == 3
    assert "name" in problem["message"]
    assert "hunter2" not in str(problem)


async def test_an_error_a_thousand_times_over_is_told_briefly(gateway: Serving) -> None:
    body = orjson.dumps({"name": "a", "parts": [1] * 5_000})
    status, problem = await post(gateway, "/needed", body, **JSON)
    assert status == 400
    assert len(problem["details"]["errors"]) == 10
    assert problem["details"]["error_count"] == 5_000


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json", "json"],
)
async def test_another_content_type_is_refused(gateway: Serving, content_type: str) -> None:
    for path in ("/needed", "/optional"):
        status, problem = await post(gateway, path, b'{"name": "a"}', Content_Type=content_type)
        assert (status, problem["code"]) == (415, "unsupported_media_type")
        assert "application/json" in problem["hint"]


async def test_a_body_without_a_content_type_is_refused(gateway: Serving) -> None:
    for path in ("/needed", "/optional"):
        status, _ = await post(gateway, path, b'{"name": "a"}')
        assert status == 415


async def test_no_body_is_an_empty_object_where_that_is_allowed(gateway: Serving) -> None:
    assert await post(gateway, "/optional", None) == (200, {"size": None})
    assert await post(gateway, "/optional", None, **JSON) == (200, {"size": None})
    assert await post(gateway, "/optional", b'{"size": 2}', **JSON) == (200, {"size": 2})
    assert (await post(gateway, "/needed", None))[0] == 415


async def test_a_body_over_the_limit_is_refused(gateway: Serving) -> None:
    body = orjson.dumps({"name": "a" * 70_000})
    status, problem = await post(gateway, "/needed", body, **JSON)
    assert (status, problem["code"]) == (413, "body_too_large")
    assert problem["details"] == {"max_bytes": 65_536}


@pytest.mark.parametrize("value", [b"[]", b"{}", b"0"])
def test_a_small_body_of_very_many_values_is_refused_unparsed(value: bytes) -> None:
    with pytest.raises(TooLarge) as raised:
        parse_object(b'{"name": [' + b",".join([value] * (MAX_VALUES + 1)) + b"]}")
    assert raised.value.code == "body_too_large"


def test_the_largest_completion_is_not_too_many_values() -> None:
    part = b'{"part_number": 10000, "size": 5242880, "etag": "e", "checksum": "c"}'
    assert len(parse_object(b'{"parts": [' + b",".join([part] * 10_000) + b"]}")["parts"]) == 10_000


def test_unknown_fields_are_ignored_and_logged() -> None:
    with capture_logs() as logs:
        body = validate(Body, {"name": "a", "from": 1, "from_": 2, "colour": "red"})
    assert (body.name, body.from_) == ("a", 1)
    assert logs == [
        {
            "event": "unknown_fields",
            "fields": ["from_", "colour"],
            "count": 2,
            "log_level": "warning",
        }
    ]


@given(st.binary(max_size=200))
def test_no_bytes_whatever_break_the_parser(body: bytes) -> None:
    try:
        value = parse_object(body)
    except InvalidRequest:
        return
    assert isinstance(value, dict)


_plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_flat = st.lists(_plain, max_size=4) | st.dictionaries(st.text(), _plain, max_size=4)
_json = _plain | _flat | st.lists(_flat, max_size=3) | st.dictionaries(st.text(), _flat, max_size=3)


@given(st.dictionaries(st.sampled_from(["name", "size", "from", "parts", "labels"]), _json))
def test_no_value_whatever_breaks_the_models(value: dict[str, Any]) -> None:
    try:
        body = validate(Body, value)
    except InvalidRequest:
        return
    assert isinstance(body.name, str)
    assert type(body.size) in {int, type(None)}
    assert body.size is None or not math.isnan(body.size)


@pytest.mark.parametrize("stays", [True, False], ids=["too slow", "the client is gone"])
async def test_a_body_that_breaks_off_is_let_go_of_at_once(*, stays: bool) -> None:
    reading = asyncio.Event()

    async with no_collections() as watch:

        async def take(request: web.Request) -> web.Response:
            witness = watch.witness()
            async for _ in iter_body(request):
                reading.set()
            return web.Response(text=repr(witness))

        app = web.Application()
        app[PACE] = BodyPace(grace=0.2 if stays else 60)
        async with serving(routes=[web.put("/file", take)], app=app) as gateway:
            reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
            writer.write(b"PUT /file HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nsome")
            async with asyncio.timeout(10):
                await reading.wait()
                if stays:
                    assert b" 408 " in await reader.readline()
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
            await watch.all_gone()
