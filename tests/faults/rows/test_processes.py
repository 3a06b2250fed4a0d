"""Rows 1, 2, 5, 6 and 21 on real `gateway serve` processes, which die by real signals.

Where exactly a process is when it is killed is held fast by the proxy before the store. That it
may be killed anywhere else as well is the business of `test_killed_completion.py`.
"""

import asyncio
import hashlib
import os
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import aiohttp
import minio
import pytest
import pytest_asyncio
from deployment import TOKEN, Deployment, deployment
from faults.proxy import Call, Fault, Kind
from faults.servers import expire_leases
from faults.uploads import Answer, Api, Upload, bystanders, creation
from servers import S3Target, new_bucket

from gateway.core.events import EventType
from gateway.state.redis.client import connect
from gateway.state.redis.store import RedisSessionStore

DATA = os.urandom(5 * 1024 * 1024 + 1)
PART_SIZE = 5 * 1024 * 1024


@pytest_asyncio.fixture(scope="module")
async def running(
    s3: S3Target, oracle: minio.Minio, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Deployment]:
    home = tmp_path_factory.mktemp("deployment")
    async with (
        new_bucket(oracle) as bucket,
        # While it drains, it goes on serving for so long: the load of row 6 needs some of it.
        deployment(s3, bucket, home, between=True, GW_DRAIN_DELAY="2") as deployed,
    ):
        yield deployed


@pytest_asyncio.fixture
async def deployed(running: Deployment) -> Deployment:
    """Give the deployment with a proxy that has seen and does nothing."""
    running.proxy.clear()
    running.proxy.forget()
    if not running.gateway.running:
        await running.start_gateway()
    return running


@pytest_asyncio.fixture(scope="module")
async def another(running: Deployment) -> AsyncIterator[Api]:
    """Give a second gateway on the same Redis and store."""
    gateway = running.another_gateway()
    await gateway.start()
    async with Api(gateway.url, TOKEN) as api:
        yield api
    await gateway.stop()


@pytest_asyncio.fixture
async def api(deployed: Deployment) -> AsyncIterator[Api]:
    async with Api(deployed.url, TOKEN) as api:
        yield api


async def uploaded(api: Api, **fields: Any) -> Upload:
    """Return an upload of two parts that only needs to be completed."""
    upload = await Upload.create(api, DATA, part_size=PART_SIZE, **fields)
    await upload.send()
    return upload


async def killed_at(deployed: Deployment, upload: Upload, fault: Fault) -> None:
    """Complete, have the gateway killed when the fault has struck, and start another process."""
    proxy = deployed.proxy
    proxy.add(fault)
    completing = asyncio.create_task(upload.complete())
    # With `after`, the store has done it when it strikes, and its answer is held.
    await proxy.until(lambda: fault.hits and (not fault.after or last(proxy.calls).store_status))
    await deployed.kill_gateway()
    fault.release()
    with suppress(aiohttp.ClientError):
        pytest.fail(f"It was answered: {await completing}")
    await expire_leases(deployed.valkey.url)
    await deployed.start_gateway()


def is_of_a_file(call: Call) -> bool:
    return call.key.startswith("uploads/")


def last(calls: list[Call]) -> Call:
    return next(call for call in reversed(calls) if call.fault)


async def events_of(deployed: Deployment, upload: Upload) -> Counter[EventType]:
    client = connect(deployed.valkey.url)
    try:
        events = await RedisSessionStore(client).outbox(upload.session["session_id"])
    finally:
        await client.close()
    return Counter(event.type for event in events)


async def test_row_01_killed_after_complete_the_next_process_finds_the_object(
    deployed: Deployment, api: Api, oracle: minio.Minio
) -> None:
    async with bystanders(api, oracle):
        upload = await uploaded(api)
        answer_held = Fault("CompleteMultipartUpload", Kind.STALL, after=True)
        await killed_at(deployed, upload, answer_held)
        assert (await upload.settled())["verified_by"] == "client_parts"
        session = await upload.must_be_whole(oracle)
        assert (await events_of(deployed, upload))[EventType.COMPLETED] == 1
        # The stamp told that it was done: it was not asked for again.
        key = session["object"]["key"]
        assert deployed.proxy.count("CompleteMultipartUpload", key=key) == 1


async def test_row_02_killed_before_complete_the_sweeper_finishes(
    deployed: Deployment, api: Api, oracle: minio.Minio
) -> None:
    async with bystanders(api, oracle):
        upload = await uploaded(api)
        request_held = Fault("CompleteMultipartUpload", Kind.STALL)
        await killed_at(deployed, upload, request_held)
        [lost] = deployed.proxy.find("CompleteMultipartUpload", fault=Kind.STALL)
        assert lost.store_status is None
        # Nobody asks for completion.
        assert (await upload.settled())["verified_by"] == "client_parts"
        await upload.must_be_whole(oracle)
        assert (await events_of(deployed, upload))[EventType.COMPLETED] == 1


async def test_row_05_killed_while_verifying_it_is_verified_again(
    deployed: Deployment, api: Api, oracle: minio.Minio
) -> None:
    async with bystanders(api, oracle):
        declared = b64encode(hashlib.sha256(DATA).digest()).decode()
        upload = await uploaded(api, checksum={"algorithm": "sha256", "value": declared})
        read_back_held = Fault("GetObject", Kind.STALL, when=is_of_a_file)
        await killed_at(deployed, upload, read_back_held)
        assert (await upload.settled())["verified_by"] == "client_file"
        await upload.must_be_whole(oracle)
        assert (await events_of(deployed, upload))[EventType.COMPLETED] == 1


async def test_row_21_complete_over_two_gateways_at_once_one_result_one_event(
    deployed: Deployment, api: Api, another: Api, oracle: minio.Minio
) -> None:
    async def once(data: bytes) -> None:
        upload = await Upload.create(api, data)
        await upload.send()
        elsewhere = Upload(another, data, upload.session, upload.signed, upload.etags)
        answers = await asyncio.gather(upload.complete(), elsewhere.complete())
        assert [answer.status for answer in answers] == [200, 200], answers
        assert answers[0].document == answers[1].document
        await upload.must_be_whole(oracle)
        assert (await events_of(deployed, upload))[EventType.COMPLETED] == 1

    async with bystanders(api, oracle):
        await asyncio.gather(*(once(os.urandom(n)) for n in range(20)))


class Client:
    """One that sends files, and goes to another gateway when the first one takes no more."""

    def __init__(self, first: Api, second: Api, leaving: asyncio.Event) -> None:
        self.finished: list[Upload] = []
        self.left_open: list[Upload] = []
        self.at_work = asyncio.Event()
        self.served_while_leaving = 0
        self._gateways = [first, second]
        self._leaving = leaving

    async def run(self) -> None:
        """Send files until the first gateway is gone, and one more over the second."""
        while len(self._gateways) > 1:
            await self._send_file()
        await self._send_file()

    async def _send_file(self) -> None:
        data = os.urandom(100)
        created = await self._persist(lambda api: api.call("POST", "/uploads", json=creation(data)))
        signed = {part["part_number"]: part for part in created.document.pop("parts")}
        upload = Upload(self._gateways[0], data, created.document, signed)
        await upload.put(1)
        await self._persist(lambda api: replace(upload, api=api).acknowledge(1))
        if len(self.left_open) < len(self.finished):
            self.left_open.append(upload)
            self.at_work.set()
            return
        await self._persist(lambda api: replace(upload, api=api).complete())
        self.finished.append(upload)

    async def _persist(self, call: Callable[[Api], Awaitable[Answer]]) -> Answer:
        while True:
            leaving = self._leaving.is_set()
            try:
                answer = await call(self._gateways[0])
            except aiohttp.ClientConnectionError:
                # Only a gateway that is about to end may turn somebody away.
                assert leaving or self._leaving.is_set()
                self._gateways = self._gateways[1:]
                continue
            # What it has taken on, it answers.
            assert answer.status in {200, 201}, answer
            # Also what it was at when it was told to leave, after which nothing new may come in time.
            self.served_while_leaving += self._leaving.is_set() and len(self._gateways) > 1
            return answer


async def test_row_06_sigterm_under_load_loses_no_acknowledgement(
    deployed: Deployment, api: Api, another: Api, oracle: minio.Minio
) -> None:
    leaving = asyncio.Event()
    clients = [Client(api, another, leaving) for _ in range(6)]
    async with bystanders(another, oracle), asyncio.TaskGroup() as group:
        load = [group.create_task(client.run()) for client in clients]
        async with asyncio.timeout(60):
            # The load is there.
            await asyncio.gather(*(client.at_work.wait() for client in clients))
        leaving.set()
        deployed.gateway.terminate()
        async with asyncio.timeout(10):
            # Each question takes a while of its own: nothing is asked in a tight loop here.
            while (ready := await api.call("GET", "/readyz")).status != 503:
                pass
        assert ready.document["status"] == "draining"
        assert await deployed.gateway.stop() == 0
        await asyncio.wait(load)

        assert sum(client.served_while_leaving for client in clients)
        for upload in (one for client in clients for one in client.finished):
            # The word for its part is nowhere but in the acknowledgement.
            finished = replace(upload, api=another)
            assert (await finished.must_be_whole(oracle))["verified_by"] == "client_parts"
        for upload in (one for client in clients for one in client.left_open):
            session = await replace(upload, api=another).status()
            assert (session["state"], session["missing"]) == ("open", "")
