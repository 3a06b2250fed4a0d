"""Rows 7 to 11: Redis emptied, down, stalled, thrown back or full, under a real gateway.

What each script and call of the Redis adapter does then is tested in `tests/state/test_faults.py`.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import minio
import pytest
import pytest_asyncio
from deployment import TOKEN, Deployment, deployment
from faults.servers import Moment, down, full, restart_empty, stalled
from faults.uploads import Answer, Api, Upload, bystanders, creation
from servers import S3Target, new_bucket

DATA = os.urandom(5 * 1024 * 1024 + 1)
PART_SIZE = 5 * 1024 * 1024


@pytest_asyncio.fixture(scope="module")
async def deployed(
    s3: S3Target, oracle: minio.Minio, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Deployment]:
    home = tmp_path_factory.mktemp("deployment")
    async with new_bucket(oracle) as bucket, deployment(s3, bucket, home) as deployed:
        yield deployed


@pytest_asyncio.fixture
async def api(deployed: Deployment) -> AsyncIterator[Api]:
    async with Api(deployed.url, TOKEN) as api:
        yield api


async def half_way(api: Api, **fields: Any) -> Upload:
    """Return an upload of two parts, of which the first is acknowledged."""
    upload = await Upload.create(api, DATA, part_size=PART_SIZE, **fields)
    await upload.send(1)
    return upload


async def every_call(upload: Upload) -> list[Answer]:
    """Make every kind of call that needs Redis, all at once."""
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/uploads", {"json": creation(b"new")}),
        ("GET", "/uploads", {}),
        ("GET", upload.path, {}),
        ("GET", f"{upload.path}/parts", {}),
        ("POST", f"{upload.path}/parts/sign", {"json": {"parts": [{"part_number": 2}]}}),
        ("POST", f"{upload.path}/parts", {"json": {"parts": [{"part_number": 1, "etag": "a"}]}}),
        ("POST", f"{upload.path}/progress", {"json": {"in_flight": {"2": 1}}}),
        ("POST", f"{upload.path}/complete", {}),
        ("DELETE", upload.path, {}),
    ]
    return await asyncio.gather(
        *(upload.api.call(method, path, **options) for method, path, options in calls)
    )


def must_be_away(answers: list[Answer]) -> None:
    """Fail unless each of them says that Redis is away, and when to come again."""
    for answer in answers:
        assert answer.status == 503
        assert answer.document["code"] == "redis_unavailable"
        assert answer.document["retryable"]
        assert int(answer.headers["Retry-After"]) >= 1


async def made(oracle: minio.Minio, bucket: str) -> set[str]:
    """Return what creations have made in the store: multipart uploads and sidecars."""

    def look() -> set[str]:
        # The public interface of this SDK has no multipart uploads.
        page = oracle._list_multipart_uploads(bucket)
        assert not page.is_truncated
        sidecars = oracle.list_objects(bucket, prefix=".gateway/sessions/")
        return {one.upload_id for one in page.uploads} | {one.object_name for one in sidecars}

    return await asyncio.to_thread(look)


async def test_row_07_redis_restarted_empty_is_rebuilt_from_sidecars_and_the_store(
    deployed: Deployment, api: Api, oracle: minio.Minio
) -> None:
    async with bystanders(api, oracle):
        upload, aborted = await asyncio.gather(half_way(api), Upload.create(api, b"not wanted"))
        assert (await api.call("DELETE", aborted.path)).status == 204
        # The store has part 2, and nobody told the gateway.
        await upload.put(2)

        await restart_empty(deployed.valkey)

        session = await upload.status()
        assert (session["state"], session["missing"]) == ("open", "")
        assert session["received_bytes"] == len(DATA)
        assert (await aborted.status())["state"] == "aborted"
        # Checksums of parts were nowhere but in Redis: a client that resumes says them again.
        assert (await upload.acknowledge(1, 2)).status == 200
        assert (await upload.complete()).status == 200
        assert (await upload.must_be_whole(oracle))["verified_by"] == "client_parts"


async def test_row_08_redis_down_is_503_and_presigned_puts_go_on(
    deployed: Deployment, api: Api, oracle: minio.Minio
) -> None:
    async with bystanders(api, oracle):
        upload = await half_way(api)
        async with down(deployed.valkey):
            before = await made(oracle, deployed.bucket)
            must_be_away(await every_call(upload))
            # A creation that is refused leaves nothing behind, however often it is tried.
            assert await made(oracle, deployed.bucket) == before
            await upload.put(2)
            assert (await api.call("GET", "/healthz")).status == 200
            async with asyncio.timeout(10):
                # It may be the answer of a second ago.
                while (ready := await api.call("GET", "/readyz")).status == 200:
                    pass
            assert (ready.status, ready.document["checks"]["redis"]["ok"]) == (503, False)
        session = await upload.status()
        assert (session["state"], session["missing"]) == ("open", "2")
        assert (await upload.acknowledge(2)).status == 200
        assert (await upload.complete()).status == 200
        assert (await upload.must_be_whole(oracle))["verified_by"] == "client_parts"


async def test_row_09_redis_stalled_is_given_up_and_the_loop_goes_on(
    deployed: Deployment, api: Api, oracle: minio.Minio
) -> None:
    async with bystanders(api, oracle):
        upload = await half_way(api)
        with stalled(deployed.valkey):
            began = time.monotonic()
            calls = asyncio.create_task(every_call(upload))
            alive = 0
            while not calls.done():
                asked = time.monotonic()
                assert (await api.call("GET", "/healthz")).status == 200
                # A loop that hung would answer when Redis is given up, after five seconds.
                assert time.monotonic() - asked < 2
                alive += 1
                await asyncio.wait([calls], timeout=0.1)
            await upload.put(2)
            must_be_away(await calls)
            # The deadline of a call to Redis, for those that make two, and a busy machine.
            assert time.monotonic() - began < 20
            assert alive > 5
        # Each of the calls reads first, and none got any further.
        session = await upload.status()
        assert (session["state"], session["missing"]) == ("open", "2")
        assert (await upload.acknowledge(2)).status == 200
        assert (await upload.complete()).status == 200
        await upload.must_be_whole(oracle)


async def until_listed(api: Api, upload: Upload) -> None:
    """Return when the list of sessions has this one, within a few rounds of the sweeper."""
    async with asyncio.timeout(20):
        while True:
            document = (await api.call("GET", "/uploads?state=open&limit=200")).document
            if upload.session["session_id"] in {one["session_id"] for one in document["uploads"]}:
                return
            await asyncio.sleep(0.1)


async def test_row_10_the_last_second_of_redis_lost_list_parts_wins(
    deployed: Deployment, api: Api, oracle: minio.Minio
) -> None:
    async with bystanders(api, oracle):
        half, all_but_completed = await asyncio.gather(half_way(api), half_way(api))
        moment = Moment.of(deployed.valkey)
        # All of this will have been promised by a Redis that knows nothing of it.
        await asyncio.gather(half.send(2), all_but_completed.send(2))
        created = await half_way(api)
        done = await all_but_completed.complete()
        assert done.status == 200

        await moment.fall_back()

        # Nobody has asked for this one: the sweeper misses it by itself.
        await until_listed(api, created)
        assert (await half.status())["missing"] == "2"
        parts = (await api.call("GET", f"{half.path}/parts")).document["parts"]
        assert [part["part_number"] for part in parts] == [1, 2]
        assert (await half.status())["missing"] == ""
        session = await created.status()
        assert (session["state"], session["missing"]) == ("open", "2")
        await created.send(1, 2)
        for upload in (half, created, all_but_completed):
            assert (await upload.complete()).status == 200
            await upload.must_be_whole(oracle)
        # The client's word was frozen in storage before it was lost in Redis.
        again = await all_but_completed.status()
        assert again["verified_by"] == done.document["verified_by"] == "client_parts"
        assert again["object"] == done.document["object"]


async def test_row_11_redis_full_refuses_new_sessions_and_live_ones_finish(
    deployed: Deployment, api: Api, oracle: minio.Minio
) -> None:
    async with bystanders(api, oracle):
        upload, other = await asyncio.gather(half_way(api), half_way(api))
        async with full(deployed.valkey):
            before = await made(oracle, deployed.bucket)
            new = {"json": creation(b"new")}
            for headers in ({}, {"Idempotency-Key": "the same"}):
                refused = await api.call("POST", "/uploads", **new, headers=headers)
                assert refused.status == 503
                assert refused.document["code"] == "redis_full"
                assert refused.document["hint"]
                assert int(refused.headers["Retry-After"]) >= 1
            assert await made(oracle, deployed.bucket) == before
            progress = {"in_flight": {"2": 1}}
            reported = await api.call("POST", f"{upload.path}/progress", json=progress)
            assert reported.status == 204
            sign = {"parts": [{"part_number": 1, "replace": True}]}
            assert (await api.call("POST", f"{upload.path}/parts/sign", json=sign)).status == 200
            await upload.send(1, 2)
            assert (await upload.complete()).status == 200
            assert (await upload.must_be_whole(oracle))["verified_by"] == "client_parts"
            assert (await api.call("DELETE", other.path)).status == 204
            assert (await other.status())["state"] == "aborted"
        again = await api.call("POST", "/uploads", **new, headers=headers)
        assert again.status == 201
