"""Every error that the code can raise, through every door: nothing is unrenderable."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from gateways import FakeService

import gateway
from gateway import app, errors
from gateway.config import Settings
from gateway.errors import KINDS, GatewayError
from gateway.web.door import Door
from gateway.web.errors import (
    CODE_STATUSES,
    REQUEST_ID,
    STATUSES,
    error_headers,
    problem,
    status_of,
)

SETTINGS = Settings(s3_bucket="bucket")
DOORS = {name: make(cast("Any", FakeService()), SETTINGS) for name, make in app.DOORS.items()}
SOURCES = sorted(Path(gateway.__file__).parent.rglob("*.py"))


def classes(base: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    for child in base.__subclasses__():
        yield child
        yield from classes(child)


def codes() -> dict[str, str]:
    """Find every `code="..."` in the source, with the class that carries it."""
    found = {kind.default_code: kind.__name__ for kind in classes()}
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            kind = getattr(errors, node.func.id, None)
            if not (isinstance(kind, type) and issubclass(kind, GatewayError)):
                continue
            for keyword in node.keywords:
                if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                    found[keyword.value.value] = kind.__name__
    return found


def make(name: str, code: str) -> GatewayError:
    kind = getattr(errors, name)
    try:
        error = cast("GatewayError", kind("A message.", code=code))
    except TypeError:
        # A few errors know their own words.
        error = cast("GatewayError", kind())
    error.hint = 'A "hint" with ✓.'
    error.details = {"parts": [1, 2], "missing": "3-17", "allowed": ["GET"], "size": 5}
    return error


def test_every_kind_has_a_status() -> None:
    assert set(STATUSES) == set(KINDS)
    assert len(set(STATUSES.values())) == len(STATUSES)


def test_every_code_with_a_status_of_its_own_is_raised_somewhere() -> None:
    assert set(CODE_STATUSES) <= set(codes())


def test_codes_are_stable_names() -> None:
    known = codes()
    assert len(known) > 20
    assert all(code.isascii() and code.replace("_", "").isalnum() for code in known)
    assert all(code == code.lower() for code in known)


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS.keys())
@pytest.mark.parametrize(("code", "name"), sorted(codes().items()))
def test_every_door_renders_every_error(door: Door, code: str, name: str) -> None:
    error = make(name, code)
    request = make_mocked_request("GET", door.prefixes[0])
    request[REQUEST_ID] = "request-1"
    response = door.render_error(request, error)
    assert isinstance(response, web.Response)
    assert response.status == status_of(error)
    assert 400 <= response.status < 600
    assert response.body


@pytest.mark.parametrize("name", sorted({kind.__name__ for kind in classes()}))
def test_the_native_form_has_the_same_fields_for_every_error(name: str) -> None:
    document = problem(make(name, "some_code"), "request-1")
    assert orjson.loads(orjson.dumps(document)) == document
    assert list(document) == [
        "type",
        "title",
        "status",
        "code",
        "message",
        "hint",
        "retryable",
        "request_id",
        "details",
    ]
    assert document["message"]
    assert document["request_id"] == "request-1"


@pytest.mark.parametrize("name", ["RateLimited", "Unavailable", "Uncertain", "StorageFull"])
def test_what_is_worth_a_retry_says_when(name: str) -> None:
    kind = getattr(errors, name)
    assert int(error_headers(kind("Later."))["Retry-After"]) >= 1
    assert error_headers(kind("Later.", retry_after=2.2))["Retry-After"] == "3"
    assert "Retry-After" not in error_headers(kind("Never.", retryable=False))
