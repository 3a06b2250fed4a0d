"""The wire of the native API: what is parsed into which call, and how results look."""

import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from gateways import SESSION_ID, FakeService, Serving
from samples import NOW, make_session

from gateway.core.checksums import Checksum
from gateway.core.model import (
    Acknowledged,
    NewUpload,
    Part,
    PartToSign,
    Problem,
    Progress,
    State,
    StoredObject,
    VerifiedBy,
)
from gateway.errors import Conflict, Gone, InvalidRequest, SessionNotFound

HERE = f"/uploads/{SESSION_ID}"
CRC = "AAAAAAAAAAA="


async def call(
    gateway: Serving, method: str, path: str, **options: Any
) -> tuple[int, Mapping[str, str], Any]:
    async with gateway.client.request(method, path, allow_redirects=False, **options) as answer:
        body = await answer.json(content_type=None) if await answer.read() else None
        return answer.status, answer.headers, body


async def test_a_session_is_shown_with_all_its_fields(
    gateway: Serving, service: FakeService
) -> None:
    service.session = make_session(
        size=30,
        progress=Progress(received_bytes=10, received_parts=1, received=b"\x80", in_flight_bytes=5),
        fingerprint="f-1",
        metadata={"album": "été"},
        checksum=Checksum("crc64nvme", CRC),
        updated_at=NOW + timedelta(milliseconds=5),
    )
    status, _, session = await call(gateway, "GET", HERE)
    assert status == 200
    assert session == {
        "session_id": SESSION_ID,
        "state": "open",
        "filename": "film.mp4",
        "content_type": "video/mp4",
        "size": 30,
        "part_size": 10,
        "part_count": 3,
        "received_bytes": 10,
        "received_parts": 1,
        "in_flight_bytes": 5,
        "missing": "2-3",
        "phase": "uploading",
        "fraction": pytest.approx(1 / 3),
        "checksum_algorithm": "crc64nvme",
        "checksum": {"algorithm": "crc64nvme", "value": CRC},
        "verified_by": None,
        "fingerprint": "f-1",
        "metadata": {"album": "été"},
        "created_at": "2026-11-21T12:00:00.000Z",
        "updated_at": "2026-11-21T12:00:00.005Z",
        "expires_at": "2026-11-28T12:00:00.000Z",
        "object": None,
        "error": None,
        "part_etag_is_md5": False,
    }


async def test_a_session_of_unknown_size_leaves_open_what_follows_from_it(
    gateway: Serving, service: FakeService
) -> None:
    service.session = make_session(size=None)
    _, _, session = await call(gateway, "GET", HERE)
    assert [session[name] for name in ("size", "part_count", "missing", "fraction")] == [None] * 4


async def test_a_completed_session_shows_its_object(gateway: Serving, service: FakeService) -> None:
    service.session = make_session(
        state=State.COMPLETED,
        verified_by=VerifiedBy.CLIENT_PARTS,
        object=StoredObject("b", "k", 10, "e-2", {"crc64nvme": CRC}, {"gw-session": "x"}),
    )
    _, _, session = await call(gateway, "GET", HERE)
    assert session["verified_by"] == "client_parts"
    assert session["object"] == {
        "bucket": "b",
        "key": "k",
        "etag": "e-2",
        "size": 10,
        "checksums": {"crc64nvme": CRC},
    }


@pytest.mark.parametrize("path", ["/uploads", "/uploads/init"])
async def test_create_hands_on_everything_that_was_sent(
    gateway: Serving, service: FakeService, path: str
) -> None:
    body = {
        "filename": "🎬.mp4",
        "size": 5,
        "content_type": "video/mp4",
        "part_size": 8,
        "bucket": "films",
        "key": "a/b",
        "checksum_algorithm": "crc32",
        "checksum": {"algorithm": "crc64nvme", "value": CRC},
        "metadata": {"a": "b"},
        "fingerprint": "f",
    }
    status, headers, session = await call(
        gateway, "POST", path, json=body, headers={"Idempotency-Key": "key-1"}
    )
    assert (status, headers["Location"]) == (201, HERE)
    assert "parts" not in session
    name, (principal, new), _ = service.calls[0]
    assert (name, principal.principal_id) == ("create", "local")
    assert new == NewUpload(
        filename="🎬.mp4",
        size=5,
        content_type="video/mp4",
        part_size=8,
        bucket="films",
        key="a/b",
        checksum_algorithm="crc32",
        checksum=Checksum("crc64nvme", CRC),
        metadata={"a": "b"},
        fingerprint="f",
        idempotency_key="key-1",
    )


async def test_create_needs_a_name_alone(gateway: Serving, service: FakeService) -> None:
    for body in ({"filename": "a"}, {"filename": "a", "size": None, "content_type": None}):
        assert (await call(gateway, "POST", "/uploads", json=body))[0] == 201
    assert [args[1] for _, args, _ in service.calls] == [NewUpload("a"), NewUpload("a")]


async def test_a_session_found_again_is_200(gateway: Serving, service: FakeService) -> None:
    service.created = False
    status, headers, _ = await call(gateway, "POST", "/uploads", json={"filename": "a"})
    assert (status, headers["Location"]) == (200, HERE)


async def test_create_signs_the_first_parts_at_once(gateway: Serving, service: FakeService) -> None:
    _, _, session = await call(gateway, "POST", "/uploads", json={"filename": "a", "sign": 2})
    assert [part["part_number"] for part in session["parts"]] == [1, 2]
    assert session["server_time"] == "2026-11-21T12:00:00.000Z"


async def test_another_body_under_a_known_idempotency_key_is_422(
    gateway: Serving, service: FakeService
) -> None:
    service.error = InvalidRequest("Another body.", code="idempotency_mismatch")
    status, _, problem = await call(gateway, "POST", "/uploads", json={"filename": "a"})
    assert (status, problem["code"]) == (422, "idempotency_mismatch")


async def test_sign_takes_parts_or_a_range(gateway: Serving, service: FakeService) -> None:
    parts = [
        {"part_number": 3},
        {"part_number": 1, "checksum": CRC, "size": 7, "replace": True},
    ]
    status, _, answer = await call(gateway, "POST", f"{HERE}/parts/sign", json={"parts": parts})
    assert status == 200
    assert service.calls[-1][1][2] == [PartToSign(3), PartToSign(1, 7, CRC, replace=True)]
    assert answer["parts"][0] == {
        "part_number": 3,
        "url": "https://s3.example/3",
        "method": "PUT",
        "headers": {},
        "size": 10,
        "expires_at": "2026-11-21T12:00:00.000Z",
    }
    assert answer["server_time"] == "2026-11-21T12:00:00.000Z"
    assert service.calls[-1][2] == {"expires_in": None}
    body = {"from": 4, "count": 2, "expires_in": 60}
    await call(gateway, "POST", f"{HERE}/parts/sign", json=body)
    assert service.calls[-1][1][2] == [PartToSign(4), PartToSign(5)]
    assert service.calls[-1][2] == {"expires_in": 60}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"from": 1},
        {"count": 1},
        {"parts": None},
        {"parts": [{"part_number": 1}], "from": 1, "count": 1},
        {"parts": [{"part_number": 1}], "count": 1},
        {"from": 1, "count": 0},
        {"from": 1, "count": 1001},
        {"from": "1", "count": 1},
        {"parts": [{"part_number": 1}] * 1001},
        {"parts": [{"part_number": 1.0}]},
        {"parts": [{"part_number": True}]},
        {"parts": [{}]},
        {"parts": [1]},
        {"parts": "1-3"},
        {"parts": [{"part_number": 1, "replace": "yes"}]},
        {"parts": [{"part_number": 1}], "expires_in": "60"},
        {"parts": [{"part_number": 1}], "expires_in": 60.0},
    ],
)
async def test_sign_refuses_what_is_neither(
    gateway: Serving, service: FakeService, body: dict[str, Any]
) -> None:
    status, _, problem = await call(gateway, "POST", f"{HERE}/parts/sign", json=body)
    assert (status, problem["code"]) == (400, "invalid_body")
    assert problem["hint"]
    assert service.calls == []


async def test_acknowledge_tells_what_became_of_each_part(
    gateway: Serving, service: FakeService
) -> None:
    parts = [
        {"part_number": 2, "etag": '"e2"', "checksum": CRC},
        {"part_number": 1, "etag": "e1"},
    ]
    status, _, answer = await call(gateway, "POST", f"{HERE}/parts", json={"parts": parts})
    assert status == 200
    assert service.calls[-1][1][2] == [Acknowledged(2, '"e2"', CRC), Acknowledged(1, "e1")]
    assert answer["session"]["session_id"] == SESSION_ID
    assert answer["outcomes"] == [
        {"part_number": 2, "outcome": "stored"},
        {"part_number": 1, "outcome": "stored"},
    ]


async def test_parts_are_listed_in_pages(gateway: Serving, service: FakeService) -> None:
    service.known_parts = tuple(Part(number, 10, f"e{number}") for number in (1, 2, 3, 5, 8))
    seen: list[int] = []
    path: str | None = f"{HERE}/parts?limit=2"
    while path:
        status, headers, page = await call(gateway, "GET", path)
        assert status == 200
        seen += [part["part_number"] for part in page["parts"]]
        assert ("Link" in headers) == (page["next_cursor"] is not None)
        path = headers["Link"].removeprefix("<").partition(">")[0] if "Link" in headers else None
    assert seen == [1, 2, 3, 5, 8]
    _, _, page = await call(gateway, "GET", f"{HERE}/parts")
    assert page["parts"][0] == {"part_number": 1, "size": 10, "etag": "e1", "checksum": None}
    assert page["next_cursor"] is None


async def test_sessions_are_listed_with_a_link_to_the_next_page(
    gateway: Serving, service: FakeService
) -> None:
    service.cursor = "c&2"
    path = "/uploads?fingerprint=f%201&state=open,verifying&limit=7&cursor=c1"
    status, headers, page = await call(gateway, "GET", path)
    assert status == 200
    assert service.calls[-1][2] == {
        "states": frozenset({State.OPEN, State.VERIFYING}),
        "fingerprint": "f 1",
        "cursor": "c1",
        "limit": 7,
    }
    assert page["uploads"][0]["session_id"] == SESSION_ID
    assert page["next_cursor"] == "c&2"
    assert headers["Link"].endswith('; rel="next"')
    service.cursor = None
    status, headers, page = await call(
        gateway, "GET", headers["Link"].removeprefix("<").partition(">")[0]
    )
    assert service.calls[-1][2]["cursor"] == "c&2"
    assert service.calls[-1][2]["fingerprint"] == "f 1"
    assert "Link" not in headers
    await call(gateway, "GET", "/uploads")
    assert service.calls[-1][2] == {
        "states": None,
        "fingerprint": None,
        "cursor": None,
        "limit": 50,
    }


@pytest.mark.parametrize(
    "path",
    [
        "/uploads?limit=0",
        "/uploads?limit=201",
        "/uploads?limit=-1",
        "/uploads?limit=1.0",
        "/uploads?limit=x",
        "/uploads?limit=%D9%A7",
        "/uploads?limit=" + "1" * 50,
        "/uploads?limit=",
        "/uploads?limit=1&limit=2",
        "/uploads?state=unknown",
        "/uploads?state=open,,",
        "/uploads?cursor=" + "c" * 600,
        "/uploads?fingerprint=" + "f" * 300,
        f"{HERE}/parts?limit=0",
        f"{HERE}/parts?limit=10001",
        f"{HERE}/parts?cursor=-1",
        f"{HERE}/parts?cursor=10001",
        f"{HERE}/parts?cursor=abc",
        f"{HERE}/content?relay=yes",
    ],
)
async def test_a_query_that_is_not_valid_is_explained(
    gateway: Serving, service: FakeService, path: str
) -> None:
    status, _, problem = await call(gateway, "GET", path)
    assert (status, problem["code"]) == (400, "invalid_query")
    assert problem["hint"]
    assert service.calls == []


async def test_progress_is_handed_on_by_number(gateway: Serving, service: FakeService) -> None:
    body = {"in_flight": {"7": 3_145_728, "10000": 0}}
    assert (await call(gateway, "POST", f"{HERE}/progress", json=body))[0] == 204
    assert service.calls[-1][1][2] == {7: 3_145_728, 10_000: 0}


@pytest.mark.parametrize(
    "in_flight",
    [
        None,
        [],
        {"a": 1},
        {"-1": 1},
        {"1.0": 1},
        {"\u0667": 1},
        {"123456": 1},
        {"": 1},
        {"1\n": 1},
        {"1": -1},
        {"1": "1"},
        {"1": 1.5},
        {"1": None},
        {str(number): 1 for number in range(1001)},
    ],
)
async def test_progress_that_makes_no_sense_is_refused(
    gateway: Serving, service: FakeService, in_flight: Any
) -> None:
    status, _, problem = await call(
        gateway, "POST", f"{HERE}/progress", json={"in_flight": in_flight}
    )
    assert (status, problem["code"]) == (400, "invalid_body")
    assert service.calls == []


async def test_complete_answers_by_what_became_of_the_session(
    gateway: Serving, service: FakeService
) -> None:
    service.session = make_session(state=State.COMPLETED)
    status, _, session = await call(gateway, "POST", f"{HERE}/complete")
    assert (status, session["state"]) == (200, "completed")
    for state in (State.COMPLETING, State.VERIFYING):
        service.session = make_session(state=state)
        status, headers, session = await call(gateway, "POST", f"{HERE}/complete")
        assert (status, session["state"]) == (202, state.value)
        assert int(headers["Retry-After"]) >= 1
    for state in (State.CORRUPT, State.REJECTED):
        service.session = make_session(
            state=state, error=Problem("checksum_mismatch", "Other bytes.", "Again.")
        )
        status, _, problem = await call(gateway, "POST", f"{HERE}/complete")
        assert (status, problem["code"]) == (422, state.value)
        assert (problem["message"], problem["hint"]) == ("Other bytes.", "Again.")
        assert problem["details"]["session"]["state"] == state.value


async def test_complete_hands_on_what_was_sent(gateway: Serving, service: FakeService) -> None:
    service.session = make_session(state=State.COMPLETED)
    await call(gateway, "POST", f"{HERE}/complete")
    assert service.calls[-1][2] == {"parts": [], "size": None, "checksum": None, "wait": 10.0}
    body = {
        "parts": [{"part_number": 1, "etag": "e"}],
        "size": 3,
        "checksum": {"algorithm": "crc64nvme", "value": CRC},
    }
    await call(gateway, "POST", f"{HERE}/complete?wait=0", json=body)
    assert service.calls[-1][2] == {
        "parts": [Acknowledged(1, "e")],
        "size": 3,
        "checksum": Checksum("crc64nvme", CRC),
        "wait": 0.0,
    }


async def test_complete_takes_ten_thousand_parts_and_no_more(
    gateway: Serving, service: FakeService
) -> None:
    service.session = make_session(state=State.COMPLETED)
    part = {"part_number": 1, "etag": "e" * 32, "checksum": "c" * 44}

    async def complete(count: int) -> tuple[int, Mapping[str, str], Any]:
        body = io.BytesIO(orjson.dumps({"parts": [part] * count}))
        headers = {"Content-Type": "application/json"}
        return await call(gateway, "POST", f"{HERE}/complete", data=body, headers=headers)

    status, _, _ = await complete(10_000)
    assert status == 200
    assert len(service.calls[-1][2]["parts"]) == 10_000
    status, _, problem = await complete(10_001)
    assert (status, problem["code"]) == (400, "invalid_body")
    part["etag"] = "e" * 5_000
    status, _, problem = await complete(1_000)
    assert (status, problem["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "wait", ["-1", "61", "60.5", "nan", "inf", "1e1", "x", "1&wait=2", "\u0663"]
)
async def test_a_wait_out_of_bounds_is_refused(
    gateway: Serving, service: FakeService, wait: str
) -> None:
    status, _, problem = await call(gateway, "POST", f"{HERE}/complete?wait={wait}")
    assert (status, problem["code"]) == (400, "invalid_query")
    assert service.calls == []


async def test_abort_is_204(gateway: Serving, service: FakeService) -> None:
    status, _, body = await call(gateway, "DELETE", HERE)
    assert (status, body) == (204, None)
    service.error = Conflict("Too late.", code="session_completed")
    status, _, problem = await call(gateway, "DELETE", HERE)
    assert (status, problem["code"]) == (409, "session_completed")


async def test_details_of_errors_come_through(gateway: Serving, service: FakeService) -> None:
    service.error = Conflict("Missing.", code="parts_missing", details={"missing": "3-17"})
    status, _, problem = await call(gateway, "POST", f"{HERE}/complete")
    assert (status, problem["details"]) == (409, {"missing": "3-17"})
    service.error = Gone("Aborted.")
    status, _, problem = await call(gateway, "GET", f"{HERE}/parts")
    assert (status, problem["code"]) == (410, "session_gone")


@pytest.mark.parametrize(
    "session_id",
    [
        "0",
        "0" * 31,
        "0" * 33,
        "G" * 32,
        "A" * 32,
        "%00" * 32,
        "..%2f" * 8,
        "\u0663" * 32,
        "0" * 31 + "%0a",
        "x" * 5000,
    ],
)
async def test_an_id_of_the_wrong_shape_is_as_unknown_as_any(
    gateway: Serving, service: FakeService, session_id: str
) -> None:
    answers = []
    for method, path in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/parts"),
        ("POST", "/complete"),
        ("GET", "/events"),
        ("GET", "/content"),
    ]:
        status, _, problem = await call(gateway, method, f"/uploads/{session_id}{path}")
        answers.append((status, problem["code"], problem["message"]))
    assert service.calls == []
    service.error = SessionNotFound()
    status, _, problem = await call(gateway, "GET", HERE)
    assert set(answers) == {(status, problem["code"], problem["message"])}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"filename": None},
        {"filename": 1},
        {"filename": ["a"]},
        {"filename": "a", "size": "1"},
        {"filename": "a", "size": 1.5},
        {"filename": "a", "size": True},
        {"filename": "a", "size": 1 << 70},
        {"filename": "a", "part_size": "8 MiB"},
        {"filename": "a", "sign": -1},
        {"filename": "a", "sign": 1001},
        {"filename": "a", "sign": True},
        {"filename": "a", "checksum": "abc"},
        {"filename": "a", "checksum": {"algorithm": "crc32"}},
        {"filename": "a", "metadata": {"a": 1}},
        {"filename": "a", "metadata": "a"},
        {"filename": "a", "metadata": {"a": {"b": "c"}}},
        {"filename": "a", "fingerprint": 7},
    ],
)
async def test_create_refuses_wrong_types(
    gateway: Serving, service: FakeService, body: dict[str, Any]
) -> None:
    status, _, problem = await call(gateway, "POST", "/uploads", json=body)
    assert (status, problem["code"]) == (400, "invalid_body")
    assert problem["hint"]
    assert service.calls == []


async def test_two_idempotency_keys_are_one_too_many(
    gateway: Serving, service: FakeService
) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    status, _, problem = await call(
        gateway, "POST", "/uploads", json={"filename": "a"}, headers=headers
    )
    assert (status, problem["code"]) == (400, "invalid_idempotency_key")
    assert service.calls == []


async def test_the_version_is_public_and_tells_what_the_store_can(
    gateway: Serving, service: FakeService
) -> None:
    service.limits = replace(
        service.limits, part_checksums=frozenset({"sha256", "crc32c"}), part_etag_is_md5=True
    )
    status, _, version = await call(gateway, "GET", "/version", headers={"Authorization": ""})
    assert status == 200
    assert (version["name"], version["version"]) == ("multipart-gateway", "1.2.3")
    assert version["server_time"] == "2026-11-21T12:00:00.000Z"
    store = version["store"]
    assert store["checksums"] == ["crc32c", "sha256"]
    assert store["default_checksum"] == "crc32c"
    assert store["part_etag_is_md5"] is True
    assert store["max_parts"] == 10_000
    assert store["min_part_size"] == 5 << 20


async def test_head_is_get_without_a_body(gateway: Serving) -> None:
    for path in ("/uploads", HERE, f"{HERE}/parts", "/version"):
        async with gateway.client.head(path) as answer:
            assert answer.status == 200
            assert int(answer.headers["Content-Length"]) > 0
            assert await answer.read() == b""


@pytest.mark.parametrize("call_name", ["parts", "parts/sign", "complete"])
async def test_of_many_wrong_parts_only_the_first_is_looked_at(
    gateway: Serving, service: FakeService, call_name: str
) -> None:
    body = {"parts": [{"part_number": "1", "etag": "e"}] * 1000}
    status, _, problem = await call(gateway, "POST", f"{HERE}/{call_name}", json=body)
    assert (status, problem["code"]) == (400, "invalid_body")
    assert problem["details"]["error_count"] == 1
    assert problem["details"]["errors"][0]["field"] == "parts.0.part_number"
    assert service.calls == []
