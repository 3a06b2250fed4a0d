"""The acceptance lists of the four documents behind forms A to D, line by line.

A test's name is the line; its docstring is the line where the name cannot be. The 2 GB on 512 MB of
memory of form B are `test_little_memory.py`, the 10 GB of form C as bytes are `benchmarks relay`.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import minio
import pytest
import pytest_asyncio
from gateways import serving
from older import MIB, Older, cut, older_door, some_bytes
from servers import S3Target, new_bucket
from stack import Stack, running_stack

from gateway.core.checksums import ALGORITHMS
from gateway.core.clock import SystemClock
from gateway.core.composition import compose
from gateway.core.content.policy import ContentPolicy
from gateway.doors.chunks import ChunksDoor
from gateway.doors.native import NativeDoor, NativeOptions

CHUNK = 100_000
STAGING = ".gateway/staging/"


@pytest_asyncio.fixture(scope="module")
async def core(s3: S3Target, oracle: minio.Minio, redis_url: str) -> AsyncIterator[Stack]:
    async with (
        new_bucket(oracle) as bucket,
        running_stack(s3, bucket, oracle, redis_url, f"test-{uuid.uuid4().hex}:") as running,
    ):
        yield running


@pytest_asyncio.fixture(scope="module")
async def older(core: Stack) -> AsyncIterator[Older]:
    async with older_door(core) as running:
        yield running


async def staged(core: Stack, session_id: str) -> list[str]:
    bucket = core.options.creator.bucket
    objects = core.ports.objects.list(bucket, f"{STAGING}{session_id}/")
    return [item.key async for item in objects]


class LaterClock(SystemClock):
    """A clock that is ahead."""

    def __init__(self, ahead: timedelta) -> None:
        self._ahead = ahead

    def now(self) -> datetime:
        return super().now() + self._ahead


# chunked-file-upload.md: what its server does, and its best practices.


async def test_a_merge_chunks_in_sequential_order_and_return_completion_status(
    older: Older,
) -> None:
    data = some_bytes(9 * CHUNK + 17)
    chunks = cut(data, CHUNK)
    order = [7, 2, 9, 0, 5, 1, 8, 3, 6, 4]
    seen = [(await older.post_a("merge", i, 10, chunks[i]))[1] for i in order]
    assert [answer["uploaded_chunks"] for answer in seen] == list(range(1, 11))
    assert [answer["status"] for answer in seen] == ["uploading"] * 9 + ["completed"]
    await older.assert_verified(data)
    assert await older.status_a("merge") == {"status": "completed", "file_exists": True}


async def test_a_clean_up_temporary_chunk_files(core: Stack, older: Older) -> None:
    await assert_cleaned_after(core, older, completed_in_a)


async def test_a_cleanup_automatically_remove_incomplete_uploads_after_timeout(
    core: Stack, older: Older
) -> None:
    await older.post_a("left", 0, 3, some_bytes(CHUNK))
    session_id = (await older.newest())["session_id"]
    assert await staged(core, session_id)
    ahead = core.options.creator.session_lifetime + core.options.sweeper.grace
    late = replace(core.ports, clock=LaterClock(ahead + timedelta(hours=1)))
    cleaner = compose(late, core.options)
    await cleaner.sweeper.sweep()
    assert await staged(core, session_id) == []
    assert await older.status_a("left") == {"status": "not_found", "file_exists": False}
    await cleaner.assembler.close()
    await cleaner.completer.close()


async def test_a_concurrency_handle_multiple_concurrent_uploads_efficiently(older: Older) -> None:
    files = {f"at once {n}": some_bytes(4 * CHUNK + n, seed=n) for n in range(1, 5)}

    async def send(file_id: str, index: int, chunk: bytes) -> str:
        status, answer = await older.post_a(file_id, index, 5, chunk)
        assert status == 200, answer
        return str(answer["status"])

    answers = await asyncio.gather(
        *(
            send(file_id, index, chunk)
            for file_id, data in files.items()
            for index, chunk in enumerate(cut(data, CHUNK))
        )
    )
    # Whichever came last of a file: exactly its POST, and those that came with it, saw the end.
    assert answers.count("completed") >= len(files)
    for file_id in files:
        assert (await older.status_a(file_id))["status"] == "completed"


async def test_a_validation_verify_chunk_order_and_completeness_before_merging(
    older: Older,
) -> None:
    chunks = cut(some_bytes(3 * CHUNK), CHUNK)
    for index in (2, 0):
        _, answer = await older.post_a("incomplete", index, 3, chunks[index])
        assert answer["status"] == "uploading"
    status = await older.status_a("incomplete")
    assert (status["uploaded_chunks"], status["received_chunks"]) == (1, 2)
    assert status["missing_chunks"] == "1"
    assert (await older.newest())["object"] is None


async def test_a_large_chunks_as_its_best_practice_has_them(older: Older) -> None:
    """Use 1-5MB chunks for optimal performance; here 5 MiB, each of which is a part by itself."""
    data = some_bytes(11 * MIB)
    chunks = cut(data, 5 * MIB)
    for index in (2, 1, 0):
        status, answer = await older.post_a("large", index, 3, chunks[index])
        assert status == 200
    assert answer["status"] == "completed"
    assert (await older.assert_verified(data))["part_count"] == 3


# spec-009-chunked-uploads.fr.md: critères de validation.


async def test_b_la_coupure_reseau_pendant_l_upload_ne_corrompt_pas_le_fichier_final_apres_reprise(
    older: Older,
) -> None:
    data = some_bytes(5 * CHUNK + 5)
    chunks = cut(data, CHUNK)
    for index in range(3):
        await older.post_b("coupure", index, 6, chunks[index])

    async def broken() -> AsyncIterator[bytes]:
        yield chunks[3][: CHUNK // 2]
        raise ConnectionResetError("the network is gone")

    for _ in range(2):
        with pytest.raises(aiohttp.ClientError):
            await older.call(
                "POST",
                "/administration/upload/chunk/",
                data=broken(),
                headers={"Content-Type": "multipart/form-data; boundary=b"},
            )
    status = await older.status_b("coupure")
    assert (status["uploaded_chunks"], status["missing_chunks"]) == (3, "3-5")
    # A client that does not know how far it came sends one again that is there.
    for index in range(status["uploaded_chunks"] - 1, 6):
        code, _ = await older.post_b("coupure", index, 6, chunks[index])
        assert code == 200
    code, answer = await older.complete_b("coupure")
    assert (code, answer["status"]) == (200, "completed")
    await older.assert_verified(data)


async def test_b_les_fichiers_temporaires_sont_nettoyes_apres_assemblage(
    core: Stack, older: Older
) -> None:
    await assert_cleaned_after(core, older, completed_in_b)


async def test_b_fournir_une_progression_d_upload_precise(older: Older) -> None:
    chunks = cut(some_bytes(4 * CHUNK), CHUNK)
    seen = []
    for index in range(4):
        _, answer = await older.post_b("progression", index, 4, chunks[index])
        seen.append((answer["uploaded_chunks"], answer["fraction"]))
    assert seen[:3] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert (await older.status_b("progression"))["phase"] == "assembling"
    _, answer = await older.complete_b("progression")
    assert (answer["phase"], answer["fraction"]) == ("done", 1.0)


# story-2.1-chunked-upload-pipeline.md: acceptance criteria.


async def test_c_1_10_gb_file_can_upload_in_chunks_with_proper_chunk_management(
    older: Older,
) -> None:
    """The bytes themselves are `benchmarks relay`; here are its first, middle and last chunks."""
    size = 10_000_000_000
    status, session = await older.call(
        "POST", "/uploads/init", json={"filename": "tomogram.mrc", "size": size}
    )
    assert status == 201
    session_id, part_size, count = (session[n] for n in ("session_id", "part_size", "part_count"))
    assert (count - 1) * part_size < size <= count * part_size
    last = size - (count - 1) * part_size
    for index, length in ((count - 1, last), (0, part_size), (count // 2, part_size)):
        status, answer = await older.put_c(session_id, index, bytes(length))
        assert (status, answer["idx"], answer["size"]) == (200, index, length)
    status, session = await older.call("GET", f"/uploads/{session_id}")
    assert session["received_parts"] == 3
    assert session["received_bytes"] == 2 * part_size + last
    for index in (count, count + 1):
        assert (await older.put_c(session_id, index, b"x"))[0] == 400
    async with older.http.delete(f"{older.url}/uploads/{session_id}") as aborted:
        assert aborted.status == 204


async def test_c_2_upload_can_resume_after_interruption_using_existing_chunks(
    older: Older,
) -> None:
    data = some_bytes(11 * MIB)
    parts = cut(data, 5 * MIB)
    session = await older.create_c(data, part_size=5 * MIB)
    session_id = session["session_id"]
    assert (await older.put_c(session_id, 1, parts[1]))[1]["outcome"] == "stored"

    async def interrupted() -> AsyncIterator[bytes]:
        yield parts[0][: 2 * MIB]
        raise ConnectionResetError("the client is gone")

    with pytest.raises(aiohttp.ClientError):
        await older.put_c(session_id, 0, interrupted())
    _, found = await older.call("GET", f"/uploads/{session_id}")
    assert (found["received_parts"], found["missing"]) == (1, "1,3")
    # What is there already is told so, and counts once.
    assert (await older.put_c(session_id, 1, parts[1]))[1]["outcome"] == "same"
    for index in (0, 2):
        status, answer = await older.put_c(session_id, index, parts[index])
        assert status == 200
    assert (answer["received_parts"], answer["fraction"]) == (3, 1.0)
    status, done = await older.call("POST", f"/uploads/{session_id}/complete")
    assert (status, done["state"]) == (200, "completed")
    await older.assert_verified(data)


async def test_c_3_file_assembly_and_integrity_check_works_correctly(older: Older) -> None:
    data = some_bytes(6 * MIB)
    right = {"algorithm": "sha256", "value": ALGORITHMS["sha256"].value_of(data)}
    wrong = {"algorithm": "sha256", "value": ALGORITHMS["sha256"].value_of(b"other")}
    for checksum, status in ((right, 200), (wrong, 422)):
        session_id = (await older.create_c(data, part_size=5 * MIB))["session_id"]
        for index, part in enumerate(cut(data, 5 * MIB)):
            assert (await older.put_c(session_id, index, part))[0] == 200
        found, answer = await older.call(
            "POST", f"/uploads/{session_id}/complete", json={"checksum": checksum}
        )
        assert found == status
        if status == 200:
            assert answer["verified_by"] == "client_file"
            await older.assert_verified(data)
        else:
            assert_envelope(answer, "corrupt")


async def test_c_4_api_responses_match_section_7(older: Older) -> None:
    """JSON envelope with code, message, hint, retryable; init, part and complete by their paths."""
    session = await older.create_c(bytes(10))
    session_id = session["session_id"]
    for method, path, status, code in (
        ("POST", "/uploads/init", 415, "unsupported_media_type"),
        ("PUT", f"/uploads/{session_id}/part/1", 400, "part_number_out_of_range"),
        ("PUT", f"/uploads/{session_id}/part/x", 400, "part_number_out_of_range"),
        ("PUT", f"/uploads/{'0' * 32}/part/0", 404, "session_not_found"),
        ("PUT", f"/uploads/{session_id}/part/0", 400, "part_length_mismatch"),
        ("POST", f"/uploads/{session_id}/complete", 409, "parts_missing"),
        ("POST", f"/uploads/{session_id}/part/0", 405, "method_not_allowed"),
        ("PUT", f"/uploads/{session_id}/no/such/thing", 404, "no_such_route"),
    ):
        found, answer = await older.call(method, path)
        assert found == status, (method, path, answer)
        assert_envelope(answer, code)


async def test_c_5_upload_progress_tracking_and_status_reporting(older: Older) -> None:
    data = some_bytes(11 * MIB)
    session_id = (await older.create_c(data, part_size=5 * MIB))["session_id"]
    for index, part in enumerate(cut(data, 5 * MIB)):
        _, answer = await older.put_c(session_id, index, part)
        _, status = await older.call("GET", f"/uploads/{session_id}")
        assert answer["received_parts"] == status["received_parts"] == index + 1
        assert answer["fraction"] == status["fraction"]
        assert status["received_bytes"] == min((index + 1) * 5 * MIB, len(data))


async def test_c_task_4_implement_upload_cancellation_and_session_cleanup(
    core: Stack, older: Older
) -> None:
    session_id = (await older.create_c(bytes(10)))["session_id"]
    assert (await older.put_c(session_id, 0, bytes(10)))[0] == 200
    for _ in range(2):
        async with older.http.delete(f"{older.url}/uploads/{session_id}") as aborted:
            assert aborted.status == 204
    found, answer = await older.put_c(session_id, 0, bytes(10))
    assert found == 410
    assert_envelope(answer, "session_gone")
    key = f"uploads/{session_id}"
    bucket = core.options.creator.bucket
    assert [upload async for upload in core.ports.objects.list_uploads(bucket, key)] == []


async def test_c_task_5_add_file_type_and_size_validation(core: Stack) -> None:
    policy = ContentPolicy([".mrc", ".raw"], max_file_size=20 * MIB)
    chosen = compose(core.ports, replace(core.options, policy=policy))
    doors = [NativeDoor(chosen.service, NativeOptions("0.0")), ChunksDoor(chosen.service)]
    wrong = some_bytes(5 * MIB)
    async with serving(doors, token=None) as gateway:
        older = Older(f"http://{gateway.host}:{gateway.port}", gateway.client, {})
        # By its name, by its first bytes, and by its size.
        for name, total, chunk, status in (
            ("a.exe", 2, wrong[:CHUNK], 415),
            ("a.mrc", 2, wrong[:CHUNK], 415),
            ("a.mrc", 1, wrong[:10], 415),
            ("a.raw", 1000, wrong[:CHUNK], 413),
        ):
            for file_id in (f"{name} {total} {len(chunk)}",) * 2:
                found, answer = await older.post_a(file_id, 0, total, chunk, filename=name)
                assert (found, set(answer)) == (status, {"detail"})
                assert (await older.status_a(file_id)).get("received_chunks", 0) == 0
        session_id = (await older.create_c(wrong, name="a.mrc"))["session_id"]
        found, answer = await older.put_c(session_id, 0, wrong)
        assert found == 415
        assert_envelope(answer, "content_not_allowed")
        _, session = await older.call("GET", f"/uploads/{session_id}")
        assert (session["state"], session["received_parts"]) == ("open", 0)
        body = {"filename": "a.mrc", "size": 21 * MIB}
        found, answer = await older.call("POST", "/uploads/init", json=body)
        assert found == 413
        assert_envelope(answer, "file_too_large")
    await chosen.assembler.close()
    await chosen.completer.close()


def assert_envelope(answer: Any, code: str) -> None:
    assert answer["code"] == code
    assert isinstance(answer["message"], str)
    assert answer["message"]
    assert isinstance(answer["hint"], str)
    assert isinstance(answer["retryable"], bool)


# pep-0012-chunk-upload-endpoint.md: acceptance criteria, and what its tests are to cover.

SMALL_AND_LARGE = pytest.mark.parametrize("size", [1_000_000, 5 * MIB], ids=["small", "large"])


@SMALL_AND_LARGE
async def test_d_idempotent_retry_same_part_same_content_is_success_without_double_count(
    older: Older, size: int
) -> None:
    session_id = (await older.create_d(2 * size, part_size=size))["session_id"]
    for outcome in ("stored", "same", "same"):
        status, answer = await older.put_d(session_id, 1, some_bytes(size))
        assert (status, answer["outcome"]) == (200, outcome)
        assert (answer["received_parts_count"], answer["status"]) == (1, "IN_PROGRESS")
    assert (await older.get_d(session_id))["received_parts_count"] == 1


@SMALL_AND_LARGE
async def test_d_conflict_detection_same_part_different_content_is_409(
    older: Older, size: int
) -> None:
    data = some_bytes(2 * size)
    session_id = (await older.create_d(2 * size, part_size=size))["session_id"]
    assert (await older.put_d(session_id, 1, data[:size]))[0] == 200
    status, answer = await older.put_d(session_id, 1, bytes(size))
    assert (status, answer["code"]) == (409, "part_conflict")
    assert "part" in answer["detail"]
    assert (await older.get_d(session_id))["received_parts_count"] == 1
    # The one that came first is what is in the file.
    assert (await older.put_d(session_id, 2, data[size:]))[0] == 200
    assert (await older.complete_d(session_id))[1]["status"] == "COMPLETED"
    await older.assert_verified(data)


@SMALL_AND_LARGE
async def test_d_out_of_order_part_5_before_part_1(older: Older, size: int) -> None:
    data = some_bytes(4 * size + 5)
    parts = cut(data, size)
    session = await older.create_d(len(data), total_parts=5, part_size=size)
    assert (session["status"], session["received_parts_count"]) == ("INIT", 0)
    assert session["missing_parts"] == "1-5"
    for number in (5, 1, 4, 2, 3):
        status, _ = await older.put_d(session["session_id"], number, parts[number - 1])
        assert status == 200
    status, done = await older.complete_d(session["session_id"])
    assert (status, done["status"], done["received_parts_count"]) == (200, "COMPLETED", 5)
    await older.assert_verified(data)


async def test_d_counters_are_atomic_with_concurrent_simulated_uploads(older: Older) -> None:
    data = some_bytes(20 * 10_000)
    parts = cut(data, 10_000)
    session_id = (await older.create_d(len(data), part_size=10_000))["session_id"]
    # Every part three times, at once.
    answers = await asyncio.gather(
        *(older.put_d(session_id, n + 1, parts[n]) for n in [*range(20)] * 3)
    )
    assert {status for status, _ in answers} == {200}
    assert [answer["outcome"] for _, answer in answers].count("stored") == 20
    session = await older.get_d(session_id)
    assert (session["received_parts_count"], session["missing_parts"]) == (20, "")
    assert (await older.complete_d(session_id))[1]["status"] == "COMPLETED"
    await older.assert_verified(data)


@SMALL_AND_LARGE
async def test_d_validation_wrong_size_out_of_range_wrong_session_status(
    older: Older, size: int
) -> None:
    data = some_bytes(2 * size)
    session_id = (await older.create_d(len(data), part_size=size))["session_id"]
    for number, part in ((1, data[: size - 1]), (1, data[: size + 1]), (2, b""), (2, bytes(1))):
        status, answer = await older.put_d(session_id, number, part)
        assert (status, answer["code"]) == (400, "part_length_mismatch")
    for number in (0, 3, 10_001, "one"):
        status, answer = await older.put_d(session_id, number, data[:size])
        assert (status, answer["code"]) == (400, "part_number_out_of_range")
    status, answer = await older.complete_d(session_id)
    assert (status, answer["code"], answer["missing_parts"]) == (409, "parts_missing", "1-2")
    for number in (1, 2):
        await older.put_d(session_id, number, data[(number - 1) * size : number * size])
    assert (await older.complete_d(session_id))[0] == 200
    status, answer = await older.put_d(session_id, 1, bytes(size))
    assert status == 409
    # A session that was aborted takes nothing.
    other = (await older.create_d(len(data), part_size=size))["session_id"]
    async with older.http.delete(f"{older.url}/uploads/sessions/{other}") as aborted:
        assert aborted.status == 204
    assert (await older.put_d(other, 1, data[:size]))[0] == 410
    assert (await older.get_d(other))["status"] == "ABORTED"
    status, answer = await older.put_d("0" * 32, 1, data[:size])
    assert (status, answer) == (404, {"detail": "File not found", "code": "session_not_found"})


async def test_d_integration_test_for_endpoint_with_auth(core: Stack) -> None:
    async with serving([ChunksDoor(core.core.service)]) as gateway:
        own = Older(f"http://{gateway.host}:{gateway.port}", gateway.client, {})
        session_id = (await own.create_d(20, part_size=10))["session_id"]
        nobody = {"Authorization": ""}
        for method, path in (
            ("POST", "/uploads/sessions"),
            ("GET", f"/uploads/sessions/{session_id}"),
            ("PUT", f"/uploads/sessions/{session_id}/parts/1"),
            ("POST", f"/uploads/sessions/{session_id}/complete"),
        ):
            status, answer = await own.call(method, path, headers=nobody)
            assert (status, answer["code"]) == (401, "unauthenticated")
        assert (await own.put_d(session_id, 1, bytes(10)))[0] == 200


# What several of them ask for.


async def completed_in_a(older: Older, data: bytes) -> None:
    chunks = cut(data, CHUNK)
    file_id = str(uuid.uuid4())
    for index, chunk in enumerate(chunks):
        status, answer = await older.post_a(file_id, index, len(chunks), chunk)
        assert status == 200
    assert answer["status"] == "completed"


async def completed_in_b(older: Older, data: bytes) -> None:
    chunks = cut(data, CHUNK)
    upload_id = str(uuid.uuid4())
    for index, chunk in enumerate(chunks):
        await older.post_b(upload_id, index, len(chunks), chunk)
    status, answer = await older.complete_b(upload_id)
    assert (status, answer["status"]) == (200, "completed")


async def assert_cleaned_after(core: Stack, older: Older, send: Any) -> None:
    data = some_bytes(3 * CHUNK + 1)
    await send(older, data)
    session_id = (await older.assert_verified(data))["session_id"]
    # What the answer did not wait for.
    await core.core.assembler.start(session_id)
    assert await staged(core, session_id) == []
