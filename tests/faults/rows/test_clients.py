"""Rows 14, 18, 24, 28, 31, 37 and 42 as clients see them: the real one, and the wire."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import minio
import pytest
import pytest_asyncio
from faults.proxy import Call, Fault, Kind, StoreProxy
from faults.sites import (
    TOKEN,
    Site,
    cancelled,
    running_site,
    stored_sha256,
    write_file,
)
from faults.uploads import Api, Upload, creation
from servers import S3Target, new_bucket, oracle_for

from gateway.client import Downloader
from gateway.embedded import Seaweed
from gateway.errors import Corrupt, Gone

COMPLETE = "CompleteMultipartUpload"


@pytest_asyncio.fixture(scope="module")
async def site(
    s3: S3Target, shared_proxy: StoreProxy, oracle: minio.Minio, redis_url: str
) -> AsyncIterator[Site]:
    async with (
        new_bucket(oracle) as bucket,
        running_site(s3, bucket, redis_url, shared_proxy) as running,
    ):
        yield running


@pytest_asyncio.fixture
async def hasty_site(
    s3: S3Target, bucket: str, proxy: StoreProxy, redis_url: str
) -> AsyncIterator[Site]:
    """Give a gateway whose URLs live two seconds, which is less than settings allow."""
    async with running_site(s3, bucket, redis_url, proxy, url_lifetime=2) as running:
        yield running


@pytest_asyncio.fixture
async def api(site: Site) -> AsyncIterator[Api]:
    async with Api(site.url, TOKEN) as api:
        yield api


def gaps(proxy: StoreProxy, part: int) -> list[float]:
    """Return the seconds between the tries of a part."""
    began = [call.began for call in proxy.find("UploadPart", part_number=part)]
    return [later - earlier for earlier, later in pairwise(began)]


# Row 14: 503 SlowDown, 500: jittered, capped back-off; load shed.


async def test_row_14_a_client_backs_off_further_each_time_and_as_long_as_it_is_asked_to(
    site: Site, proxy: StoreProxy, oracle: minio.Minio, tmp_path: Path
) -> None:
    sha256 = write_file(tmp_path / "file", 3)
    proxy.add(Fault("UploadPart", Kind.FAIL, part=1, times=3))
    proxy.add(Fault("UploadPart", Kind.SLOW_DOWN, part=2, retry_after=1))
    receipt = await site.upload(tmp_path / "file", parallel=2)
    assert await stored_sha256(oracle, receipt) == sha256
    # At least half of 0.2 s, and that doubled each time.
    assert all(gap >= least for gap, least in zip(gaps(proxy, 1), (0.1, 0.2, 0.4), strict=True))
    [asked] = gaps(proxy, 2)
    assert asked >= 1
    assert proxy.stored == {1: 1, 2: 1, 3: 1}


async def test_row_14_the_api_says_when_to_come_again_instead_of_queueing(
    site: Site, api: Api, proxy: StoreProxy, oracle: minio.Minio
) -> None:
    upload = await Upload.create(api, b"twelve bytes")
    proxy.forget()
    proxy.add(Fault("*", Kind.SLOW_DOWN, times=None))
    answers = [
        await api.call("POST", "/uploads", json=creation(b"another")),
        await api.call("GET", f"{upload.path}/parts"),
    ]
    for answer in answers:
        assert answer.status == 503
        assert answer.document["retryable"]
        assert int(answer.headers["Retry-After"]) >= 1
    assert len(proxy.calls) <= 5
    # Status and signing need no store.
    assert (await upload.status())["state"] == "open"
    body = {"from": 1, "count": 1}
    assert (await api.call("POST", f"{upload.path}/parts/sign", json=body)).status == 200
    proxy.clear()
    await upload.send()
    assert (await upload.complete()).status == 200
    await upload.must_be_whole(oracle)


# Row 18: Complete takes minutes.


@pytest.mark.parametrize("kind", [Kind.STALL, Kind.WHITE_SPACE])
async def test_row_18_a_long_complete_is_202_and_polling_ends_in_completed(
    site: Site, api: Api, proxy: StoreProxy, oracle: minio.Minio, kind: Kind
) -> None:
    upload = await Upload.create(api, b"twelve bytes")
    await upload.send()
    long = proxy.add(Fault(COMPLETE, kind))
    for _ in range(3):
        answer = await upload.complete(wait=0)
        assert answer.status == 202
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.document["state"] == "completing"
    await proxy.until(lambda: long.hits)
    assert (await upload.complete(wait=0)).status == 202
    long.release()
    assert (await upload.settled())["verified_by"] == "client_parts"
    await upload.must_be_whole(oracle)
    assert (await upload.complete()).status == 200
    assert proxy.count(COMPLETE) == 1


async def test_row_18_a_client_waits_for_a_long_complete(
    site: Site, proxy: StoreProxy, oracle: minio.Minio, tmp_path: Path
) -> None:
    sha256 = write_file(tmp_path / "file", 1)
    long = proxy.add(Fault(COMPLETE, Kind.WHITE_SPACE))
    uploading = asyncio.create_task(site.upload(tmp_path / "file"))
    await proxy.until(lambda: long.hits)
    assert (await site.session())["state"] == "completing"
    long.release()
    assert await stored_sha256(oracle, await uploading) == sha256
    assert proxy.count(COMPLETE) == 1


# Row 24: part stored, ETag lost.


async def test_row_24_a_part_whose_etag_the_client_never_heard_is_not_sent_again(
    site: Site, proxy: StoreProxy, oracle: minio.Minio, tmp_path: Path
) -> None:
    sha256 = write_file(tmp_path / "file", 3)
    proxy.add(Fault("UploadPart", Kind.STALL, nth=2, after=True))
    uploading = asyncio.create_task(site.upload(tmp_path / "file"))
    await proxy.wait_for_parts(2)
    await cancelled(uploading)
    proxy.clear()
    receipt = await site.upload(tmp_path / "file")
    assert await stored_sha256(oracle, receipt) == sha256
    assert receipt.verified_by == "client_parts"
    assert receipt.parts_sent == 1
    assert proxy.stored == {1: 1, 2: 1, 3: 1}


# Row 28: bit flipped in flight: BadDigest, retried.


async def test_row_28_a_part_damaged_on_the_way_is_refused_and_sent_again(
    site: Site, proxy: StoreProxy, oracle: minio.Minio, tmp_path: Path
) -> None:
    sha256 = write_file(tmp_path / "file", 3)
    proxy.add(Fault("UploadPart", Kind.FLIP_REQUEST, part=2, at=4_000_000))
    receipt = await site.upload(tmp_path / "file")
    assert [call.store_status for call in proxy.find("UploadPart", part_number=2)] == [400, 200]
    assert proxy.stored == {1: 1, 2: 1, 3: 1}
    assert await stored_sha256(oracle, receipt) == sha256
    assert receipt.verified_by == "client_parts"


@pytest.mark.parametrize("times", [1, None])
async def test_row_28_a_download_damaged_on_the_way_is_fetched_again_or_not_handed_over(
    site: Site, proxy: StoreProxy, tmp_path: Path, times: int | None
) -> None:
    sha256 = write_file(tmp_path / "file", 2)
    receipt = await site.upload(tmp_path / "file")
    copy = tmp_path / "copy"
    damaged = proxy.add(
        Fault(
            "GetObject", Kind.FLIP_REPLY, times=times, when=lambda call: call.key.endswith("file")
        )
    )
    async with site.client() as client:
        if times is None:
            with pytest.raises(Corrupt):
                await Downloader(client).download(receipt.session_id, copy)
            assert not copy.exists()
            proxy.clear()
        await Downloader(client).download(receipt.session_id, copy)
    assert damaged.hits
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == sha256


# Row 31: upload aborted by a lifecycle rule: 410, start again; never success.


async def test_row_31_a_client_starts_again_when_the_store_has_aborted_its_upload(
    site: Site, api: Api, proxy: StoreProxy, oracle: minio.Minio, tmp_path: Path
) -> None:
    sha256 = write_file(tmp_path / "file", 3)
    held = proxy.add(Fault("UploadPart", Kind.STALL, nth=3))
    uploading = asyncio.create_task(site.upload(tmp_path / "file"))
    await proxy.until(lambda: held.hits)
    [call] = proxy.find("UploadPart", fault=Kind.STALL)
    lost = await site.session()
    await asyncio.to_thread(oracle._abort_multipart_upload, call.bucket, call.key, call.upload_id)
    held.release()
    with pytest.raises(Gone):
        await uploading
    path = f"/uploads/{lost['session_id']}"
    answer = await api.call("POST", f"{path}/complete")
    assert (answer.status, answer.document["code"]) == (410, "session_gone")
    session = (await api.call("GET", path)).document
    assert (session["state"], session["error"]["code"]) == ("aborted", "upload_lost")
    receipt = await site.upload(tmp_path / "file")
    assert receipt.session_id != lost["session_id"]
    assert await stored_sha256(oracle, receipt) == sha256


# Row 37: URL expires in mid-upload: just that part re-signed.


async def test_row_37_a_part_whose_url_expires_on_the_way_is_signed_again_alone(
    hasty_site: Site, proxy: StoreProxy, oracle: minio.Minio, tmp_path: Path
) -> None:
    sha256 = write_file(tmp_path / "file", 4)
    client = hasty_site.client()
    signed: Counter[int] = Counter()
    sign = client.sign

    async def note(session_id: str, parts: Any) -> Any:
        signed.update(part["part_number"] for part in parts)
        answer = await sign(session_id, parts)
        # A clock that is behind: only the store can say that a URL has expired.
        client.clock.set(client.clock.now() - timedelta(hours=1))
        return answer

    client.sign = note  # type: ignore[method-assign]  # what is asked for is what is tested
    slow = proxy.add(Fault("UploadPart", Kind.STALL, part=2, seconds=3.1))
    receipt = await hasty_site.upload(tmp_path / "file", by=client)
    assert slow.hits == 1
    assert await stored_sha256(oracle, receipt) == sha256
    refused = Counter(call.part_number for call in proxy.find("UploadPart", store_status=403))
    assert refused[2] >= 1
    assert proxy.stored == {1: 1, 2: 1, 3: 1, 4: 1}
    # Once, and then again for each time that it really had expired.
    assert signed == {part: 1 + refused[part] for part in (1, 2, 3, 4)}


# Row 42: store killed during a PUT: no acknowledgement; same part again.


@pytest_asyncio.fixture(scope="module")
async def mortal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seaweed]:
    """Give a store that is this module's own to kill."""
    async with Seaweed(
        tmp_path_factory.mktemp("mortal"), access_key_id="mortal", secret_access_key="of-the-tests"
    ) as server:
        yield server


@pytest.mark.parametrize("how", ["killed in the bytes", "killed before its answer", "stopped"])
async def test_row_42_a_part_under_which_the_store_dies_is_sent_again(
    mortal: Seaweed, s3: S3Target, redis_url: str, tmp_path: Path, how: str
) -> None:
    sha256 = write_file(tmp_path / "file", 3)
    target = replace(
        s3,
        endpoint=mortal.endpoint,
        region=mortal.region,
        access_key_id=mortal.access_key_id,
        secret_access_key=mortal.secret_access_key,
    )
    with oracle_for(target) as oracle:
        async with (
            new_bucket(oracle) as bucket,
            StoreProxy(mortal.endpoint).running() as proxy,
            running_site(target, bucket, redis_url, proxy) as site,
        ):
            lost = how == "killed before its answer"
            if lost:
                proxy.add(Fault("UploadPart", Kind.RESET, nth=2, after=True))
            # Parts go one after the other, but in any order.
            held = proxy.add(Fault("UploadPart", Kind.STALL, nth=2 + lost, times=None))
            options = {"stall_timeout": 1.0} if how == "stopped" else {}
            uploading = asyncio.create_task(site.upload(tmp_path / "file", **options))
            try:
                await proxy.until(lambda: held.hits)
                first = await acknowledged(site, 1)
                [put] = proxy.find("UploadPart", fault=Kind.STALL, done=False)
                async with stopped(mortal):
                    held.release()
                    # The store takes no more than what the buffers on the way hold.
                    await proxy.until(lambda: sent_to_store(proxy, put))
                    if how != "stopped":
                        await mortal.kill()
                    tries = proxy.count("UploadPart", part_number=put.part_number)
                    await proxy.until(
                        lambda: proxy.count("UploadPart", part_number=put.part_number) > tries
                    )
                    session = await site.session()
                    assert (session["state"], session["received_parts"]) == ("open", 1)
                receipt = await uploading
            finally:
                await cancelled(uploading)
            assert receipt.session_id == first["session_id"]
            assert await stored_sha256(oracle, receipt) == sha256
            assert receipt.verified_by == "client_parts"
            others = {1, 2, 3} - {put.part_number}
            assert [proxy.stored[number] for number in others] == [1, 1]


def sent_to_store(proxy: StoreProxy, put: Call) -> bool:
    """Tell whether bytes of this try of a part, or of a later one, went out to the store."""
    tries = proxy.find("UploadPart", part_number=put.part_number, fault=Kind.STALL)
    return any(call.sent for call in tries)


@asynccontextmanager
async def stopped(server: Seaweed) -> AsyncIterator[None]:
    """Stop the server in its tracks, and let it run on; start it again if it was killed."""
    server.pause()
    try:
        yield
    finally:
        server.resume()
        if not server.running:
            await server.start()


async def acknowledged(site: Site, count: int) -> dict[str, Any]:
    """Wait until the gateway knows of so many parts, and return the session."""
    async with asyncio.timeout(30):
        # The client acknowledges in its own time, and sets no event of the test's.
        while (session := await site.session())["received_parts"] < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return session
