"""Takes events out of the outboxes, and sees to it that each arrives at least once.

Every gateway process runs one. What it works on is claimed for a while, so that others leave it
alone; if it dies, they take it up afterwards. Twice is possible at any point (a process killed
between a receiver's 200 and its own note of it), never is not: an event leaves the index when the
stream has it and every webhook's queue, and a letter leaves its queue with a 2xx or, given up, for
the dead. What receivers go by is the event's id, which is the same each time.

Order is not promised, not within a session either: an event tells its time.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import structlog

from gateway.core.events import Event
from gateway.core.lifecycle import recorded_event
from gateway.core.model import UploadSession
from gateway.core.outbox import EventStream, Letter, Letters, Outbox, Pending
from gateway.core.ports import Clock, SessionStore, Sidecars
from gateway.delivery.document import event_document
from gateway.delivery.webhooks import Endpoint, Webhooks
from gateway.errors import GatewayError, Internal, SessionNotFound
from gateway.telemetry import Metrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DelivererOptions:
    """How to hand on. Seconds, but for counts and durations.

    `interval` is the pause when there was nothing to do, `claim` how long what was claimed is left
    to whoever has it: longer than an attempt may take. `batch` events are handed on in one go, and
    `at_once` letters are on their way to one endpoint.

    After an attempt has failed, the next one comes after `first_pause`, doubled with each failure up
    to `longest_pause`, and shortened by up to half at random. `retry_for` after the first attempt the
    letter is given up, and kept for `keep_dead`.

    An entry of the index whose event nobody finds is garbage after `dangling`: whoever entered it has
    failed or died before it was recorded.
    """

    interval: float = 0.5
    claim: float = 60.0
    batch: int = 100
    at_once: int = 8
    first_pause: float = 5.0
    longest_pause: float = 3600.0
    retry_for: timedelta = timedelta(days=1)
    keep_dead: timedelta = timedelta(days=30)
    dangling: timedelta = timedelta(minutes=10)
    figures: float = 10.0
    grace: float = 2.0


class Deliverer:
    """One a process; see the module's docstring."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        stream: EventStream,
        letters: Letters,
        sessions: SessionStore,
        sidecars: Sidecars,
        clock: Clock,
        webhooks: Webhooks,
        metrics: Metrics,
        options: DelivererOptions | None = None,
    ) -> None:
        self._outbox = outbox
        self._stream = stream
        self._letters = letters
        self._sessions = sessions
        self._sidecars = sidecars
        self._clock = clock
        self._webhooks = webhooks
        self._metrics = metrics
        self._options = options or DelivererOptions()
        # Endpoints whose last attempt failed: they are tried with one letter at a time.
        self._failing: set[str] = set()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Hand on until `stop`. A round that fails is logged, and the next one tries again."""
        async with self._webhooks, asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self.hand_on, self._options.interval))
            group.create_task(self._repeat(self.count, self._options.figures))
            for endpoint in self._webhooks.endpoints:
                delivering = partial(self.deliver, endpoint)
                group.create_task(self._repeat(delivering, self._options.interval))

    async def stop(self, running: asyncio.Task[None]) -> None:
        """End `run`, which this task has, in order: what is on its way has a moment to arrive."""
        self._stopping.set()
        await asyncio.wait([running], timeout=self._options.grace)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def hand_on(self) -> bool:
        """Hand on what waits in the outboxes; tell whether there may be more."""
        options = self._options
        claimed = await self._outbox.claim(
            self._clock.now(), seconds=options.claim, limit=options.batch
        )
        await self._each(claimed, self._hand_on)
        return len(claimed) == options.batch

    async def deliver(self, endpoint: Endpoint) -> bool:
        """Send an endpoint the letters that are due; tell whether there may be more."""
        limit = 1 if endpoint.endpoint_id in self._failing else self._options.at_once
        claimed = await self._letters.claim(
            endpoint.endpoint_id, self._clock.now(), seconds=self._options.claim, limit=limit
        )
        await self._each(claimed, lambda letter: self._deliver(endpoint, letter))
        # One that fails is not called in a tight loop, however much there is for it.
        return len(claimed) == limit and endpoint.endpoint_id not in self._failing

    async def count(self) -> bool:
        """Bring the figures up to date, and the names of the endpoints."""
        endpoints = self._webhooks.endpoints
        await self._letters.register({one.endpoint_id: one.name for one in endpoints})
        backlogs = {"stream": [await self._outbox.backlog()]}
        for endpoint in endpoints:
            # Several may have one name: what is different in their URLs may be a secret.
            backlog = await self._letters.backlog(endpoint.endpoint_id)
            backlogs.setdefault(endpoint.name, []).append(backlog)
        now = self._clock.now()
        for name, of_one_name in backlogs.items():
            ages = [(now - one.oldest).total_seconds() for one in of_one_name if one.oldest]
            self._metrics.event_backlog(
                name,
                waiting=sum(one.waiting for one in of_one_name),
                oldest=max(0.0, *ages, 0.0),
                dead=sum(one.dead for one in of_one_name),
            )
        return False

    async def _repeat(self, work: Callable[[], Awaitable[bool]], pause: float) -> None:
        while not self._stopping.is_set():
            more = False
            try:
                more = await work()
            except GatewayError as error:
                log.warning("events are not handed on", code=error.code)
            except Exception:
                log.exception("handing on crashed")
            with suppress(TimeoutError):
                async with asyncio.timeout(0 if more else pause):
                    await self._stopping.wait()

    async def _each(
        self, items: Sequence[Pending] | Sequence[Letter], work: Callable[..., Awaitable[None]]
    ) -> None:
        slots = asyncio.Semaphore(self._options.at_once)

        async def one(item: Pending | Letter) -> None:
            async with slots:
                try:
                    await work(item)
                except GatewayError as error:
                    # Nothing is lost: it is claimed again after a while.
                    log.warning("an event is not handed on", code=error.code)
                except Exception:
                    log.exception("handing an event on crashed")

        await asyncio.gather(*map(one, items))

    async def _hand_on(self, entry: Pending) -> None:
        old = self._clock.now() - entry.since >= self._options.dangling
        event = entry.event or (await self._remembered(entry) if old else None)
        if event is None:
            if old:
                await self._outbox.settle(entry)
            return
        try:
            document = event_document(event, await self._session(event.session_id))
        except SessionNotFound:
            if old:
                log.warning(
                    "an event's session is gone, and so is the event", event_id=entry.event_id
                )
                await self._outbox.settle(entry)
            return
        # The queues first: they know their letters again when this is repeated.
        for endpoint in self._webhooks.endpoints:
            await self._letters.add(endpoint.endpoint_id, event, self._clock.now())
        await self._stream.append(event, document)
        self._metrics.event_delivered("stream")
        await self._outbox.settle(entry)

    async def _remembered(self, entry: Pending) -> Event | None:
        """Return an event whose session Redis has forgotten since, out of the sidecar."""
        try:
            event = recorded_event((await self._sidecars.read(entry.session_id)).session)
        except (SessionNotFound, Internal):
            return None
        return event if event is not None and event.event_id == entry.event_id else None

    async def _deliver(self, endpoint: Endpoint, letter: Letter) -> None:
        event, name = letter.event, endpoint.endpoint_id
        try:
            body = event_document(event, await self._session(event.session_id))
        except (SessionNotFound, Internal) as error:
            reason = error.code
        else:
            reason = await self._webhooks.send(endpoint, event.event_id, body)
        if not reason:
            self._failing.discard(name)
            await self._letters.delivered(name, event.event_id)
            self._metrics.event_delivered(endpoint.name)
            return
        self._failing.add(name)
        self._metrics.webhook_failed(endpoint.name, reason)
        await self._put_back(endpoint, replace(letter, attempts=letter.attempts + 1, reason=reason))

    async def _put_back(self, endpoint: Endpoint, letter: Letter) -> None:
        now, options, name = self._clock.now(), self._options, endpoint.endpoint_id
        about = log.bind(
            webhook=endpoint.name,
            event_id=letter.event.event_id,
            attempts=letter.attempts,
            reason=letter.reason,
        )
        if now - letter.since >= options.retry_for:
            about.error("a letter to a webhook is given up")
            forget_before = now - options.keep_dead
            await self._letters.bury(name, replace(letter, at=now), forget_before=forget_before)
            return
        about.warning("a webhook failed")
        pause = min(options.longest_pause, options.first_pause * 2 ** min(letter.attempts - 1, 30))
        # Many that failed together should not come back together.
        pause *= random.uniform(0.5, 1.0)  # noqa: S311 - no secret is made.
        await self._letters.postpone(name, replace(letter, at=now + timedelta(seconds=pause)))

    async def _session(self, session_id: str) -> UploadSession:
        """Return the session without bringing it back, where Redis has forgotten or spoilt it."""
        try:
            return await self._sessions.get(session_id)
        except (SessionNotFound, Internal):
            return (await self._sidecars.read(session_id)).session
