"""What every SessionStore must do: subclass `SessionStoreSuite`, and give it a `sessions` fixture.

The names of the tests are the contract of `gateway.core.ports.SessionStore` in short.
"""

import asyncio
import secrets
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from samples import NOW, make_session

from gateway.core.checksums import Checksum
from gateway.core.events import Event, EventType
from gateway.core.lifecycle import RECHECK_AFTER, Trigger, advance, event_for
from gateway.core.model import (
    Part,
    Problem,
    Progress,
    State,
    StoredObject,
    UploadSession,
    VerifiedBy,
)
from gateway.core.ports import PartOutcome, SessionQuery, SessionStore
from gateway.errors import Conflict, InvalidRequest, SessionNotFound

STORED, SAME = PartOutcome.STORED, PartOutcome.SAME
MIB = 2**20


def new_session(**changes: Any) -> UploadSession:
    """Return an open session of 100 parts of 8 MiB, with an id and an owner of its own."""
    defaults = {
        "session_id": secrets.token_hex(16),
        "owner": secrets.token_hex(8),
        "version": 1,
        "size": 800 * MIB,
        "part_size": 8 * MIB,
    }
    return make_session(**defaults | changes)


def part(number: int, etag: str = "a", checksum: str | None = None, size: int = 8 * MIB) -> Part:
    return Part(number, size, etag, checksum)


def next_version(session: UploadSession, **changes: Any) -> UploadSession:
    return replace(session, version=session.version + 1, **changes)


def frozen(session: UploadSession) -> UploadSession:
    return advance(session, Trigger.COMPLETE, session.updated_at)[0]


def settled(session: UploadSession, *, cleared: bool = False) -> tuple[UploadSession, Event]:
    after, event = advance(session, Trigger.ABORT, session.updated_at, storage_cleared=cleared)
    assert event is not None
    return after, event


class SessionStoreSuite:
    """Needs a fixture `sessions`: an empty store, whose grace is 24 hours."""

    async def test_added_session_is_found_again_with_every_field(
        self, sessions: SessionStore
    ) -> None:
        session = new_session(
            state=State.CORRUPT,
            filename="Größe 🎬.mp4",
            metadata={"title": "ünïcode", "empty": ""},
            fingerprint="print",
            request_digest="digest",
            checksum=Checksum("crc32", "AAAAAA=="),
            object=StoredObject("b", "k", 5, "etag", {"crc32": "AAAAAA=="}, {"m": "1"}),
            verified_by=VerifiedBy.CLIENT_FILE,
            error=Problem("corrupt", "The bytes differ.", "Send it again."),
            storage_cleared=True,
        )

        added = await sessions.add(session)

        assert added == session
        assert added.progress == Progress()
        assert await sessions.get(session.session_id) == session

    async def test_adding_a_known_id_returns_the_recorded_session(
        self, sessions: SessionStore
    ) -> None:
        first = new_session(filename="first")
        await sessions.add(first, event_for(first, EventType.CREATED))
        await sessions.add_parts(first.session_id, [part(1)])
        second = replace(first, filename="second")

        added = await sessions.add(second, event_for(second, EventType.CREATED), parts=[part(2)])

        assert added == first
        assert added.progress.numbers() == [1]
        assert (await sessions.get(first.session_id)).filename == "first"
        assert len(await sessions.outbox(first.session_id)) == 1

    async def test_session_is_added_together_with_its_parts(self, sessions: SessionStore) -> None:
        session = new_session(state=State.COMPLETING)
        parts = [part(3, "c", "w", 5), part(1, "a"), part(2, "b")]

        added = await sessions.add(session, parts=parts)

        assert added.progress.received_bytes == 16 * MIB + 5
        assert added.progress.received_parts == 3
        assert added.progress.numbers() == [1, 2, 3]
        known = await sessions.parts(session.session_id)
        assert list(known.parts) == sorted(parts, key=lambda one: one.number)

    async def test_unknown_session_is_not_found(self, sessions: SessionStore) -> None:
        unknown = new_session()
        with pytest.raises(SessionNotFound):
            await sessions.get(unknown.session_id)
        with pytest.raises(SessionNotFound):
            await sessions.save(next_version(unknown))
        with pytest.raises(SessionNotFound):
            await sessions.add_parts(unknown.session_id, [part(1)])
        with pytest.raises(SessionNotFound):
            await sessions.allow_replace(unknown.session_id, [1])
        with pytest.raises(SessionNotFound):
            await sessions.report_verified(unknown.session_id, 1)
        with pytest.raises(SessionNotFound):
            await sessions.report_in_flight(unknown.session_id, {1: 1})
        with pytest.raises(SessionNotFound):
            await sessions.parts(unknown.session_id)
        assert await sessions.parts_of(unknown.session_id, [1]) == {}
        assert await sessions.outbox(unknown.session_id) == []

    async def test_save_needs_the_version_before(self, sessions: SessionStore) -> None:
        session = await sessions.add(new_session())
        second = next_version(session, filename="second")

        assert await sessions.save(second) == second
        for stale in (second, replace(second, version=4), replace(second, version=1)):
            with pytest.raises(Conflict) as caught:
                await sessions.save(replace(stale, filename="stale"))
            assert caught.value.code == "session_changed"
            assert caught.value.retryable

        assert await sessions.get(session.session_id) == second

    async def test_save_records_its_event_and_a_refused_one_does_not(
        self, sessions: SessionStore
    ) -> None:
        session = new_session()
        created = event_for(session, EventType.CREATED)
        await sessions.add(session, created)
        after, aborted = settled(session)

        await sessions.save(after, aborted)
        with pytest.raises(Conflict):
            await sessions.save(after, aborted)

        assert await sessions.outbox(session.session_id) == [created, aborted]

    async def test_save_with_a_parts_revision_fails_once_a_part_changed(
        self, sessions: SessionStore
    ) -> None:
        session = await sessions.add(new_session())
        await sessions.add_parts(session.session_id, [part(1)])
        before = (await sessions.parts(session.session_id)).revision
        await sessions.add_parts(session.session_id, [part(1, checksum="w")])
        after = (await sessions.parts(session.session_id)).revision

        with pytest.raises(Conflict) as caught:
            await sessions.save(frozen(session), parts_revision=before)
        assert caught.value.code == "session_changed"
        assert (await sessions.get(session.session_id)).state is State.OPEN
        await sessions.save(frozen(session), parts_revision=after)

        assert (await sessions.get(session.session_id)).state is State.COMPLETING

    async def test_known_parts_are_read_again_only_once_one_has_changed(
        self, sessions: SessionStore
    ) -> None:
        session = await sessions.add(new_session())
        await sessions.add_parts(session.session_id, [part(1)])
        known = await sessions.parts(session.session_id)
        assert await sessions.parts(session.session_id, known=known) is known

        await sessions.add_parts(session.session_id, [part(2)])
        changed = await sessions.parts(session.session_id, known=known)
        assert [one.number for one in changed.parts] == [1, 2]

        with pytest.raises(SessionNotFound):
            await sessions.parts(new_session().session_id, known=known)

    async def test_the_same_part_again_changes_no_revision(self, sessions: SessionStore) -> None:
        session = await sessions.add(new_session())
        await sessions.add_parts(session.session_id, [part(1, "a", "w")])
        before = await sessions.parts(session.session_id)

        await sessions.add_parts(session.session_id, [part(1, "a", "w")])
        await sessions.add_parts(session.session_id, [part(1, "a")])

        assert await sessions.parts(session.session_id) == before

    async def test_parts_are_counted_once(self, sessions: SessionStore) -> None:
        session = await sessions.add(new_session())
        first = await sessions.add_parts(session.session_id, [part(1), part(9, size=3)])
        second = await sessions.add_parts(session.session_id, [part(9, size=3), part(2)])

        progress = (await sessions.get(session.session_id)).progress
        assert (first, second) == ([STORED, STORED], [SAME, STORED])
        assert progress.received_parts == 3
        assert progress.received_bytes == 16 * MIB + 3
        assert progress.numbers() == [1, 2, 9]
        assert await sessions.parts_of(session.session_id, [9, 5, 1]) == {
            1: part(1),
            9: part(9, size=3),
        }
        assert await sessions.parts_of(session.session_id, []) == {}

    async def test_no_parts_at_all_are_no_error(self, sessions: SessionStore) -> None:
        session = await sessions.add(new_session())
        assert await sessions.add_parts(session.session_id, []) == []
        await sessions.allow_replace(session.session_id, [])
        await sessions.heal_parts(session.session_id, found=[], lost=[])
        assert (await sessions.get(session.session_id)).progress == Progress()

    @pytest.mark.parametrize(
        ("known", "sent", "kept"),
        [
            pytest.param(part(1, "a", "w"), part(1, "b", "w"), part(1, "b", "w"), id="checksum"),
            pytest.param(part(1, "a"), part(1, "a", "w"), part(1, "a", "w"), id="etag, learns"),
            pytest.param(part(1, "a", "w"), part(1, "a"), part(1, "a", "w"), id="etag, keeps"),
            pytest.param(part(1, "a"), part(1, "a", size=7), part(1, "a", size=7), id="size"),
            pytest.param(
                part(1, 'é"/\\', "a/b+c=="),
                part(1, 'é"/\\', size=5 * 2**30),
                part(1, 'é"/\\', "a/b+c==", 5 * 2**30),
                id="odd characters",
            ),
        ],
    )
    async def test_part_is_the_same_by_checksum_or_else_by_etag(
        self, sessions: SessionStore, known: Part, sent: Part, kept: Part
    ) -> None:
        session = await sessions.add(new_session())
        await sessions.add_parts(session.session_id, [known])

        assert await sessions.add_parts(session.session_id, [sent]) == [SAME]

        assert (await sessions.parts(session.session_id)).parts == (kept,)
        progress = (await sessions.get(session.session_id)).progress
        assert (progress.received_bytes, progress.received_parts) == (kept.size, 1)

    @pytest.mark.parametrize(
        ("known", "sent"),
        [
            (part(2, "a", "w"), part(2, "a", "x")),
            (part(2, "a", "w"), part(2, "b")),
            (part(2, "a"), part(2, "b", "w")),
            (part(2, "a"), part(2, "b")),
        ],
    )
    async def test_other_bytes_are_refused_with_the_whole_call(
        self, sessions: SessionStore, known: Part, sent: Part
    ) -> None:
        session = await sessions.add(new_session())
        await sessions.add_parts(session.session_id, [known])
        before = await sessions.parts(session.session_id)

        with pytest.raises(Conflict) as caught:
            await sessions.add_parts(session.session_id, [part(1), sent, part(3)])

        assert caught.value.code == "part_conflict"
        assert caught.value.details == {"parts": [2]}
        assert await sessions.parts(session.session_id) == before
        assert (await sessions.get(session.session_id)).progress.numbers() == [2]

    async def test_conflicts_within_one_call_are_found(self, sessions: SessionStore) -> None:
        session = await sessions.add(new_session())
        with pytest.raises(Conflict):
            await sessions.add_parts(session.session_id, [part(1, "a"), part(1, "b")])
        assert await sessions.add_parts(session.session_id, [part(1), part(1)]) == [STORED, SAME]
        assert (await sessions.get(session.session_id)).progress.received_parts == 1

    async def test_allowed_replacement_works_once(self, sessions: SessionStore) -> None:
        session = await sessions.add(new_session())
        await sessions.add_parts(session.session_id, [part(1, "a", "w"), part(2)])
        await sessions.allow_replace(session.session_id, [1])

        assert await sessions.add_parts(session.session_id, [part(1, "a", "w")]) == [SAME]
        replaced = await sessions.add_parts(session.session_id, [part(1, "b", "x", 5)])
        with pytest.raises(Conflict):
            await sessions.add_parts(session.session_id, [part(1, "c", "y")])

        assert replaced == [STORED]
        assert (await sessions.parts(session.session_id)).parts == (part(1, "b", "x", 5), part(2))
        progress = (await sessions.get(session.session_id)).progress
        assert (progress.received_bytes, progress.received_parts) == (8 * MIB + 5, 2)

    async def test_a_part_recorded_anew_uses_the_permission_up(
        self, sessions: SessionStore
    ) -> None:
        session = await sessions.add(new_session())
        await sessions.allow_replace(session.session_id, [1, 2])
        await sessions.add_parts(session.session_id, [part(1, "a", "w")])
        with pytest.raises(Conflict):
            await sessions.add_parts(session.session_id, [part(1, "b", "x")])
        assert await sessions.may_replace(session.session_id, 2)

    async def test_refused_call_uses_up_no_permission(self, sessions: SessionStore) -> None:
        session = await sessions.add(new_session())
        await sessions.add_parts(session.session_id, [part(1), part(2)])
        await sessions.allow_replace(session.session_id, [1])
        with pytest.raises(Conflict):
            await sessions.add_parts(session.session_id, [part(1, "b"), part(2, "b")])

        assert await sessions.add_parts(session.session_id, [part(1, "b")]) == [STORED]

    async def test_frozen_list_takes_no_parts_and_keeps_those_it_has(
        self, sessions: SessionStore
    ) -> None:
        session = await sessions.add(new_session())
        await sessions.add_parts(session.session_id, [part(1)])
        await sessions.save(frozen(session))

        with pytest.raises(Conflict) as caught:
            await sessions.add_parts(session.session_id, [part(2)])
        assert caught.value.code == "session_not_open"
        with pytest.raises(Conflict) as caught:
            await sessions.allow_replace(session.session_id, [1])
        assert caught.value.code == "session_not_open"
        await sessions.heal_parts(session.session_id, found=[part(3)], lost=[part(1)])

        assert (await sessions.parts(session.session_id)).parts == (part(1),)

    async def test_parts_out_of_range_are_refused(self, sessions: SessionStore) -> None:
        session = await sessions.add(new_session())
        for number in (0, -1, 10_001, 2**32):
            with pytest.raises(InvalidRequest):
                await sessions.add_parts(session.session_id, [part(1), part(number)])
            with pytest.raises(InvalidRequest):
                await sessions.heal_parts(session.session_id, found=[part(number)], lost=[])
            with pytest.raises(InvalidRequest):
                await sessions.report_in_flight(session.session_id, {number: 1})
        assert (await sessions.get(session.session_id)).progress == Progress()

    async def test_ten_thousand_parts_are_one_call(self, sessions: SessionStore) -> None:
        session = await sessions.add(new_session(size=None))
        parts = [
            part(number, f"{number:032x}", f"{number:044d}") for number in range(10_000, 0, -1)
        ]

        assert await sessions.add_parts(session.session_id, parts) == [STORED] * 10_000
        assert await sessions.add_parts(session.session_id, parts[:5000]) == [SAME] * 5000

        assert (await sessions.parts(session.session_id)).parts == tuple(reversed(parts))
        progress = (await sessions.get(session.session_id)).progress
        assert progress.received_parts == 10_000
        assert progress.received_bytes == 10_000 * 8 * MIB
        assert progress.numbers() == list(range(1, 10_001))
        others = [replace(one, checksum="other") for one in parts]
        with pytest.raises(Conflict):
            await sessions.add_parts(session.session_id, others)
        assert len(await sessions.parts_of(session.session_id, range(1, 10_001))) == 10_000
        await sessions.heal_parts(session.session_id, found=parts, lost=parts[5000:])
        assert (await sessions.get(session.session_id)).progress.received_parts == 5000

    async def test_sizes_add_up_exactly_to_48_tebibytes(self, sessions: SessionStore) -> None:
        session = await sessions.add(new_session(size=None, part_size=5 * 2**30))
        size = 5 * 2**30 - 1

        parts = [part(number, size=size) for number in range(1, 10_001)]
        await sessions.add_parts(session.session_id, parts)

        assert (await sessions.get(session.session_id)).progress.received_bytes == 10_000 * size

    async def test_healing_adds_what_is_unrecorded_and_corrects_sizes(
        self, sessions: SessionStore
    ) -> None:
        session = await sessions.add(new_session())
        await sessions.add_parts(session.session_id, [part(1, "a", "w"), part(2, "a")])
        before = (await sessions.parts(session.session_id)).revision

        await sessions.heal_parts(
            session.session_id,
            found=[part(1, "a", size=7), part(2, "other", size=9), part(3, "c", size=1)],
            lost=[],
        )

        known = await sessions.parts(session.session_id)
        assert known.parts == (part(1, "a", "w", 7), part(2, "a"), part(3, "c", size=1))
        assert known.revision != before
        progress = (await sessions.get(session.session_id)).progress
        assert (progress.received_bytes, progress.received_parts) == (8 * MIB + 8, 3)
        assert progress.numbers() == [1, 2, 3]

    async def test_healing_forgets_what_is_lost_unless_it_changed_meanwhile(
        self, sessions: SessionStore
    ) -> None:
        session = await sessions.add(new_session())
        await sessions.add_parts(session.session_id, [part(1, "a"), part(2, "new"), part(3)])

        await sessions.heal_parts(
            session.session_id, found=[], lost=[part(1, "a"), part(2, "old"), part(9)]
        )

        assert (await sessions.parts(session.session_id)).parts == (part(2, "new"), part(3))
        progress = (await sessions.get(session.session_id)).progress
        assert (progress.received_bytes, progress.received_parts) == (16 * MIB, 2)
        assert progress.numbers() == [2, 3]
        assert await sessions.add_parts(session.session_id, [part(1, "b", "other")]) == [STORED]

    async def test_part_found_and_lost_at_once_is_forgotten(self, sessions: SessionStore) -> None:
        session = await sessions.add(new_session())
        await sessions.add_parts(session.session_id, [part(1, "old")])

        await sessions.heal_parts(session.session_id, found=[part(1, "new")], lost=[part(1, "old")])

        assert (await sessions.get(session.session_id)).progress.numbers() == []

    async def test_in_flight_is_a_claim_that_recorded_parts_end(
        self, sessions: SessionStore
    ) -> None:
        session = await sessions.add(new_session())
        await sessions.add_parts(session.session_id, [part(1)])

        await sessions.report_in_flight(session.session_id, {1: 100, 2: 20, 3: 3})
        assert await self._in_flight(sessions, session) == 23
        await sessions.report_in_flight(session.session_id, {2: 30, 3: 3})
        assert await self._in_flight(sessions, session) == 33
        await sessions.add_parts(session.session_id, [part(2)])
        assert await self._in_flight(sessions, session) == 3
        await sessions.heal_parts(session.session_id, found=[part(3)], lost=[])
        assert await self._in_flight(sessions, session) == 0
        await sessions.report_in_flight(session.session_id, {4: 4})
        await sessions.report_in_flight(session.session_id, {})
        assert await self._in_flight(sessions, session) == 0

    async def test_nothing_is_in_flight_once_the_list_is_frozen(
        self, sessions: SessionStore
    ) -> None:
        session = await sessions.add(new_session())
        await sessions.report_in_flight(session.session_id, {2: 20})

        await sessions.save(frozen(session))
        await sessions.report_in_flight(session.session_id, {2: 20})

        assert await self._in_flight(sessions, session) == 0

    async def test_verified_bytes_start_again_with_each_verification(
        self, sessions: SessionStore
    ) -> None:
        session = await sessions.add(new_session(state=State.VERIFYING))
        await sessions.report_verified(session.session_id, 5 * 2**40)
        read = await sessions.get(session.session_id)
        corrupt, event = advance(read, Trigger.MISMATCH, NOW)
        await sessions.save(corrupt, event)
        again, _ = advance(corrupt, Trigger.RETRY, NOW)
        await sessions.save(again)

        assert read.progress.verified_bytes == 5 * 2**40
        assert (await sessions.get(session.session_id)).progress.verified_bytes == 0

    async def test_exactly_one_of_many_saves_wins(self, sessions: SessionStore) -> None:
        session = await sessions.add(new_session())
        rivals = [next_version(session, filename=f"file {rival}") for rival in range(50)]

        results = await asyncio.gather(
            *(sessions.save(rival, event_for(rival, EventType.ABORTED)) for rival in rivals),
            return_exceptions=True,
        )

        winners = [result for result in results if isinstance(result, UploadSession)]
        losers = [result for result in results if isinstance(result, Conflict)]
        assert (len(winners), len(losers)) == (1, 49)
        assert await sessions.get(session.session_id) == winners[0]
        assert len(await sessions.outbox(session.session_id)) == 1

    async def test_identical_saves_have_one_winner_too(self, sessions: SessionStore) -> None:
        session = await sessions.add(new_session())
        after, event = settled(session)

        results = await asyncio.gather(
            *(sessions.save(after, event) for _ in range(20)), return_exceptions=True
        )

        assert sum(isinstance(result, UploadSession) for result in results) == 1
        assert await sessions.outbox(session.session_id) == [event]

    async def test_freezing_races_with_parts_and_loses_none(self, sessions: SessionStore) -> None:
        for _ in range(10):
            session = await sessions.add(new_session())
            revision = (await sessions.parts(session.session_id)).revision

            saved, *added = await asyncio.gather(
                sessions.save(frozen(session), parts_revision=revision),
                *(sessions.add_parts(session.session_id, [part(n)]) for n in range(1, 6)),
                return_exceptions=True,
            )

            recorded = len((await sessions.parts(session.session_id)).parts)
            assert recorded == sum(result == [STORED] for result in added)
            assert isinstance(saved, Conflict) == (recorded > 0)

    async def test_fifty_clients_adding_parts_leave_exact_counters(
        self, sessions: SessionStore
    ) -> None:
        session = await sessions.add(new_session())
        # Each part is sent by five clients at once, and part 50 with different bytes by each.
        calls = [[part(n, "same", size=n)] for n in range(1, 50) for _ in range(5)]
        calls += [[part(50, f"other {n}", size=n)] for n in range(5)]

        results = await asyncio.gather(
            *(sessions.add_parts(session.session_id, parts) for parts in calls),
            return_exceptions=True,
        )

        assert results.count([STORED]) == 50
        assert results.count([SAME]) == 49 * 4
        assert sum(isinstance(result, Conflict) for result in results) == 4
        known = (await sessions.parts(session.session_id)).parts
        progress = (await sessions.get(session.session_id)).progress
        assert progress.numbers() == [one.number for one in known] == list(range(1, 51))
        assert progress.received_parts == 50
        assert progress.received_bytes == sum(one.size for one in known)

    async def test_many_reads_at_once_are_each_answered(self, sessions: SessionStore) -> None:
        known = [await sessions.add(new_session()) for _ in range(30)]
        unknown = new_session()

        results = await asyncio.gather(
            *(sessions.get(session.session_id) for session in [*known, unknown] * 10),
            return_exceptions=True,
        )

        for index, result in enumerate(results):
            if index % 31 == 30:
                assert isinstance(result, SessionNotFound)
            else:
                assert result == known[index % 31]

    async def test_find_pages_through_the_owners_sessions_newest_first(
        self, sessions: SessionStore
    ) -> None:
        # Some were made within one millisecond.
        moments = [NOW + timedelta(milliseconds=n // 3) for n in range(10)]
        mine = [await sessions.add(new_session(owner="me", created_at=at)) for at in moments]
        await sessions.add(new_session(owner="somebody else"))

        pages, cursor = [], None
        while not pages or cursor:
            page = await sessions.find(SessionQuery("me", cursor=cursor, limit=4))
            pages.append(page.sessions)
            cursor = page.cursor

        assert [len(page) for page in pages] == [4, 4, 2]
        found = [session for page in pages for session in page]
        assert [session.created_at for session in found] == sorted(moments, reverse=True)
        assert {session.session_id for session in found} == {one.session_id for one in mine}
        assert (await sessions.find(SessionQuery("nobody"))).sessions == ()

    async def test_a_page_that_ends_with_the_last_session_has_no_cursor(
        self, sessions: SessionStore
    ) -> None:
        for _ in range(4):
            await sessions.add(new_session(owner="even"))
        page = await sessions.find(SessionQuery("even", limit=4))
        assert len(page.sessions) == 4
        assert page.cursor is None

    async def test_find_by_state_and_fingerprint(self, sessions: SessionStore) -> None:
        both = new_session(owner="finder", fingerprint="print")
        other = new_session(owner="finder", fingerprint="another")
        without = new_session(owner="finder")
        foreign = new_session(owner="foreign", fingerprint="print")
        for session in (both, other, without, foreign):
            await sessions.add(session)
        await sessions.save(frozen(other))
        await sessions.add_parts(both.session_id, [part(1)])

        async def ids(query: SessionQuery) -> set[str]:
            return {session.session_id for session in (await sessions.find(query)).sessions}

        assert await ids(SessionQuery("finder", fingerprint="print")) == {both.session_id}
        assert await ids(SessionQuery("finder", states=frozenset({State.OPEN}))) == {
            both.session_id,
            without.session_id,
        }
        completing = SessionQuery(
            "finder", fingerprint="another", states=frozenset({State.COMPLETING})
        )
        assert await ids(completing) == {other.session_id}
        found = await sessions.find(SessionQuery("finder", fingerprint="print"))
        assert found.sessions[0].progress.numbers() == [1]

    async def test_rare_states_are_found_by_following_the_cursor(
        self, sessions: SessionStore
    ) -> None:
        for _ in range(40):
            await sessions.add(new_session(owner="rare", created_at=NOW))
        oldest = new_session(owner="rare", created_at=NOW - timedelta(days=1))
        await sessions.add(replace(oldest, state=State.VERIFYING))

        query = SessionQuery("rare", states=frozenset({State.VERIFYING}), limit=2)
        first = await sessions.find(query)
        found = list(first.sessions)
        cursor = first.cursor
        for _ in range(3):
            if cursor is None:
                break
            page = await sessions.find(replace(query, cursor=cursor))
            found += page.sessions
            cursor = page.cursor

        assert first.cursor is not None
        assert cursor is None
        assert [session.session_id for session in found] == [oldest.session_id]

    @pytest.mark.parametrize("cursor", ["x", "é", "!!!!", "AAAA", "-" * 5000])
    async def test_foreign_cursor_is_refused(self, sessions: SessionStore, cursor: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await sessions.find(SessionQuery("me", cursor=cursor))
        assert caught.value.code == "invalid_cursor"

    @pytest.mark.parametrize("limit", [0, -1, 1001])
    async def test_absurd_page_is_refused(self, sessions: SessionStore, limit: int) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await sessions.find(SessionQuery("me", limit=limit))
        assert caught.value.code == "invalid_limit"

    async def test_attention_follows_the_state(self, sessions: SessionStore) -> None:
        session = new_session(expires_at=NOW + timedelta(days=7))
        session_id = session.session_id

        async def is_due(after: timedelta) -> bool:
            return session_id in await sessions.due(NOW + after, 1000)

        await sessions.add(session)
        just_before = RECHECK_AFTER - timedelta(milliseconds=1)
        assert not await is_due(just_before)
        assert await is_due(RECHECK_AFTER)
        completing = frozen(session)
        await sessions.save(completing)
        assert await is_due(timedelta(0))
        reopened, _ = advance(completing, Trigger.REFUSED, NOW)
        await sessions.save(reopened)
        assert not await is_due(just_before)
        aborted, event = settled(reopened)
        await sessions.save(aborted, event)
        assert await is_due(timedelta(0))
        await sessions.save(next_version(aborted, storage_cleared=True))
        assert not await is_due(timedelta(days=1000))

    async def test_due_gives_the_longest_waiting_first(self, sessions: SessionStore) -> None:
        ids = [secrets.token_hex(16) for _ in range(5)]
        for age, session_id in enumerate(ids):
            await sessions.schedule(session_id, NOW - timedelta(seconds=age))

        assert await sessions.due(NOW, 3) == [ids[4], ids[3], ids[2]]
        await sessions.schedule(ids[4], NOW + timedelta(seconds=1))
        await sessions.schedule(ids[3], None)
        await sessions.schedule(ids[3], None)
        assert await sessions.due(NOW, 10) == [ids[2], ids[1], ids[0]]

    async def test_announced_session_is_due_before_it_is_there(
        self, sessions: SessionStore
    ) -> None:
        session = new_session()
        assert await sessions.announce(session.session_id, NOW)
        assert not await sessions.announce(session.session_id, NOW + timedelta(seconds=1))
        assert await sessions.due(NOW, 10) == []
        assert await sessions.due(NOW + timedelta(seconds=1), 10) == [session.session_id]
        with pytest.raises(SessionNotFound):
            await sessions.get(session.session_id)
        await sessions.schedule(session.session_id, None)
        assert await sessions.announce(session.session_id, NOW)

    async def test_losing_save_does_not_postpone_attention(self, sessions: SessionStore) -> None:
        session = await sessions.add(new_session())
        await sessions.save(frozen(session))

        with pytest.raises(Conflict):
            await sessions.save(next_version(session, updated_at=NOW + timedelta(days=1)))

        assert session.session_id in await sessions.due(NOW, 1000)

    async def test_mark_is_remembered(self, sessions: SessionStore) -> None:
        assert not await sessions.is_marked()
        await sessions.mark()
        assert await sessions.is_marked()

    async def test_ping_is_answered(self, sessions: SessionStore) -> None:
        await sessions.ping()

    async def _in_flight(self, sessions: SessionStore, session: UploadSession) -> int:
        return (await sessions.get(session.session_id)).progress.in_flight_bytes
