"""Row 50 on real `gateway serve` processes: a webhook that fails, stalls, or hears things twice.

And what stands around it: the stream and its consumer, killed gateways, an emptied Redis, and what
an admin does about events that were given up. What takes a day is not waited for: a test lets all
letters be due.
"""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import minio
import orjson
import pytest
import pytest_asyncio
import redis.asyncio
from delivery.receiver import Received, Receiver
from deployment import TOKEN, Deployment, deployment
from faults.servers import expire_leases
from faults.uploads import Api, Upload, bystanders
from servers import S3Target, new_bucket

ROOT = Path(__file__).parents[3]
SECTION = re.search(
    r"^## Handing files on$(.*?)^## ", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
)
EXAMPLES = re.findall(
    r"^```python\n(.*?)^```", SECTION[1] if SECTION else "", re.MULTILINE | re.DOTALL
)
CONSUMER, VERIFIED = EXAMPLES
SECRET = "whsec_bG9uZyBlbm91Z2ggdG8gYmUgYSBzZWNyZXQ="


@pytest_asyncio.fixture(scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest_asyncio.fixture(scope="module")
async def deployed(
    s3: S3Target, oracle: minio.Minio, tmp_path_factory: pytest.TempPathFactory, receiver: Receiver
) -> AsyncIterator[Deployment]:
    settings = {
        "GW_WEBHOOK_URL": f"{receiver.url}?key=of-the-url",
        "GW_WEBHOOK_SECRET": SECRET,
        "GW_WEBHOOK_ALLOW_HOSTS": "127.0.0.1",
    }
    async with (
        new_bucket(oracle) as bucket,
        deployment(s3, bucket, tmp_path_factory.mktemp("deployment"), **settings) as running,
    ):
        yield running


@pytest_asyncio.fixture
async def api(deployed: Deployment) -> AsyncIterator[Api]:
    async with Api(deployed.url, TOKEN) as api:
        yield api


async def ready(api: Api) -> Upload:
    """Return an upload that only needs to be completed; nothing is told of it yet."""
    upload = await Upload.create(api, os.urandom(100))
    await upload.send()
    return upload


async def letter_of(upload: Upload, receiver: Receiver) -> Received:
    """Wait for the next letter about this upload."""
    while True:
        letter = await receiver.next()
        if letter.document["session_id"] == upload.session["session_id"]:
            return letter


async def waiting(deployed: Deployment, kind: str, count: int) -> list[str]:
    """Wait until the queue of the webhook has so many members of a kind, and return them."""
    async with redis.asyncio.from_url(deployed.valkey.url) as client, asyncio.timeout(40):
        while True:
            keys = [key async for key in client.scan_iter(f"gw:{{queue:webhook-*}}:{kind}")]
            found = [one.decode() for key in keys for one in await client.zrange(key, 0, -1)]
            if len(found) == count:
                return found
            await asyncio.sleep(0.02)


async def let_time_pass(deployed: Deployment, *kinds: str) -> None:
    """Let all pauses and claims be over (`due`), or all attempts have begun long ago (`since`)."""
    async with redis.asyncio.from_url(deployed.valkey.url) as client:
        for kind in kinds:
            async for key in client.scan_iter(f"gw:{{queue:*}}:{kind}"):
                for member in await client.zrange(key, 0, -1):
                    await client.zadd(key, {member: 1}, xx=True)


async def test_row_50_a_webhook_that_answers_500_gets_the_event_again_under_the_same_id(
    deployed: Deployment, api: Api, receiver: Receiver, oracle: minio.Minio
) -> None:
    async with bystanders(api, oracle):
        upload = await ready(api)
        receiver.answer(500, about=upload.session["session_id"])
        await upload.complete()
        first = await letter_of(upload, receiver)
        await waiting(deployed, "due", 1)
        await let_time_pass(deployed, "due")
        second = await letter_of(upload, receiver)
        await waiting(deployed, "due", 0)
    assert first.headers["Webhook-Id"] == second.headers["Webhook-Id"]
    assert first.body == second.body
    session = await upload.must_be_whole(oracle)
    assert second.document["id"].startswith(session["session_id"])
    assert second.document["etag"] == session["object"]["etag"]
    assert second.document["checksums"] == session["object"]["checksums"]
    # What is secret is nowhere to be read.
    assert "webhook failed" in deployed.log
    assert "of-the-url" not in deployed.log
    assert SECRET not in deployed.log


async def test_row_50_what_the_documented_receiver_verifies_is_what_was_signed(
    api: Api, receiver: Receiver
) -> None:
    names: dict[str, Any] = {}
    exec(VERIFIED, names)  # noqa: S102 - it is our own README.
    verified = names["verified"]
    upload = await ready(api)
    await upload.complete()
    letter = await letter_of(upload, receiver)
    assert verified(SECRET, letter.headers, letter.body)
    sent = int(letter.headers["Webhook-Timestamp"])
    for change in (
        {"Webhook-Id": "another:1"},
        {"Webhook-Timestamp": str(sent + 1)},
        {"Webhook-Timestamp": "²"},
        {"Webhook-Signature": "v1,AAAA"},
        {"Webhook-Signature": "é"},
    ):
        assert not verified(SECRET, {**letter.headers, **change}, letter.body)
    assert not verified(SECRET, letter.headers, letter.body + b" ")
    assert not verified("another secret", letter.headers, letter.body)
    assert not verified(SECRET, letter.headers, letter.body, tolerance=-1)


class Consumer:
    """The program of the README, which reads the stream as a member of a group."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.told: list[str] = []
        self._process = process

    async def hears_of(self, upload: Upload) -> None:
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            while not any(upload.session["session_id"] in line for line in self.told):
                line = (await self._process.stdout.readline()).decode()
                assert line, (await self._process.communicate())[1].decode()
                self.told.append(line)


@pytest_asyncio.fixture
async def consumer(deployed: Deployment, tmp_path: Path) -> AsyncIterator[Consumer]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", CONSUMER),
        cwd=tmp_path,
        env={**os.environ, "GW_REDIS_URL": deployed.valkey.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    yield Consumer(process)
    process.kill()
    await process.communicate()


async def test_row_50_killed_before_it_notes_anything_a_gateway_tells_the_same_event_twice(
    deployed: Deployment,
    api: Api,
    receiver: Receiver,
    oracle: minio.Minio,
    consumer: Consumer,
) -> None:
    upload = await ready(api)
    answered = asyncio.Event()
    receiver.answer(answered, about=upload.session["session_id"])
    await upload.complete()
    first = await letter_of(upload, receiver)
    event_id = first.headers["Webhook-Id"]
    await consumer.hears_of(upload)
    # The receiver has it, and the gateway will never know.
    await deployed.kill_gateway()
    answered.set()
    async with redis.asyncio.from_url(deployed.valkey.url) as client:
        # As it was the moment after the change: entered, recorded, and not in the stream.
        for kind in ("due", "since"):
            await client.zadd(f"gw:{{queue:pending}}:{kind}", {event_id: 1})
    await let_time_pass(deployed, "due")
    await expire_leases(deployed.valkey.url)
    await deployed.start_gateway()
    second = await letter_of(upload, receiver)
    await waiting(deployed, "due", 0)
    assert (second.headers["Webhook-Id"], second.body) == (event_id, first.body)

    after = await ready(api)
    await after.complete()
    await consumer.hears_of(after)
    # With Redis, the group is gone, and all that was handed on.
    await deployed.empty_redis()
    last = await ready(api)
    await last.complete()
    await consumer.hears_of(last)
    # What it was told before comes again, from the sidecars, and it knows it by its id.
    sessions = {one.session["session_id"] for one in (upload, after, last)}
    async with redis.asyncio.from_url(deployed.valkey.url) as client, asyncio.timeout(30):
        while True:
            entries = await client.xrange("gw:events")
            (group,) = await client.xinfo_groups("gw:events")
            again = {fields[b"id"].decode().partition(":")[0] for _, fields in entries}
            if sessions <= again and (group["lag"], group["pending"]) == (0, 0):
                break
            await asyncio.sleep(0.05)
    assert len(set(consumer.told)) == len(consumer.told)
    await upload.must_be_whole(oracle)


async def test_row_50_what_was_given_up_is_listed_and_replayed_by_hand(
    deployed: Deployment, api: Api, receiver: Receiver
) -> None:
    upload = await ready(api)
    session_id = upload.session["session_id"]
    receiver.answer(*[500] * 99, about=session_id)
    await upload.complete()
    given_up = asyncio.create_task(waiting(deployed, "dead", 1))
    while not given_up.done():
        await let_time_pass(deployed, "since", "due")
        await asyncio.sleep(0.05)
    (event_id,) = await given_up

    (listed,) = await lines_of(deployed, "--dead", "--json")
    assert (listed["id"], listed["reason"]) == (event_id, "status_500")
    assert listed["webhook"] == receiver.url.removesuffix("/hook")

    receiver.forgive(session_id)
    await lines_of(deployed, "--replay", "--all")
    while (await receiver.next()).headers["Webhook-Id"] != event_id:
        pass
    await waiting(deployed, "dead", 0)
    await waiting(deployed, "due", 0)


async def lines_of(deployed: Deployment, *arguments: str) -> list[Any]:
    """Run `gateway events`, and return the JSON of its lines."""
    code, out, err = await (await deployed.start_client("events", *arguments)).result()
    assert code == 0, err
    return [orjson.loads(line) for line in out.splitlines()]
