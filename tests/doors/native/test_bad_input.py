"""Bad input against the whole gateway, with a real Redis and a real store behind it.

Every case: the error form with the right status, code and a hint, and nothing is changed by it.
"""

import asyncio
import base64
import io
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import minio
import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from servers import S3Target, remove_bucket

from gateway.app import GATE, build_app
from gateway.config import Settings
from gateway.core.checksums import ALGORITHMS
from gateway.web.limits import ServerOptions, make_runner

TOKEN = "a-token-of-the-tests"
MIB = 1 << 20
PART = b"p" * (5 * MIB)
CRC = ALGORITHMS["crc64nvme"].value_of(PART)
OTHER_CRC = ALGORITHMS["crc64nvme"].value_of(b"other bytes")
NOBODYS = "0123456789abcdef" * 2


@dataclass
class Api:
    client: aiohttp.ClientSession
    store: aiohttp.ClientSession
    open: str = ""
    completed: str = ""
    aborted: str = ""
    unsized: str = ""
    fuzzed: str = ""

    async def call(
        self, method: str, path: str, body: Any = None, **options: Any
    ) -> tuple[int, Any]:
        path = path.format(
            open=self.open,
            completed=self.completed,
            aborted=self.aborted,
            unsized=self.unsized,
            fuzzed=self.fuzzed,
            nobodys=NOBODYS,
        )
        if body is not None:
            options["data"] = body if isinstance(body, bytes) else json.dumps(body).encode()
            options.setdefault("headers", {"Content-Type": "application/json"})
        async with self.client.request(method, path, allow_redirects=False, **options) as answer:
            content = await answer.read()
            return answer.status, orjson.loads(content) if content else None

    async def everything(self) -> Any:
        """Return all that a caller can see, to compare before and after."""
        status, listed = await self.call("GET", "/uploads?limit=200")
        assert status == 200
        assert listed["next_cursor"] is None
        parts = [await self.call("GET", f"/uploads/{{{name}}}/parts") for name in SESSIONS]
        return listed, parts

    async def create(self, **body: Any) -> str:
        status, session = await self.call(
            "POST", "/uploads", {"filename": "film.mp4", "checksum_algorithm": "crc64nvme", **body}
        )
        assert status == 201, session
        return str(session["session_id"])

    async def send(self, session_id: str, number: int, content: bytes) -> None:
        status, signed = await self.call(
            "POST",
            f"/uploads/{session_id}/parts/sign",
            {"parts": [{"part_number": number, "size": len(content)}]},
        )
        assert status == 200, signed
        (part,) = signed["parts"]
        async with self.store.put(
            part["url"], data=io.BytesIO(content), headers=part["headers"]
        ) as answer:
            assert answer.status == 200
            etag = answer.headers["ETag"]
        checksum = ALGORITHMS["crc64nvme"].value_of(content)
        acknowledged = {"part_number": number, "etag": etag, "checksum": checksum}
        status, answer = await self.call(
            "POST", f"/uploads/{session_id}/parts", {"parts": [acknowledged]}
        )
        assert status == 200, answer


SESSIONS = ("open", "completed", "unsized")


@pytest_asyncio.fixture(scope="module")
async def api(redis_url: str, s3: S3Target, oracle: minio.Minio) -> AsyncIterator[Api]:
    bucket = f"test-{uuid.uuid4().hex}"
    await asyncio.to_thread(oracle.make_bucket, bucket)
    app = build_app(
        Settings(
            token=SecretStr(TOKEN),
            s3_endpoint=s3.endpoint,
            s3_region=s3.region,
            s3_bucket=bucket,
            s3_access_key_id=s3.access_key_id,
            s3_secret_access_key=SecretStr(s3.secret_access_key),
            redis_url=SecretStr(redis_url),
            redis_prefix=f"test-{uuid.uuid4().hex[:16]}",
        )
    )
    runner = make_runner(app, ServerOptions(shutdown_timeout=5))
    await runner.setup()
    try:
        async with asyncio.timeout(60):
            await app[GATE].opened.wait()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with (
            aiohttp.ClientSession(
                f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {TOKEN}"}
            ) as client,
            aiohttp.ClientSession() as store,
        ):
            api = Api(client, store)
            await _fill(api)
            yield api
    finally:
        await runner.cleanup()
        await asyncio.to_thread(remove_bucket, oracle, bucket)


async def _fill(api: Api) -> None:
    api.open = await api.create(size=11 * MIB, part_size=5 * MIB)
    await api.send(api.open, 1, PART)
    api.unsized = await api.create(part_size=5 * MIB)
    await api.send(api.unsized, 1, PART)
    api.fuzzed = await api.create(size=11 * MIB, part_size=5 * MIB)
    api.aborted = await api.create(size=1)
    assert (await api.call("DELETE", "/uploads/{aborted}"))[0] == 204
    api.completed = await api.create(size=5)
    await api.send(api.completed, 1, b"bytes")
    status, session = await api.call("POST", "/uploads/{completed}/complete?wait=30")
    assert (status, session["state"]) == (200, "completed")


def new(**changes: Any) -> dict[str, Any]:
    return {"filename": "a.bin", "size": 1, **changes}


def parts(**changes: Any) -> dict[str, Any]:
    return {"parts": [{"part_number": 2, "etag": "e", **changes}]}


def checksum(algorithm: Any, value: Any) -> dict[str, Any]:
    return {"checksum": {"algorithm": algorithm, "value": value}}


def in_base64(length: int) -> str:
    return base64.b64encode(bytes(length)).decode()


CREATE = "POST /uploads"
SIGN = "POST /uploads/{open}/parts/sign"
ACKNOWLEDGE = "POST /uploads/{open}/parts"
COMPLETE = "POST /uploads/{open}/complete"

BAD: list[tuple[str, Any, int, str]] = [
    # Sizes
    (CREATE, new(size=-1), 400, "size_out_of_range"),
    (CREATE, new(size=-(1 << 63)), 400, "size_out_of_range"),
    (CREATE, new(size=1 << 62), 413, "file_too_large"),
    (CREATE, new(size=(1 << 64) - 1), 413, "file_too_large"),
    (CREATE, new(size=1 << 64), 400, "invalid_body"),
    (CREATE, new(size=1.5), 400, "invalid_body"),
    (CREATE, new(size=1.0), 400, "invalid_body"),
    (CREATE, b'{"filename": "a", "size": 1e999}', 400, "invalid_body"),
    (CREATE, new(size="1"), 400, "invalid_body"),
    (CREATE, new(size=True), 400, "invalid_body"),
    (CREATE, new(size=[]), 400, "invalid_body"),
    (CREATE, new(part_size=0), 400, "part_size_out_of_range"),
    (CREATE, new(part_size=-5), 400, "part_size_out_of_range"),
    (CREATE, new(size=100 * MIB, part_size=1), 400, "part_size_out_of_range"),
    (CREATE, new(part_size=1 << 60), 400, "part_size_out_of_range"),
    (CREATE, new(size=1 << 40, part_size=5 * MIB), 400, "part_size_out_of_range"),
    # Names and texts
    (CREATE, new(filename=""), 400, "invalid_filename"),
    (CREATE, new(filename="a/b"), 400, "invalid_filename"),
    (CREATE, new(filename="..\\b"), 400, "invalid_filename"),
    (CREATE, new(filename=".."), 400, "invalid_filename"),
    (CREATE, new(filename="a\nb"), 400, "invalid_filename"),
    (CREATE, new(filename="a\0b"), 400, "invalid_filename"),
    (CREATE, new(filename="a\x7fb"), 400, "invalid_filename"),
    (CREATE, new(filename="a\u2028b"), 400, "invalid_filename"),
    (CREATE, new(filename="x" * 10_000), 400, "invalid_filename"),
    (CREATE, new(filename="🎬" * 257), 400, "invalid_filename"),
    (CREATE, b'{"filename": "\\ud800"}', 400, "invalid_body"),
    (CREATE, b'{"filename": "\xff\xfe"}', 400, "invalid_body"),
    (CREATE, {"size": 1}, 400, "invalid_body"),
    (CREATE, new(content_type=""), 400, "invalid_content_type"),
    (CREATE, new(content_type="video"), 400, "invalid_content_type"),
    (CREATE, new(content_type="a/b\r\nX-Evil: 1"), 400, "invalid_content_type"),
    (CREATE, new(fingerprint=""), 400, "invalid_fingerprint"),
    (CREATE, new(fingerprint="f" * 256), 400, "invalid_fingerprint"),
    (CREATE, new(fingerprint="a\0"), 400, "invalid_fingerprint"),
    (CREATE, new(metadata={"a": "b" * 2049}), 400, "metadata_too_large"),
    (CREATE, new(metadata={"a": "b\n"}), 400, "invalid_metadata"),
    (CREATE, new(metadata={"a\0": "b"}), 400, "invalid_metadata"),
    (CREATE, new(metadata={"a": 1}), 400, "invalid_body"),
    (CREATE, new(key="mine"), 403, "key_not_allowed"),
    (CREATE, new(key="../../etc"), 400, "invalid_key"),
    (CREATE, new(bucket="somebody-elses"), 403, "key_not_allowed"),
    # Checksums
    (CREATE, new(checksum_algorithm="md4"), 400, "unknown_checksum_algorithm"),
    (CREATE, new(checksum_algorithm=""), 400, "unknown_checksum_algorithm"),
    (CREATE, new(**checksum("md4", "AAAA")), 400, "invalid_checksum"),
    (CREATE, new(**checksum("sha256", in_base64(31))), 400, "invalid_checksum"),
    (CREATE, new(**checksum("sha256", in_base64(33))), 400, "invalid_checksum"),
    (CREATE, new(**checksum("crc64nvme", "not base64!")), 400, "invalid_checksum"),
    (CREATE, new(**checksum("crc64nvme", "")), 400, "invalid_checksum"),
    (CREATE, new(checksum="AAAAAAAAAAA="), 400, "invalid_body"),
    # Bodies that are none
    (CREATE, b"", 400, "invalid_body"),
    (CREATE, b"{", 400, "invalid_body"),
    (CREATE, b"null", 400, "invalid_body"),
    (CREATE, b"[]", 400, "invalid_body"),
    (CREATE, b"7", 400, "invalid_body"),
    (CREATE, b'"a"', 400, "invalid_body"),
    (CREATE, b"[" * 60_000, 400, "invalid_body"),
    (CREATE, b'{"a":' * 12_000, 400, "invalid_body"),
    (CREATE, b"<xml/>", 400, "invalid_body"),
    (CREATE, new(padding="x" * 70_000), 413, "body_too_large"),
    (CREATE, new(sign=1001), 400, "invalid_body"),
    (CREATE, new(sign=-1), 400, "invalid_body"),
    # Part numbers
    (SIGN, {"parts": [{"part_number": 0}]}, 400, "part_number_out_of_range"),
    (SIGN, {"parts": [{"part_number": -1}]}, 400, "part_number_out_of_range"),
    (SIGN, {"parts": [{"part_number": 4}]}, 400, "part_number_out_of_range"),
    (SIGN, {"parts": [{"part_number": 10_001}]}, 400, "part_number_out_of_range"),
    (SIGN, {"parts": [{"part_number": (1 << 64) - 1}]}, 400, "part_number_out_of_range"),
    (SIGN, {"parts": [{"part_number": 1 << 70}]}, 400, "invalid_body"),
    (SIGN, {"parts": [{"part_number": "1"}]}, 400, "invalid_body"),
    (SIGN, {"parts": [{"part_number": None}]}, 400, "invalid_body"),
    (SIGN, {"from": 0, "count": 1}, 400, "part_number_out_of_range"),
    (SIGN, {"from": 3, "count": 2}, 400, "part_number_out_of_range"),
    (SIGN, {"from": -5, "count": 3}, 400, "part_number_out_of_range"),
    (SIGN, {"from": (1 << 64) - 1, "count": 1000}, 400, "part_number_out_of_range"),
    (SIGN, {"from": 1, "count": 0}, 400, "invalid_body"),
    (SIGN, {"from": 1, "count": 1 << 40}, 400, "invalid_body"),
    (SIGN, {}, 400, "invalid_body"),
    (SIGN, {"parts": [{"part_number": 2}, {"part_number": 2}]}, 400, "duplicate_part"),
    (SIGN, {"parts": [{"part_number": 2, "size": 1}]}, 400, "part_length_mismatch"),
    (SIGN, {"parts": [{"part_number": 2, "size": -1}]}, 400, "part_length_mismatch"),
    (SIGN, {"parts": [{"part_number": 2, "checksum": "AAAA"}]}, 400, "invalid_checksum"),
    (SIGN, {"parts": [{"part_number": 2, "checksum": "\0"}]}, 400, "invalid_checksum"),
    (SIGN, {"parts": [{"part_number": 1, "checksum": OTHER_CRC}]}, 409, "part_conflict"),
    (
        "POST /uploads/{unsized}/parts/sign",
        {"from": 10_001, "count": 1},
        400,
        "part_number_out_of_range",
    ),
    (
        "POST /uploads/{unsized}/parts/sign",
        {"parts": [{"part_number": 2, "size": 0}]},
        400,
        "part_length_mismatch",
    ),
    (
        "POST /uploads/{unsized}/parts/sign",
        {"parts": [{"part_number": 2, "size": 6 * MIB}]},
        400,
        "part_length_mismatch",
    ),
    # Acknowledgements
    (ACKNOWLEDGE, parts(part_number=0), 400, "part_number_out_of_range"),
    (ACKNOWLEDGE, parts(part_number=4), 400, "part_number_out_of_range"),
    (ACKNOWLEDGE, parts(part_number=10_001), 400, "part_number_out_of_range"),
    (ACKNOWLEDGE, parts(part_number=2.0), 400, "invalid_body"),
    (ACKNOWLEDGE, parts(etag=""), 400, "invalid_etag"),
    (ACKNOWLEDGE, parts(etag='""'), 400, "invalid_etag"),
    (ACKNOWLEDGE, parts(etag="e" * 300), 400, "invalid_etag"),
    (ACKNOWLEDGE, parts(etag="a\0b"), 400, "invalid_etag"),
    (ACKNOWLEDGE, parts(etag="a\r\nb"), 400, "invalid_etag"),
    (ACKNOWLEDGE, parts(etag=None), 400, "invalid_body"),
    (ACKNOWLEDGE, parts(checksum="AAAA"), 400, "invalid_checksum"),
    (ACKNOWLEDGE, {"parts": parts()["parts"] * 2}, 400, "duplicate_part"),
    (ACKNOWLEDGE, {"parts": parts()["parts"] * 1001}, 400, "invalid_body"),
    (ACKNOWLEDGE, {}, 400, "invalid_body"),
    (ACKNOWLEDGE, {"parts": {}}, 400, "invalid_body"),
    (ACKNOWLEDGE, parts(part_number=1, checksum=OTHER_CRC), 409, "part_conflict"),
    # Completions
    (COMPLETE, None, 409, "parts_missing"),
    (COMPLETE, {"size": 7}, 400, "size_mismatch"),
    (COMPLETE, {"size": -1}, 400, "size_mismatch"),
    (COMPLETE, checksum("sha256", "AAAA"), 400, "invalid_checksum"),
    (COMPLETE, parts(part_number=10_001), 400, "part_number_out_of_range"),
    (COMPLETE, parts(part_number=1, checksum=OTHER_CRC), 409, "part_conflict"),
    (COMPLETE, b"[]", 400, "invalid_body"),
    (COMPLETE, b"{", 400, "invalid_body"),
    (f"{COMPLETE}?wait=61", None, 400, "invalid_query"),
    (f"{COMPLETE}?wait=-1", None, 400, "invalid_query"),
    ("POST /uploads/{unsized}/complete", None, 400, "size_required"),
    ("POST /uploads/{unsized}/complete", {"size": -1}, 400, "size_out_of_range"),
    ("POST /uploads/{unsized}/complete", {"size": 1 << 60}, 413, "file_too_large"),
    ("POST /uploads/{unsized}/complete", {"size": 1}, 409, "parts_missing"),
    # Progress
    ("POST /uploads/{open}/progress", {"in_flight": {"0": 1}}, 400, "part_number_out_of_range"),
    ("POST /uploads/{open}/progress", {"in_flight": {"4": 1}}, 400, "part_number_out_of_range"),
    ("POST /uploads/{open}/progress", {"in_flight": {"1": -1}}, 400, "invalid_body"),
    ("POST /uploads/{open}/progress", {"in_flight": {"x": 1}}, 400, "invalid_body"),
    ("POST /uploads/{open}/progress", {"in_flight": [1]}, 400, "invalid_body"),
    # Wrong states
    ("POST /uploads/{completed}/parts/sign", {"from": 1, "count": 1}, 409, "session_completed"),
    (
        "POST /uploads/{completed}/parts",
        {"parts": [{"part_number": 1, "etag": "e"}]},
        409,
        "session_completed",
    ),
    ("POST /uploads/{completed}/progress", {"in_flight": {"1": 1}}, 409, "session_completed"),
    ("DELETE /uploads/{completed}", None, 409, "session_completed"),
    ("POST /uploads/{aborted}/parts/sign", {"from": 1, "count": 1}, 410, "session_gone"),
    (
        "POST /uploads/{aborted}/parts",
        {"parts": [{"part_number": 1, "etag": "e"}]},
        410,
        "session_gone",
    ),
    ("POST /uploads/{aborted}/complete", None, 410, "session_gone"),
    ("POST /uploads/{aborted}/progress", {"in_flight": {"1": 1}}, 410, "session_gone"),
    ("GET /uploads/{aborted}/content", None, 410, "session_gone"),
    ("GET /uploads/{open}/content", None, 409, "not_completed"),
    ("GET /uploads/{open}/content?relay=1", None, 409, "not_completed"),
    ("GET /uploads/{completed}/content?relay=2", None, 400, "invalid_query"),
    # Lists
    ("GET /uploads?limit=0", None, 400, "invalid_query"),
    ("GET /uploads?limit=201", None, 400, "invalid_query"),
    ("GET /uploads?state=done", None, 400, "invalid_query"),
    ("GET /uploads?cursor=nonsense", None, 400, "invalid_cursor"),
    ("GET /uploads?cursor=%00%ff", None, 400, "invalid_cursor"),
    ("GET /uploads?cursor=-1", None, 400, "invalid_cursor"),
    ("GET /uploads/{open}/parts?cursor=x", None, 400, "invalid_query"),
    # Ids
    ("GET /uploads/{nobodys}", None, 404, "session_not_found"),
    ("GET /uploads/1", None, 404, "session_not_found"),
    ("GET /uploads/*", None, 404, "session_not_found"),
    ("DELETE /uploads/{nobodys}", None, 404, "session_not_found"),
    ("DELETE /uploads/..%2f..", None, 404, "session_not_found"),
    ("POST /uploads/{nobodys}/parts/sign", {"from": 1, "count": 1}, 404, "session_not_found"),
    ("POST /uploads/{nobodys}/parts", parts(), 404, "session_not_found"),
    ("POST /uploads/{nobodys}/complete", None, 404, "session_not_found"),
    ("POST /uploads/{nobodys}/progress", {"in_flight": {}}, 404, "session_not_found"),
    ("GET /uploads/{nobodys}/parts", None, 404, "session_not_found"),
    ("GET /uploads/{nobodys}/events", None, 404, "session_not_found"),
    ("GET /uploads/{nobodys}/content", None, 404, "session_not_found"),
    # Addresses and methods
    ("GET /uploads/{open}/nothing", None, 404, "no_such_route"),
    ("GET /uploads/", None, 404, "no_such_route"),
    ("PUT /uploads/{open}", None, 405, "method_not_allowed"),
    ("PATCH /uploads", None, 405, "method_not_allowed"),
    ("GET /uploads/{open}/complete", None, 405, "method_not_allowed"),
]


@pytest.mark.parametrize(("call", "body", "status", "code"), BAD)
async def test_bad_input_is_explained_and_changes_nothing(
    api: Api, call: str, body: Any, status: int, code: str
) -> None:
    before = await api.everything()
    method, path = call.split(" ", 1)
    answered, problem = await api.call(method, path, body)
    assert (answered, problem["code"]) == (status, code), problem
    assert problem["status"] == status
    assert problem["message"]
    assert problem["hint"]
    assert problem["request_id"]
    assert await api.everything() == before


@pytest.mark.parametrize("key", ["k" * 256, "a\tb", "é"])
async def test_an_idempotency_key_that_is_none_is_refused(api: Api, key: str) -> None:
    before = await api.everything()
    status, problem = await api.call(
        "POST",
        "/uploads",
        new(),
        headers={"Content-Type": "application/json", "Idempotency-Key": key},
    )
    assert (status, problem["code"]) == (400, "invalid_idempotency_key")
    assert await api.everything() == before


async def test_another_request_under_a_known_idempotency_key_is_refused(api: Api) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": uuid.uuid4().hex}
    status, first = await api.call("POST", "/uploads", new(), headers=headers)
    assert status == 201
    status, again = await api.call("POST", "/uploads", new(), headers=headers)
    assert (status, again["session_id"]) == (200, first["session_id"])
    before = await api.everything()
    status, problem = await api.call("POST", "/uploads", new(size=2), headers=headers)
    assert (status, problem["code"]) == (422, "idempotency_mismatch")
    assert problem["hint"]
    assert await api.everything() == before


_numbers = st.sampled_from([-1, 0, 1, 2, 10_000, 10_001, 1 << 31, 1 << 63, 1 << 64]) | st.floats()
_texts = st.sampled_from(["", "crc64nvme", "md5", CRC, "e", "/", "\0"]) | st.text(max_size=20)
_values = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["part_number", "etag", "checksum", "algorithm", "value", "size", "1"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
_bodies = st.dictionaries(
    st.sampled_from(
        ["filename", "size", "part_size", "parts", "from", "count", "checksum", "in_flight", "key"]
    ),
    _values,
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(
        ["", "/{fuzzed}/parts/sign", "/{fuzzed}/parts", "/{fuzzed}/complete", "/{fuzzed}/progress"]
    ),
    _bodies,
)
async def test_no_body_whatever_is_a_mistake_of_ours(
    api: Api, path: str, body: dict[str, Any]
) -> None:
    status, answer = await api.call("POST", f"/uploads{path}", body)
    assert status < 500, answer
    assert status < 400 or answer["hint"], answer


async def test_names_of_any_script_are_fine(api: Api) -> None:
    for name in ("🎬 film.mp4", "été.txt", "文件.bin", "a" * 1024, "'quoted' \"name\"; x=y"):
        status, session = await api.call("POST", "/uploads", new(filename=name))
        assert (status, session["filename"]) == (201, name)


async def test_missing_parts_are_named(api: Api) -> None:
    _, problem = await api.call("POST", "/uploads/{open}/complete")
    assert problem["details"]["missing"] == "2-3"


async def test_abort_again_is_a_success(api: Api) -> None:
    assert await api.call("DELETE", "/uploads/{aborted}") == (204, None)


async def test_a_stranger_is_told_nothing(api: Api) -> None:
    for path in ("/uploads", "/uploads/{open}", "/uploads/{nobodys}", "/uploads/1"):
        status, problem = await api.call("GET", path, headers={"Authorization": "Bearer nobody"})
        assert (status, problem["code"]) == (401, "invalid_token")
