"""What the older chunk APIs look like from outside: fields, bodies, statuses and words."""

from dataclasses import replace
from typing import Any, cast

import aiohttp
import orjson
import pytest
from gateways import ORIGIN, SESSION_ID, TOKEN, FakeService, Serving, serving
from samples import make_session

from gateway.core.access import Principal
from gateway.core.model import ChunkPlan, Problem, Progress, State, UploadSession
from gateway.doors.chunks import ChunksDoor, ChunksOptions
from gateway.doors.chunks.render import from_one
from gateway.errors import (
    Conflict,
    GatewayError,
    InvalidRequest,
    SessionNotFound,
    StorageFull,
    TooLarge,
    Unavailable,
)

FILE_ID = "550e8400-e29b-41d4-a716-446655440000"
A = {"file_id": FILE_ID, "chunk_index": "0", "total_chunks": "5", "filename": "large_file.pdf"}
B = {"upload_id": FILE_ID, "chunk_index": "0", "total_chunks": "5", "file_name": "serie.cbz"}
PARTS = "/uploads/sessions"


def in_chunks(*stored: int, total: int = 5, **changes: Any) -> UploadSession:
    """Return a session of which these chunks are stored."""
    bits = bytearray(-(-total // 8))
    for index in stored:
        bits[index // 8] |= 0x80 >> index % 8
    changes.setdefault("filename", "large_file.pdf")
    return make_session(
        size=None,
        part_size=5,
        chunks=ChunkPlan(total, size=1),
        progress=Progress(received_chunks=len(stored), chunks=bytes(bits), chunks_known=True),
        **changes,
    )


def form(fields: dict[str, str], file: str = "chunk", *, first: bool = False) -> aiohttp.FormData:
    data = aiohttp.FormData()
    if first:
        data.add_field(file, b"bytes of a chunk", filename="blob")
    for name, value in fields.items():
        data.add_field(name, value)
    if not first:
        data.add_field(file, b"bytes of a chunk", filename="blob")
    return data


async def answer_to(
    gateway: Serving, method: str, path: str, **options: Any
) -> tuple[int, dict[str, Any]]:
    async with gateway.client.request(method, path, **options) as answer:
        assert answer.content_type == "application/json"
        return answer.status, orjson.loads(await answer.read())


# Form A.


@pytest.mark.parametrize("order", ["fields first", "file first"])
async def test_a_chunk_is_answered_as_the_document_of_form_a_says(
    gateway: Serving, service: FakeService, order: str
) -> None:
    first = order == "file first"
    service.session = in_chunks(0, 1, 3)
    status, answer = await answer_to(gateway, "POST", "/upload-chunk", data=form(A, first=first))
    assert status == 200
    assert answer == {
        "file_id": FILE_ID,
        "filename": "large_file.pdf",
        "type": "file",
        "status": "uploading",
        "uploaded_chunks": 3,
        "total_chunks": 5,
    }
    name, (principal, file, index), options = service.calls[-1]
    assert (name, principal.principal_id, index) == ("put_chunk", "local", 0)
    assert options == {"size": 16 if first else None, "wait": 10}
    assert (file.form, file.file_id, file.total_chunks) == ("a", FILE_ID, 5)
    assert (file.filename, file.completes_itself) == ("large_file.pdf", True)
    assert service.content == b"bytes of a chunk"
    assert (service.loose is not None) == first
    assert service.loose is None or service.loose.discarded


async def test_the_last_chunk_is_answered_with_completed(
    gateway: Serving, service: FakeService
) -> None:
    service.session = in_chunks(*range(5), state=State.COMPLETED)
    status, answer = await answer_to(gateway, "POST", "/upload-chunk", data=form(A))
    assert status == 200
    assert (answer["status"], answer["uploaded_chunks"]) == ("completed", 5)


async def test_the_status_of_form_a_is_where_a_client_resumes(
    gateway: Serving, service: FakeService
) -> None:
    service.session = in_chunks(0, 1, 3)
    assert await answer_to(gateway, "GET", f"/upload-status/{FILE_ID}") == (
        200,
        {
            "status": "uploading",
            "uploaded_chunks": 2,
            "file_exists": False,
            "received_chunks": 3,
            "missing_chunks": "2,4",
            "total_chunks": 5,
            "phase": "uploading",
            "fraction": 0.6,
        },
    )
    assert service.calls[-1][1][1:] == ("a", FILE_ID)


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        ({"state": State.COMPLETED}, {"status": "completed", "file_exists": True}),
        ({"state": State.ABORTED}, {"status": "not_found", "file_exists": False}),
        ({"state": State.EXPIRED}, {"status": "not_found", "file_exists": False}),
        (
            {"state": State.CORRUPT, "error": Problem("corrupt", "Other bytes.")},
            {"status": "failed", "file_exists": False, "detail": "Other bytes."},
        ),
    ],
)
async def test_the_other_statuses_of_form_a(
    gateway: Serving, service: FakeService, session: dict[str, Any], expected: dict[str, Any]
) -> None:
    service.session = in_chunks(*range(5), **session)
    assert await answer_to(gateway, "GET", f"/upload-status/{FILE_ID}") == (200, expected)


async def test_an_unknown_file_is_not_found_and_no_error(
    gateway: Serving, service: FakeService
) -> None:
    service.error = SessionNotFound()
    assert await answer_to(gateway, "GET", f"/upload-status/{FILE_ID}") == (
        200,
        {"status": "not_found", "file_exists": False},
    )
    assert await answer_to(gateway, "GET", f"/administration/upload/status/{FILE_ID}/") == (
        200,
        {"upload_id": FILE_ID, "file_name": None, "status": "not_found", "file_exists": False},
    )


async def test_an_id_may_be_any_text(gateway: Serving, service: FakeService) -> None:
    service.session = in_chunks(0)
    for file_id in ("ü 🎬", "a/b", "..%2f", "?&#"):
        status, _ = await answer_to(
            gateway, "POST", "/upload-chunk", data=form({**A, "file_id": file_id})
        )
        assert status == 200
        assert service.calls[-1][1][1].file_id == file_id
    async with gateway.client.get("/upload-status/%C3%BC%20a%2Fb") as answer:
        assert answer.status == 200
    assert service.calls[-1][1][2] == "ü a/b"


# Form B.


@pytest.mark.parametrize("file", ["chunk", "file"])
@pytest.mark.parametrize("slash", ["/", ""])
async def test_form_b_posts_chunks_and_asks_for_the_assembly(
    gateway: Serving, service: FakeService, file: str, slash: str
) -> None:
    service.session = in_chunks(0, 2, filename="serie.cbz")
    path = f"/administration/upload/chunk{slash}"
    uploading = {
        "upload_id": FILE_ID,
        "file_name": "serie.cbz",
        "status": "uploading",
        "uploaded_chunks": 2,
        "total_chunks": 5,
        "phase": "uploading",
        "fraction": 0.4,
    }
    assert await answer_to(gateway, "POST", path, data=form(B, file)) == (200, uploading)
    file_sent = service.calls[-1][1][1]
    assert (file_sent.form, file_sent.filename, file_sent.completes_itself) == (
        "b",
        "serie.cbz",
        False,
    )
    status, answer = await answer_to(
        gateway, "GET", f"/administration/upload/status/{FILE_ID}{slash}"
    )
    assert status == 200
    assert (answer["upload_id"], answer["file_name"]) == (FILE_ID, "serie.cbz")
    assert (answer["uploaded_chunks"], answer["missing_chunks"]) == (1, "1,3-4")

    service.session = in_chunks(*range(5), state=State.COMPLETED, filename="serie.cbz")
    for options in (
        {"data": {"upload_id": FILE_ID}},
        {"json": {"upload_id": FILE_ID}},
        {"data": form({"upload_id": FILE_ID})},
    ):
        if "chunk" in str(options):
            continue
        path = f"/administration/upload/complete{slash}"
        status, answer = await answer_to(gateway, "POST", path, **cast("Any", options))
        assert (status, answer["status"], answer["uploaded_chunks"]) == (200, "completed", 5)
    assert [call[0] for call in service.calls[-2:]] == ["find_chunked", "complete"]


async def test_a_completion_of_form_b_goes_by_multipart_too_and_ignores_the_rest(
    gateway: Serving, service: FakeService
) -> None:
    service.session = in_chunks(*range(5), state=State.COMPLETED)
    data = aiohttp.FormData({"upload_id": FILE_ID, "csrfmiddlewaretoken": "x" * 64})
    data.add_field("odd", b"x", filename="of no use")
    status, answer = await answer_to(gateway, "POST", "/administration/upload/complete/", data=data)
    assert (status, answer["status"]) == (200, "completed")


async def test_a_completion_under_way_is_202_and_a_damaged_file_422(
    gateway: Serving, service: FakeService
) -> None:
    path, body = "/administration/upload/complete/", {"upload_id": FILE_ID}
    service.session = in_chunks(*range(5), state=State.VERIFYING)
    async with gateway.client.post(path, data=body) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (202, "1")
        document = await answer.json()
        assert (document["status"], document["phase"]) == ("uploading", "verifying")
    service.session = in_chunks(
        *range(5), state=State.REJECTED, error=Problem("rejected", "No .exe here.")
    )
    assert await answer_to(gateway, "POST", path, data=body) == (422, {"detail": "No .exe here."})


async def test_a_completion_that_is_too_early_names_what_is_missing(
    gateway: Serving, service: FakeService
) -> None:
    service.session = in_chunks(0)
    service.complete = _raising(  # type: ignore[method-assign]
        Conflict("Chunks are missing.", code="chunks_missing", details={"missing": "1-4"})
    )
    path, body = "/administration/upload/complete/", {"upload_id": FILE_ID}
    assert await answer_to(gateway, "POST", path, data=body) == (
        409,
        {"detail": "Chunks are missing.", "missing_chunks": "1-4"},
    )
    service.session = replace(in_chunks(0), size=5)
    assert await answer_to(gateway, "POST", f"{PARTS}/d-{'0' * 32}/complete") == (
        409,
        {
            "detail": "Parts are missing: 2-5. Send them, then complete again.",
            "code": "parts_missing",
            "missing_parts": "2-5",
        },
    )


def _raising(error: GatewayError) -> Any:
    async def verb(*_args: Any, **_options: Any) -> Any:
        raise error

    return verb


# What is wrong is said in the documents' words.


@pytest.mark.parametrize(
    ("path", "fields", "file"),
    [("/upload-chunk", A, "chunk"), ("/administration/upload/chunk/", B, "chunk")],
)
async def test_a_missing_field_is_named(
    gateway: Serving, service: FakeService, path: str, fields: dict[str, str], file: str
) -> None:
    for name in fields:
        for lacking in (
            {key: value for key, value in fields.items() if key != name},
            {**fields, name: ""},
        ):
            for first in (False, True):
                assert await answer_to(gateway, "POST", path, data=form(lacking, first=first)) == (
                    400,
                    {"detail": f"Missing required parameter: {name}"},
                )
                assert service.loose is not None
                assert service.loose.discarded
    assert await answer_to(gateway, "POST", path, data=form(fields, "other")) == (
        400,
        {"detail": f"Missing required parameter: {file}"},
    )
    assert "put_chunk" not in [call[0] for call in service.calls]


@pytest.mark.parametrize(
    ("name", "value", "detail"),
    [
        ("chunk_index", "-1", "Invalid parameter: chunk_index must be a whole number."),
        ("chunk_index", "1.0", "Invalid parameter: chunk_index must be a whole number."),
        ("chunk_index", "٣", "Invalid parameter: chunk_index must be a whole number."),
        ("chunk_index", "9" * 4000, "Invalid parameter: chunk_index must be a whole number."),
        ("chunk_index", "5", "The file has no such chunk. Its chunks are numbered from 0 to 4."),
        ("total_chunks", "five", "Invalid parameter: total_chunks must be a whole number."),
        ("total_chunks", "0", "total_chunks must lie between 1 and 1000000."),
        ("total_chunks", "1000001", "total_chunks must lie between 1 and 1000000."),
        ("filename", "../a", "filename must be a name, not a path."),
        ("filename", "x" * 1025, "filename"),
        ("file_id", "x" * 256, "file_id"),
        ("file_id", "a\nb", "file_id"),
    ],
)
async def test_a_field_that_makes_no_sense_is_refused(
    gateway: Serving, service: FakeService, name: str, value: str, detail: str
) -> None:
    names = {"file_id": "upload_id", "filename": "file_name"}
    for path, fields, own in (
        ("/upload-chunk", A, name),
        ("/administration/upload/chunk/", B, names.get(name, name)),
    ):
        status, answer = await answer_to(gateway, "POST", path, data=form({**fields, own: value}))
        assert status == 400
        assert set(answer) == {"detail"}
        assert answer["detail"].startswith(detail.replace(name, own)), answer
        assert len(answer["detail"]) < 300
    assert service.calls == []


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (StorageFull("The store has no room left."), 507, "Chunk upload failed: disk space full"),
        (
            Unavailable("The store cannot answer for now."),
            503,
            "Chunk upload failed: The store cannot answer for now.",
        ),
        (Conflict("Other bytes.", hint="Keep."), 409, "Other bytes. Keep."),
        (TooLarge("Too large."), 413, "Too large."),
        (InvalidRequest("file_id is odd."), 400, "file_id is odd."),
        (SessionNotFound(), 404, "File not found"),
    ],
)
async def test_errors_are_told_in_one_text(
    gateway: Serving, service: FakeService, error: GatewayError, status: int, detail: str
) -> None:
    service.error = error
    for path, fields in (("/upload-chunk", A), ("/administration/upload/chunk/", B)):
        own = detail if fields is A else detail.replace("file_id", "upload_id")
        async with gateway.client.post(path, data=form(fields)) as answer:
            assert (answer.status, orjson.loads(await answer.read())) == (status, {"detail": own})
            assert ("Retry-After" in answer.headers) == error.retryable


@pytest.mark.parametrize("path", ["/upload-chunk", "/administration/upload/chunk/"])
async def test_what_is_no_form_is_refused(
    gateway: Serving, service: FakeService, path: str
) -> None:
    for headers, status in (
        ({"Content-Type": "application/json"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data"}, 400),
        ({"Content-Type": "multipart/form-data; boundary=" + "b" * 10_240}, 400),
        ({"Content-Type": "multipart/form-data; boundary=b"}, 400),
        ({"Content-Type": "multipart/form-data; boundary=b", "Content-Encoding": "gzip"}, 415),
    ):
        found, answer = await answer_to(gateway, "POST", path, data=b"{}", headers=headers)
        assert (found, set(answer)) == (status, {"detail"})
    assert service.calls == []


# Who calls.


async def test_without_credentials_the_setting_says_who_calls_forms_a_and_b(
    service: FakeService,
) -> None:
    service.session = in_chunks(0)
    door = ChunksDoor(cast("Any", service), ChunksOptions(principal=Principal("appliance")))
    async with (
        serving([door]) as gateway,
        aiohttp.ClientSession(f"http://{gateway.host}:{gateway.port}") as nobody,
    ):
        for path, fields in (("/upload-chunk", A), ("/administration/upload/chunk", B)):
            async with nobody.post(path, data=form(fields)) as answer:
                assert answer.status == 200
            assert service.calls[-1][1][0] == Principal("appliance")
            own = {"Authorization": f"Bearer {TOKEN}"}
            async with nobody.post(path, data=form(fields), headers=own) as answer:
                assert answer.status == 200
            assert service.calls[-1][1][0].principal_id == "local"
            for headers, status in (
                ({"Authorization": "Bearer wrong"}, 401),
                ({"Authorization": ""}, 401),
                ({"Origin": "https://evil.example"}, 403),
                ({"Origin": ORIGIN}, 200),
                ({"Origin": f"http://{gateway.host}:{gateway.port}"}, 200),
            ):
                async with nobody.post(path, data=form(fields), headers=headers) as answer:
                    assert answer.status == status, headers
        for method, path in (("PUT", f"/uploads/{SESSION_ID}/part/0"), ("POST", PARTS)):
            async with nobody.request(method, path) as answer:
                assert answer.status == 401


# Forms C and D.


async def test_form_c_counts_parts_from_0(gateway: Serving, service: FakeService) -> None:
    service.session = make_session(progress=Progress(received_bytes=10, received_parts=1))
    headers = {"Content-Digest": "crc32c=:AAAAAA==:"}
    status, answer = await answer_to(
        gateway, "PUT", f"/uploads/{SESSION_ID}/part/0", data=b"0123456789", headers=headers
    )
    assert status == 200
    assert (answer["upload_id"], answer["idx"], answer["outcome"]) == (SESSION_ID, 0, "stored")
    assert (answer["received_parts"], answer["part_count"]) == (1, 1)
    name, (_, session_id, number), options = service.calls[-1]
    assert (name, session_id, number, options["size"]) == ("put_part", SESSION_ID, 1, 10)
    assert [checksum.algorithm for checksum in options["checksums"]] == ["crc32c"]
    service.error = InvalidRequest(
        "No such part.", code="part_number_out_of_range", hint="Numbers are 1 to 2."
    )
    async with gateway.client.put(f"/uploads/{SESSION_ID}/part/2", data=b"x") as refused:
        problem = orjson.loads(await refused.read())
        assert problem["hint"] == "An index is the number of a part less 1. Numbers are 1 to 2."
    for idx in ("-1", "x", "1.0", "9" * 30, "٣"):
        async with gateway.client.put(f"/uploads/{SESSION_ID}/part/{idx}") as refused:
            assert refused.status == 400
            problem = orjson.loads(await refused.read())
            assert {"code", "message", "hint", "retryable"} <= set(problem)
            assert problem["code"] == "part_number_out_of_range"


@pytest.mark.parametrize(
    ("body", "verb", "part_size"),
    [
        ({"size": 30_000_000, "part_size": 10_000_000}, "create", 10_000_000),
        ({"size": 30_000_000, "total_parts": 3}, "create", 10_000_000),
        ({"size": 30_000_000}, "create", None),
        ({"size": 0, "total_parts": 1}, "create", 5 * 1024 * 1024),
        ({"size": 100, "part_size": 1000}, "create", 5 * 1024 * 1024),
        ({"size": 2_500_000, "part_size": 1_000_000}, "open_chunked", 1_000_000),
        ({"size": 2_500_000, "total_parts": 3}, "open_chunked", 833_334),
        ({"size": 10, "part_size": 3, "total_parts": 4}, "open_chunked", 3),
        ({"size": 10_001 * 6_000_000, "part_size": 6_000_000}, "open_chunked", 6_000_000),
    ],
)
async def test_parts_of_form_d_have_the_size_that_was_asked_for(
    gateway: Serving, service: FakeService, body: dict[str, Any], verb: str, part_size: int | None
) -> None:
    status, answer = await answer_to(gateway, "POST", PARTS, json={"filename": "a.bin", **body})
    assert status == 201
    assert answer["status"] == "INIT"
    name, (_, what), options = service.calls[-1]
    assert name == verb
    if name == "create":
        assert (what.part_size, what.size) == (part_size, body["size"])
        assert answer["session_id"] == SESSION_ID
    else:
        assert options == {"chunk_size": part_size, "size": body["size"]}
        assert (what.form, what.file_id) == ("d", answer["session_id"])
        assert what.total_chunks == -(-body["size"] // (part_size or 1))


@pytest.mark.parametrize(
    "body",
    [
        {"size": 10, "total_parts": 7},
        {"size": 10, "total_parts": 0},
        {"size": 10, "total_parts": -1},
        {"size": 10, "part_size": -5, "total_parts": 2},
        {"size": 10, "part_size": 0},
        {"size": -1, "part_size": -5},
        {"size": 10, "part_size": 5, "total_parts": 3},
        {"size": 0, "total_parts": 2},
        {"size": "10", "total_parts": 2},
        {"total_parts": 2},
    ],
)
async def test_parts_that_do_not_make_up_the_file_are_refused(
    gateway: Serving, service: FakeService, body: dict[str, Any]
) -> None:
    status, answer = await answer_to(gateway, "POST", PARTS, json={"filename": "a.bin", **body})
    assert status == 400
    assert answer["code"] in {"invalid_total_parts", "invalid_body"}
    # There are none in this form.
    assert "details" not in answer["detail"]
    assert service.calls == []


async def test_form_d_shows_the_states_in_its_words(gateway: Serving, service: FakeService) -> None:
    for session, word in (
        (make_session(), "INIT"),
        (make_session(progress=Progress(received_parts=1)), "IN_PROGRESS"),
        (make_session(state=State.COMPLETING), "COMPLETING"),
        (make_session(state=State.VERIFYING), "VERIFYING"),
        (make_session(state=State.COMPLETED), "COMPLETED"),
        (make_session(state=State.CORRUPT), "CORRUPT"),
        (make_session(state=State.ABORTED), "ABORTED"),
        (make_session(state=State.EXPIRED), "EXPIRED"),
    ):
        service.session = session
        _, answer = await answer_to(gateway, "GET", f"{PARTS}/{SESSION_ID}")
        assert answer["status"] == word
    small = f"{PARTS}/d-{'0' * 32}"
    for stored, word, missing in (
        ((), "INIT", "1-5"),
        ((0, 2), "IN_PROGRESS", "2,4-5"),
        (range(5), "IN_PROGRESS", ""),
        (range(5), "COMPLETING", ""),
    ):
        service.session = in_chunks(*stored)
        if word == "COMPLETING":
            plan = ChunkPlan(5, size=1, completes_itself=True)
            service.session = replace(service.session, chunks=plan)
        _, answer = await answer_to(gateway, "GET", small)
        assert (answer["status"], answer["missing_parts"]) == (word, missing)
        assert (answer["received_parts_count"], answer["total_parts"]) == (len(stored), 5)
        assert (answer["part_size"], answer["session_id"]) == (1, f"d-{'0' * 32}")


async def test_small_parts_of_form_d_are_chunks_of_exactly_their_size(
    gateway: Serving, service: FakeService
) -> None:
    service.session = replace(
        in_chunks(0, total=3), size=25, chunks=ChunkPlan(3, size=10), filename="a.bin"
    )
    session = f"{PARTS}/d-{'0' * 32}"
    for number, body in ((1, b"x" * 10), (3, b"x" * 5)):
        status, answer = await answer_to(gateway, "PUT", f"{session}/parts/{number}", data=body)
        assert status == 200
        assert (answer["part_number"], answer["size"]) == (number, len(body))
        assert (answer["received_parts_count"], answer["total_parts"]) == (1, 3)
        assert service.content == body
        name, (_, file, index), _ = service.calls[-1]
        assert (name, file.form, file.file_id, index) == (
            "put_chunk",
            "d",
            session[-34:],
            number - 1,
        )
    for number, body in ((1, b"x" * 9), (1, b"x" * 11), (1, b""), (3, b"x" * 10)):
        service.content = b"nothing"
        status, answer = await answer_to(gateway, "PUT", f"{session}/parts/{number}", data=body)
        assert (status, answer["code"]) == (400, "part_length_mismatch")
        assert service.content == b"nothing"
    for number in ("0", "4", "x", "99999999"):
        status, answer = await answer_to(gateway, "PUT", f"{session}/parts/{number}", data=b"x")
        assert (status, answer["code"]) == (400, "part_number_out_of_range")
    wrong = {"Content-Digest": "crc32c=:AAAAAA==:"}
    status, answer = await answer_to(
        gateway, "PUT", f"{session}/parts/1", data=b"x" * 10, headers=wrong
    )
    assert (status, answer["code"]) == (400, "digest_mismatch")


async def test_large_parts_of_form_d_are_relayed(gateway: Serving, service: FakeService) -> None:
    status, answer = await answer_to(
        gateway, "PUT", f"{PARTS}/{SESSION_ID}/parts/1", data=b"0123456789"
    )
    assert (status, answer["part_number"], answer["outcome"]) == (200, 1, "stored")
    assert service.calls[-1][0] == "put_part"
    assert service.calls[-1][1][1:] == (SESSION_ID, 1)
    async with gateway.client.delete(f"{PARTS}/{SESSION_ID}") as gone:
        assert gone.status == 204
    assert service.calls[-1][0] == "abort"


async def test_a_session_of_form_d_is_created_once_for_one_key(
    gateway: Serving, service: FakeService
) -> None:
    body = {"filename": "a.bin", "size": 10, "part_size": 3}
    ids = set()
    for key in ("one", "one", "two"):
        _, answer = await answer_to(
            gateway, "POST", PARTS, json=body, headers={"Idempotency-Key": key}
        )
        ids.add(answer["session_id"])
    assert len(ids) == 2


async def test_form_d_does_not_know_files_in_chunks_by_the_ids_of_their_sessions(
    gateway: Serving, service: FakeService
) -> None:
    # Whoever made one in any form sees its id in the native list.
    service.session = replace(in_chunks(0, total=3), size=25, chunks=ChunkPlan(3, size=10))
    session = f"{PARTS}/{SESSION_ID}"
    for method, path in (
        ("PUT", f"{session}/parts/1"),
        ("GET", session),
        ("POST", f"{session}/complete"),
        ("DELETE", session),
    ):
        status, answer = await answer_to(gateway, method, path, data=b"x" * 10)
        assert (status, answer["code"]) == (404, "session_not_found")
    assert {name for name, _, _ in service.calls} == {"get"}


def test_ranges_are_counted_from_1() -> None:
    assert [from_one(text) for text in ("", "0", "0-2,5", "9-99")] == ["", "1", "1-3,6", "10-100"]
