"""The deliverer over a real Valkey: nothing is lost, whatever fails and whoever dies.

Time is the test's own: it passes when a test says so.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
import pytest_asyncio
from conformance.session_store import new_session
from delivery.receiver import Receiver
from structlog.testing import capture_logs

from gateway.core.checksums import Checksum
from gateway.core.clock import SystemClock
from gateway.core.events import Event
from gateway.core.lifecycle import Trigger, advance
from gateway.core.model import Problem, State, StoredObject, UploadSession, VerifiedBy
from gateway.core.outbox import EventStream
from gateway.core.ports import Clock, Sidecar, Sidecars
from gateway.delivery.deliverer import Deliverer, DelivererOptions
from gateway.delivery.webhooks import Endpoint, WebhookOptions, Webhooks
from gateway.errors import SessionNotFound, Unavailable
from gateway.state.redis.client import Client
from gateway.state.redis.events import RedisEventStream, RedisLetters, RedisOutbox
from gateway.state.redis.keys import Keys
from gateway.state.redis.store import RedisSessionStore, RedisStoreOptions
from gateway.telemetry import Metrics

DAY = timedelta(days=1)


class Time(Clock):
    """Stands still until it is told to pass."""

    def __init__(self) -> None:
        self._now = SystemClock().now()

    def now(self) -> datetime:
        return self._now

    def passes(self, by: timedelta) -> None:
        self._now += by


class Remembered(Sidecars):
    """Sidecars in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, Sidecar] = {}

    async def write(self, sidecar: Sidecar) -> None:
        self.kept[sidecar.session.session_id] = sidecar

    async def read(self, session_id: str) -> Sidecar:
        if session_id not in self.kept:
            raise SessionNotFound
        return self.kept[session_id]

    async def ids(self) -> AsyncGenerator[str, None]:
        for session_id in self.kept:
            yield session_id


@dataclass
class Office:
    """Everything that a deliverer works with; `open` makes one, as another process would.

    `webhooks` are open already; one that is to `run` opens its own.
    """

    client: Client
    prefix: str
    webhooks: Webhooks
    time: Time = field(default_factory=Time)
    sidecars: Remembered = field(default_factory=Remembered)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.sessions = RedisSessionStore(
            self.client, RedisStoreOptions(prefix=self.prefix), clock=self.time
        )
        self.outbox = RedisOutbox(self.client, prefix=self.prefix)
        self.stream: EventStream = RedisEventStream(self.client, prefix=self.prefix)
        self.letters = RedisLetters(self.client, prefix=self.prefix)
        self.keys = Keys(self.prefix)

    def open(self, webhooks: Webhooks | None = None, **options: Any) -> Deliverer:
        return Deliverer(
            outbox=self.outbox,
            stream=self.stream,
            letters=self.letters,
            sessions=self.sessions,
            sidecars=self.sidecars,
            clock=self.time,
            webhooks=webhooks or self.webhooks,
            metrics=self.metrics,
            options=DelivererOptions(**options),
        )

    @property
    def hook(self) -> Endpoint:
        return self.webhooks.endpoints[0]

    async def completed(self, **changes: Any) -> Event:
        """Record a completed upload, with its sidecar and its event."""
        session = new_session(state=State.VERIFYING, updated_at=self.time.now(), **changes)
        await self.sessions.add(session)
        stored = StoredObject("bucket", "uploads/x/film", 7, "etag-1", {"crc32c": "AAAAAA=="})
        after, event = advance(
            session,
            Trigger.VERIFIED,
            self.time.now(),
            object=stored,
            verified_by=VerifiedBy.CLIENT_PARTS,
        )
        assert event is not None
        await self.sidecars.write(Sidecar(after))
        await self.sessions.save(after, event)
        return event

    async def streamed(self) -> list[str]:
        """Return the ids of all events in the stream."""
        return [orjson.loads(one.document)["id"] for one in await self.stream.read("0", limit=999)]

    async def forget(self, session: str, *names: str) -> None:
        """Let Redis lose keys of a session."""
        for name in names:
            await self.client.command("DEL", f"{self.prefix}:{{{session}}}:{name}")

    def figures(self) -> Mapping[str, float]:
        """Return the metrics of handing on."""
        lines = self.metrics.exposition().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if "_events_" in line or "webhook" in line)
        return {name: float(value) for name, value in pairs if "#" not in name}


def webhooks_of(receiver: Receiver) -> Webhooks:
    endpoint = Endpoint(receiver.url, anywhere=True)
    return Webhooks([endpoint], SystemClock(), WebhookOptions(b"key", total=0.5))


@pytest_asyncio.fixture
async def office(client: Client, redis_prefix: str, receiver: Receiver) -> AsyncIterator[Office]:
    async with webhooks_of(receiver) as webhooks:
        yield Office(client, redis_prefix, webhooks)


async def test_an_event_reaches_the_stream_and_the_webhook_with_the_same_facts(
    office: Office, receiver: Receiver
) -> None:
    event = await office.completed(metadata={"project": "42 ☕"}, filename="fílm.mkv")
    deliverer = office.open()
    assert await deliverer.hand_on() is False
    assert await deliverer.deliver(office.hook) is False

    (entry,) = await office.stream.read("0", limit=9)
    letter = await receiver.next()
    assert letter.body == entry.document
    assert letter.headers["Webhook-Id"] == event.event_id
    session = await office.sessions.get(event.session_id)
    assert letter.document == {
        "id": event.event_id,
        "type": "upload.completed",
        "time": letter.document["time"],
        "session_id": event.session_id,
        "owner": session.owner,
        "state": "completed",
        "filename": "fílm.mkv",
        "content_type": "video/mp4",
        "size": 7,
        "bucket": "bucket",
        "key": "key",
        "etag": "etag-1",
        "checksums": {"crc32c": "AAAAAA=="},
        "verified_by": "client_parts",
        "metadata": {"project": "42 ☕"},
        "error": None,
    }
    assert datetime.fromisoformat(letter.document["time"]) == event.at
    # There is nothing left to do.
    await deliverer.hand_on()
    await deliverer.deliver(office.hook)
    assert await office.streamed() == [event.event_id]
    assert len(receiver.received) == 1
    assert (await office.outbox.backlog()).waiting == 0
    assert (await office.letters.backlog(office.hook.endpoint_id)).waiting == 0


@pytest.mark.parametrize(
    ("trigger", "state", "type_"),
    [
        (Trigger.MISMATCH, State.VERIFYING, "upload.corrupt"),
        (Trigger.REJECT, State.VERIFYING, "upload.rejected"),
        (Trigger.ABORT, State.OPEN, "upload.aborted"),
        (Trigger.EXPIRE, State.OPEN, "upload.expired"),
    ],
)
async def test_every_other_end_is_handed_on_too(
    office: Office, trigger: Trigger, state: State, type_: str
) -> None:
    session = await office.sessions.add(new_session(state=state, updated_at=office.time.now()))
    problem = Problem("a_code", "A message.", "A hint.")
    after, event = advance(session, trigger, office.time.now(), error=problem)
    await office.sessions.save(after, event)
    await office.open().hand_on()
    (entry,) = await office.stream.read("0", limit=9)
    document = orjson.loads(entry.document)
    assert (document["type"], document["state"]) == (type_, after.state.value)
    assert document["error"] == {"code": "a_code", "message": "A message.", "hint": "A hint."}
    assert (document["etag"], document["checksums"]) == (None, {})


async def test_a_webhook_that_fails_is_tried_again_later_and_later(
    office: Office, receiver: Receiver
) -> None:
    event = await office.completed()
    deliverer = office.open(first_pause=5, longest_pause=60)
    await deliverer.hand_on()
    pauses = []
    for _ in range(8):
        receiver.answer(500)
        await deliverer.deliver(office.hook)
        (letter,) = await office.letters.waiting(office.hook.endpoint_id, start=0, limit=9)
        assert letter.reason == "status_500"
        assert letter.at is not None
        pause = letter.at - office.time.now()
        # Not a moment earlier.
        office.time.passes(pause - timedelta(milliseconds=1))
        before = len(receiver.received)
        await deliverer.deliver(office.hook)
        assert len(receiver.received) == before
        office.time.passes(timedelta(milliseconds=1))
        pauses.append(pause.total_seconds())
    longest = [5, 10, 20, 40, 60, 60, 60, 60]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, longest, strict=True))
    assert len(set(pauses)) == len(pauses)

    await deliverer.deliver(office.hook)

    assert {one.headers["Webhook-Id"] for one in receiver.received} == {event.event_id}
    assert len({one.body for one in receiver.received}) == 1
    assert (await office.letters.backlog(office.hook.endpoint_id)).waiting == 0


async def test_a_webhook_that_never_answers_holds_up_nobody(
    office: Office, receiver: Receiver
) -> None:
    receiver.answer(asyncio.Event(), asyncio.Event())
    await office.completed()
    await office.completed()
    deliverer = office.open()
    await deliverer.hand_on()
    async with asyncio.timeout(10):
        await deliverer.deliver(office.hook)
    waiting = await office.letters.waiting(office.hook.endpoint_id, start=0, limit=9)
    assert [(one.reason, one.attempts) for one in waiting] == [("timeout", 1)] * 2
    assert len(await office.streamed()) == 2


async def test_while_a_webhook_fails_it_is_called_for_one_letter_at_a_time(
    office: Office, receiver: Receiver
) -> None:
    for _ in range(20):
        await office.completed()
    deliverer = office.open(at_once=4)
    await deliverer.hand_on()
    receiver.answer(*[500] * 6)
    for calls in (4, 5, 6, 7):
        await deliverer.deliver(office.hook)
        assert len(receiver.received) == calls
    # The seventh was taken.
    assert await deliverer.deliver(office.hook) is True
    assert len(receiver.received) == 11


async def test_after_a_day_a_letter_is_given_up_kept_and_replayed(
    office: Office, receiver: Receiver
) -> None:
    event = await office.completed()
    deliverer = office.open()
    await deliverer.hand_on()
    hook = office.hook.endpoint_id
    receiver.answer(500, 503, 200)
    await deliverer.deliver(office.hook)
    office.time.passes(DAY)
    with capture_logs() as logs:
        await deliverer.deliver(office.hook)
    assert any(one["log_level"] == "error" and one["reason"] == "status_503" for one in logs)
    (dead,) = await office.letters.dead(hook, start=0, limit=9)
    assert (dead.event, dead.attempts, dead.reason) == (event, 2, "status_503")
    office.time.passes(DAY)
    await deliverer.deliver(office.hook)
    assert len(receiver.received) == 2

    assert await office.letters.replay(hook, event.event_id, office.time.now())
    await deliverer.deliver(office.hook)

    assert receiver.received[2].headers["Webhook-Id"] == event.event_id
    assert receiver.received[2].body == receiver.received[0].body
    backlog = await office.letters.backlog(hook)
    assert (backlog.waiting, backlog.dead) == (0, 0)


async def test_a_process_that_dies_with_what_it_claimed_loses_nothing(
    office: Office, receiver: Receiver
) -> None:
    event = await office.completed()
    await office.outbox.claim(office.time.now(), seconds=60, limit=9)
    survivor = office.open(claim=60)
    await survivor.hand_on()
    assert await office.streamed() == []
    office.time.passes(timedelta(seconds=60))
    await survivor.hand_on()
    assert await office.streamed() == [event.event_id]

    await office.letters.claim(office.hook.endpoint_id, office.time.now(), seconds=60, limit=9)
    await survivor.deliver(office.hook)
    assert not receiver.received
    office.time.passes(timedelta(seconds=60))
    await survivor.deliver(office.hook)
    assert len(receiver.received) == 1


class Cut(EventStream):
    """A stream that fails after it has appended, or before."""

    def __init__(self, stream: EventStream, *, after: bool) -> None:
        self._stream = stream
        self._after = after

    async def append(self, event: Event, document: bytes) -> None:
        if self._after:
            await self._stream.append(event, document)
        raise Unavailable("Redis does not answer.")

    async def read(self, after: str, *, limit: int, wait: float = 0) -> Any:
        return await self._stream.read(after, limit=limit, wait=wait)

    async def newest(self) -> str:
        return await self._stream.newest()


@pytest.mark.parametrize("after", [False, True])
async def test_killed_while_handing_on_it_is_handed_on_again_under_the_same_id(
    office: Office, receiver: Receiver, *, after: bool
) -> None:
    event = await office.completed()
    whole, office.stream = office.stream, Cut(office.stream, after=after)
    await office.open().hand_on()
    office.stream = whole
    office.time.passes(timedelta(minutes=1))
    deliverer = office.open()
    await deliverer.hand_on()
    assert await office.streamed() == [event.event_id] * (2 if after else 1)
    # To the webhook it is one letter all the same.
    await deliverer.deliver(office.hook)
    await deliverer.deliver(office.hook)
    assert len(receiver.received) == 1


async def test_an_entry_whose_event_was_never_recorded_is_garbage_but_not_at_once(
    office: Office,
) -> None:
    session = await office.sessions.add(
        new_session(state=State.VERIFYING, updated_at=office.time.now())
    )
    # Somebody enters it, and dies before it is recorded.
    _, event = advance(session, Trigger.VERIFIED, office.time.now())
    assert event is not None
    nowhere = replace(session, session_id="f" * 32, version=2)
    with pytest.raises(SessionNotFound):
        await office.sessions.save(nowhere, replace(event, event_id=f"{'f' * 32}:2"))
    deliverer = office.open()
    await deliverer.hand_on()
    office.time.passes(timedelta(minutes=9))
    await deliverer.hand_on()
    assert (await office.outbox.backlog()).waiting == 1
    office.time.passes(timedelta(minutes=2))
    await deliverer.hand_on()
    assert (await office.outbox.backlog()).waiting == 0
    assert await office.streamed() == []


async def test_an_event_recorded_long_after_it_was_entered_is_handed_on(office: Office) -> None:
    session = await office.sessions.add(
        new_session(state=State.VERIFYING, updated_at=office.time.now())
    )
    after, event = advance(session, Trigger.VERIFIED, office.time.now())
    assert event is not None
    # Entered, and not recorded yet.
    with pytest.raises(Exception, match="changed"):
        await office.sessions.save(replace(after, version=7), event)
    deliverer = office.open()
    await deliverer.hand_on()
    await office.sessions.save(after, event)
    office.time.passes(timedelta(minutes=1))
    await deliverer.hand_on()
    assert await office.streamed() == [event.event_id]


async def test_an_event_whose_session_redis_forgot_comes_from_the_sidecar(
    office: Office, receiver: Receiver
) -> None:
    event = await office.completed()
    # As when a short retention has passed while no gateway ran.
    await office.forget(event.session_id, "session", "outbox")
    deliverer = office.open()
    await deliverer.hand_on()
    assert await office.streamed() == []
    office.time.passes(timedelta(minutes=11))
    await deliverer.hand_on()
    await deliverer.deliver(office.hook)
    assert await office.streamed() == [event.event_id]
    assert receiver.received[0].document["etag"] == "etag-1"
    # It was not brought back into Redis for that.
    with pytest.raises(SessionNotFound):
        await office.sessions.get(event.session_id)


async def test_a_poisoned_record_is_handed_on_from_the_sidecar_and_harms_no_other(
    office: Office,
) -> None:
    bad, good = await office.completed(), await office.completed()
    await office.client.command("HSET", office.keys.session(bad.session_id), "record", "{broken")
    await office.open().hand_on()
    assert set(await office.streamed()) == {bad.event_id, good.event_id}


async def test_a_poisoned_outbox_or_letter_harms_no_other(
    office: Office, receiver: Receiver
) -> None:
    bad, good = await office.completed(), await office.completed()
    await office.client.command("LSET", office.keys.outbox(bad.session_id), -1, "{broken")
    deliverer = office.open()
    await deliverer.hand_on()
    assert await office.streamed() == [good.event_id]
    # It can still be told what it was.
    office.time.passes(timedelta(minutes=11))
    await deliverer.hand_on()
    assert set(await office.streamed()) == {bad.event_id, good.event_id}

    queue = office.keys.queue(f"webhook-{office.hook.endpoint_id}")
    await office.client.command("HSET", queue[2], bad.event_id, "{broken")
    await deliverer.deliver(office.hook)
    assert [one.headers["Webhook-Id"] for one in receiver.received] == [good.event_id]


async def test_a_full_redis_keeps_events_pending_until_there_is_room(
    office: Office, receiver: Receiver
) -> None:
    event = await office.completed()

    class Full(RedisLetters):
        async def add(self, *_: Any) -> None:
            raise Unavailable("Redis has no memory left for new sessions.", code="redis_full")

    room, office.letters = office.letters, Full(office.client, prefix=office.prefix)
    await office.open().hand_on()
    assert await office.streamed() == []
    office.letters = room
    office.time.passes(timedelta(minutes=1))
    deliverer = office.open()
    await deliverer.hand_on()
    await deliverer.deliver(office.hook)
    assert await office.streamed() == [event.event_id]
    assert len(receiver.received) == 1


async def test_corrupt_then_verified_again_is_told_as_what_it_has_become(office: Office) -> None:
    session = await office.sessions.add(
        new_session(
            state=State.VERIFYING,
            updated_at=office.time.now(),
            checksum=Checksum("crc32c", "AAAAAA=="),
        )
    )

    async def step(now: UploadSession, trigger: Trigger) -> UploadSession:
        after, event = advance(now, trigger, office.time.now())
        return await office.sessions.save(after, event)

    for trigger in (Trigger.MISMATCH, Trigger.RETRY, Trigger.VERIFIED):
        session = await step(session, trigger)
    await office.open().hand_on()
    entries = [orjson.loads(one.document) for one in await office.stream.read("0", limit=9)]
    told = {(one["id"].rpartition(":")[2], one["type"], one["state"]) for one in entries}
    assert told == {("4", "upload.completed", "completed"), ("2", "upload.corrupt", "completed")}


async def test_many_events_go_once_each_over_several_processes(
    office: Office, receiver: Receiver
) -> None:
    events = [await office.completed() for _ in range(60)]
    deliverers = [office.open(webhooks_of(receiver), interval=0.01, batch=7) for _ in range(3)]
    running = [asyncio.create_task(one.run()) for one in deliverers]
    for _ in events:
        await receiver.next()
    for deliverer, task in zip(deliverers, running, strict=True):
        await deliverer.stop(task)
    wanted = sorted(event.event_id for event in events)
    assert sorted(await office.streamed()) == wanted
    assert sorted(one.headers["Webhook-Id"] for one in receiver.received) == wanted


async def test_it_ends_in_order_and_at_once_when_told(office: Office, receiver: Receiver) -> None:
    taken = asyncio.Event()
    receiver.answer(taken)
    await office.completed()
    deliverer = office.open(webhooks_of(receiver), interval=0.01, grace=5)
    running = asyncio.create_task(deliverer.run())
    await receiver.next()
    stopping = asyncio.create_task(deliverer.stop(running))
    await asyncio.sleep(0)
    taken.set()
    async with asyncio.timeout(4):
        await stopping
    # What was on its way has arrived, and was noted.
    backlog = await office.letters.backlog(office.hook.endpoint_id)
    assert (backlog.waiting, backlog.dead) == (0, 0)


async def test_figures_tell_what_waits_what_failed_and_what_died(
    office: Office, receiver: Receiver
) -> None:
    deliverer = office.open()
    await office.completed()
    receiver.answer(500, 500)
    await deliverer.hand_on()
    await deliverer.deliver(office.hook)
    office.time.passes(timedelta(seconds=90))
    await office.completed()
    await deliverer.count()
    name = office.hook.name
    figures = office.figures()
    assert figures['gateway_events_delivered_total{to="stream"}'] == 1
    assert figures[f'gateway_webhook_failures_total{{reason="status_500",to="{name}"}}'] == 1
    assert figures['gateway_events_pending{to="stream"}'] == 1
    assert figures[f'gateway_events_pending{{to="{name}"}}'] == 1
    assert figures[f'gateway_events_oldest_pending_seconds{{to="{name}"}}'] == 90
    office.time.passes(DAY)
    await deliverer.deliver(office.hook)
    await deliverer.count()
    assert office.figures()[f'gateway_events_dead{{to="{name}"}}'] == 1
    assert office.figures()[f'gateway_events_pending{{to="{name}"}}'] == 0
    assert await office.letters.endpoints() == {office.hook.endpoint_id: name}
