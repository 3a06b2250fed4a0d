"""What every Outbox, EventStream and Letters must do: subclass these, and give them fixtures.

`sessions` is a SessionStore over the same place: it records what is handed on.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from conformance.session_store import new_session, settled

from gateway.core.clock import SystemClock
from gateway.core.events import Event, EventType
from gateway.core.lifecycle import event_for
from gateway.core.outbox import EventStream, Letter, Letters, Outbox
from gateway.core.ports import SessionStore
from gateway.errors import Conflict, InvalidRequest

HOOK = "0123456789abcdef"
SECOND = timedelta(seconds=1)


def new_event() -> Event:
    """Return an event of a session of its own."""
    clock = SystemClock()
    return settled(new_session(updated_at=clock.now()))[1]


async def recorded(sessions: SessionStore) -> Event:
    """Record an event with its state change."""
    session = await sessions.add(new_session(updated_at=SystemClock().now()))
    after, event = settled(session)
    await sessions.save(after, event)
    return event


class OutboxSuite:
    """Needs fixtures `outbox` and `sessions`, empty."""

    async def test_a_recorded_event_is_pending_until_it_is_settled(
        self, outbox: Outbox, sessions: SessionStore
    ) -> None:
        event = await recorded(sessions)
        at = SystemClock().now()
        (entry,) = await outbox.claim(at, seconds=10, limit=10)
        assert (entry.event, entry.session_id) == (event, event.session_id)
        assert abs(entry.since - at) < 5 * SECOND
        assert (await outbox.backlog()).waiting == 1
        assert (await outbox.backlog()).oldest == entry.since

        await outbox.settle(entry)

        assert (await outbox.backlog()).waiting == 0
        assert (await outbox.backlog()).oldest is None
        assert not await outbox.claim(at + timedelta(days=1), seconds=10, limit=10)
        # The outbox itself keeps it: it is part of what happened.
        assert await sessions.outbox(event.session_id) == [event]

    async def test_what_is_claimed_is_left_to_its_claimer_for_a_while(
        self, outbox: Outbox, sessions: SessionStore
    ) -> None:
        events = {(await recorded(sessions)).event_id for _ in range(5)}
        at = SystemClock().now()
        claims = await asyncio.gather(*(outbox.claim(at, seconds=10, limit=2) for _ in range(5)))
        claimed = [entry.event_id for one in claims for entry in one]
        assert sorted(claimed) == sorted(events)
        assert not await outbox.claim(at + 9 * SECOND, seconds=10, limit=10)
        again = await outbox.claim(at + 11 * SECOND, seconds=10, limit=10)
        assert {entry.event_id for entry in again} == events

    async def test_a_creation_is_not_handed_on(
        self, outbox: Outbox, sessions: SessionStore
    ) -> None:
        session = new_session(updated_at=SystemClock().now())
        await sessions.add(session, event_for(session, EventType.CREATED))
        assert (await outbox.backlog()).waiting == 0

    async def test_an_event_that_comes_with_a_restored_session_is_pending_again(
        self, outbox: Outbox, sessions: SessionStore
    ) -> None:
        after, event = settled(new_session(updated_at=SystemClock().now()))
        await sessions.add(after, event)
        (entry,) = await outbox.claim(SystemClock().now(), seconds=10, limit=10)
        assert entry.event == event

    async def test_what_was_handed_on_a_retention_ago_is_not_handed_on_again(
        self, outbox: Outbox, sessions: SessionStore
    ) -> None:
        long_ago = SystemClock().now() - timedelta(days=31)
        after, event = settled(new_session(updated_at=long_ago))
        await sessions.add(after, event)
        assert (await outbox.backlog()).waiting == 0

    async def test_a_save_that_loses_leaves_an_entry_without_an_event(
        self, outbox: Outbox, sessions: SessionStore
    ) -> None:
        session = await sessions.add(new_session(updated_at=SystemClock().now()))
        after, event = settled(session)
        stale = replace(after, version=after.version + 1)
        with pytest.raises(Conflict):
            await sessions.save(stale, replace(event, event_id=f"{session.session_id}:5"))
        (entry,) = await outbox.claim(SystemClock().now(), seconds=10, limit=10)
        assert (entry.event, entry.event_id) == (None, f"{session.session_id}:5")

    async def test_an_entry_that_is_entered_again_while_it_is_settled_stays(
        self, outbox: Outbox, sessions: SessionStore
    ) -> None:
        session = await sessions.add(new_session(updated_at=SystemClock().now()))
        after, event = settled(session)
        unsaved = replace(after, version=9)
        with pytest.raises(Conflict):
            await sessions.save(unsaved, event)
        (entry,) = await outbox.claim(SystemClock().now(), seconds=10, limit=10)
        assert entry.event is None
        while SystemClock().now() <= entry.since:  # noqa: ASYNC110 - a clock sets no event.
            await asyncio.sleep(0.001)
        await sessions.save(after, event)

        await outbox.settle(entry)

        (entry,) = await outbox.claim(SystemClock().now(), seconds=10, limit=10)
        assert entry.event == event

    async def test_an_entry_that_is_claimed_before_its_event_is_recorded_comes_again_soon(
        self, outbox: Outbox, sessions: SessionStore
    ) -> None:
        session = await sessions.add(new_session(updated_at=SystemClock().now()))
        after, event = settled(session)
        with pytest.raises(Conflict):
            await sessions.save(replace(after, version=9), event)
        at = SystemClock().now()
        (entry,) = await outbox.claim(at, seconds=60, limit=10)
        assert entry.event is None
        assert not await outbox.claim(at, seconds=60, limit=10)
        (entry,) = await outbox.claim(at + SECOND, seconds=60, limit=10)
        assert entry.event is None
        await outbox.settle(entry)
        assert not await outbox.claim(at + timedelta(days=1), seconds=60, limit=10)


class EventStreamSuite:
    """Needs a fixture `stream`, empty, which keeps about a hundred entries."""

    async def test_entries_are_read_in_order_from_any_position_on(
        self, stream: EventStream
    ) -> None:
        assert not await stream.read("0", limit=10)
        for number in range(5):
            await stream.append(new_event(), b"%d" % number)
        entries = await stream.read("0", limit=3)
        assert [entry.document for entry in entries] == [b"0", b"1", b"2"]
        rest = await stream.read(entries[-1].position, limit=10)
        assert [entry.document for entry in rest] == [b"3", b"4"]
        assert await stream.newest() == rest[-1].position
        assert not await stream.read(rest[-1].position, limit=10)

    async def test_a_reader_that_waits_gets_what_comes(self, stream: EventStream) -> None:
        start = await stream.newest()
        waiting = asyncio.create_task(stream.read(start, limit=10, wait=4))
        while not waiting.done():
            # Which of the two is first does not matter.
            await stream.append(new_event(), b"news")
            await asyncio.sleep(0.01)
        assert {entry.document for entry in await waiting} == {b"news"}

    async def test_waiting_for_nothing_ends(self, stream: EventStream) -> None:
        assert not await stream.read(await stream.newest(), limit=10, wait=0.05)

    async def test_old_entries_go(self, stream: EventStream) -> None:
        for number in range(500):
            await stream.append(new_event(), b"%d" % number)
        entries = await stream.read("0", limit=1000)
        assert entries[-1].document == b"499"
        assert 100 <= len(entries) < 300

    @pytest.mark.parametrize(
        "position", ["", "x", "1-", "-1", "1-2-3", "$", ">", "+", "1 2", "²", str(1 << 64)]
    )
    async def test_what_is_no_position_is_told(self, stream: EventStream, position: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await stream.read(position, limit=1)
        assert caught.value.code == "invalid_position"


class LettersSuite:
    """Needs a fixture `letters`, empty."""

    async def test_a_letter_waits_is_claimed_and_is_delivered(self, letters: Letters) -> None:
        event, at = new_event(), SystemClock().now()
        await letters.add(HOOK, event, at)
        assert not await letters.claim("another", at, seconds=60, limit=10)
        (letter,) = await letters.claim(HOOK, at, seconds=60, limit=10)
        assert letter == Letter(event, at)
        assert not await letters.claim(HOOK, at, seconds=60, limit=10)
        backlog = await letters.backlog(HOOK)
        assert (backlog.waiting, backlog.oldest, backlog.dead) == (1, at, 0)

        await letters.delivered(HOOK, event.event_id)

        backlog = await letters.backlog(HOOK)
        assert (backlog.waiting, backlog.oldest, backlog.dead) == (0, None, 0)
        assert not await letters.claim(HOOK, at + timedelta(days=1), seconds=60, limit=10)

    async def test_the_same_event_is_one_letter(self, letters: Letters) -> None:
        event, at = new_event(), SystemClock().now()
        await letters.add(HOOK, event, at)
        (letter,) = await letters.claim(HOOK, at, seconds=60, limit=10)
        later = replace(letter, attempts=3, reason="timeout", at=at + 90 * SECOND)
        await letters.postpone(HOOK, later)
        await letters.add(HOOK, event, at + SECOND)
        assert not await letters.claim(HOOK, at + 89 * SECOND, seconds=60, limit=10)
        assert await letters.claim(HOOK, at + 90 * SECOND, seconds=60, limit=10) == [later]

    async def test_a_claim_that_lapses_is_somebody_elses(self, letters: Letters) -> None:
        event, at = new_event(), SystemClock().now()
        await letters.add(HOOK, event, at)
        (mine,) = await letters.claim(HOOK, at, seconds=60, limit=10)
        (theirs,) = await letters.claim(HOOK, at + 60 * SECOND, seconds=60, limit=10)
        await letters.delivered(HOOK, theirs.event.event_id)

        # The first claimer comes back, and brings nothing back to life.
        late = replace(mine, attempts=1, at=at + 61 * SECOND)
        await letters.postpone(HOOK, late)
        await letters.bury(HOOK, late, forget_before=at)

        backlog = await letters.backlog(HOOK)
        assert (backlog.waiting, backlog.dead) == (0, 0)

    async def test_no_more_than_asked_for_are_claimed_and_by_one_each(
        self, letters: Letters
    ) -> None:
        at = SystemClock().now()
        events = [new_event() for _ in range(20)]
        for event in events:
            await letters.add(HOOK, event, at)
        claims = await asyncio.gather(
            *(letters.claim(HOOK, at, seconds=60, limit=3) for _ in range(10))
        )
        assert max(map(len, claims)) == 3
        claimed = [letter.event.event_id for one in claims for letter in one]
        assert sorted(claimed) == sorted(event.event_id for event in events)

    async def test_what_was_given_up_is_listed_and_can_be_replayed(self, letters: Letters) -> None:
        at = SystemClock().now()
        events = [new_event() for _ in range(5)]
        for number, event in enumerate(events):
            await letters.add(HOOK, event, at)
            dead = Letter(event, at, attempts=9, reason="timeout", at=at + number * SECOND)
            await letters.bury(HOOK, dead, forget_before=at - SECOND)
        assert not await letters.claim(HOOK, at + timedelta(days=9), seconds=60, limit=10)
        page = await letters.dead(HOOK, start=1, limit=3)
        assert [letter.event for letter in page] == events[1:4]
        assert page[0] == Letter(events[1], at, attempts=9, reason="timeout", at=at + SECOND)
        # One that is dead is not added again.
        await letters.add(HOOK, events[0], at)
        assert (await letters.backlog(HOOK)).waiting == 0

        later = at + timedelta(days=1)
        assert await letters.replay(HOOK, events[2].event_id, later)
        assert not await letters.replay(HOOK, events[2].event_id, later)
        assert not await letters.replay(HOOK, "nobody:1", later)

        (letter,) = await letters.claim(HOOK, later, seconds=60, limit=10)
        assert (letter.event, letter.since, letter.attempts) == (events[2], later, 0)
        backlog = await letters.backlog(HOOK)
        assert (backlog.waiting, backlog.oldest, backlog.dead) == (1, later, 4)

    async def test_what_was_given_up_long_ago_is_forgotten(self, letters: Letters) -> None:
        at = SystemClock().now()
        old, new = new_event(), new_event()
        for event, when in ((old, at), (new, at + timedelta(days=31))):
            await letters.add(HOOK, event, when)
            dead = Letter(event, when, attempts=1, reason="timeout", at=when)
            await letters.bury(HOOK, dead, forget_before=when - timedelta(days=30))
        assert [one.event for one in await letters.dead(HOOK, start=0, limit=9)] == [new]
        # Forgotten altogether: it could be added again.
        await letters.add(HOOK, old, at)
        assert [one.event for one in await letters.waiting(HOOK, start=0, limit=9)] == [old]

    async def test_endpoints_are_known_by_their_names(self, letters: Letters) -> None:
        assert await letters.endpoints() == {}
        await letters.register({})
        await letters.register({HOOK: "https://one.example"})
        await letters.register({"other": "https://two.example"})
        assert await letters.endpoints() == {
            HOOK: "https://one.example",
            "other": "https://two.example",
        }
