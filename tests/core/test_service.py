"""What the verbs promise, on a real store and a real Redis."""

import asyncio
import os
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from io import BytesIO

import pytest
from samples import LONG_AGO
from stack import Stack, acknowledge_all, put_parts
from yarl import URL

from gateway.core.access import Principal
from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.clock import SystemClock
from gateway.core.events import EventType
from gateway.core.model import (
    Acknowledged,
    NewUpload,
    PartToSign,
    State,
    UploadSession,
    VerifiedBy,
)
from gateway.core.ports import Clock
from gateway.errors import (
    Conflict,
    Forbidden,
    Gone,
    InvalidRequest,
    NoSuchUpload,
    SessionNotFound,
)

ALICE = Principal("alice")
BOB = Principal("bob")
PART_SIZE = 5 * 1024 * 1024
DATA = os.urandom(PART_SIZE + 1000)


class SetClock(Clock):
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self):  # type: ignore[no-untyped-def]  # noqa: ANN201 - as the port says
        return SystemClock().now() + self.ahead


async def created(stack: Stack, data: bytes = DATA, **fields: object) -> UploadSession:
    new = NewUpload(**({"filename": "a.bin", "size": len(data), "part_size": PART_SIZE} | fields))  # type: ignore[arg-type]
    return (await stack.core.service.create(ALICE, new))[0]


async def uploaded(stack: Stack, data: bytes = DATA, **fields: object) -> UploadSession:
    session = await created(stack, data, **fields)
    await acknowledge_all(stack, ALICE, session, await put_parts(stack, ALICE, session, data))
    return session


async def completed(stack: Stack, session: UploadSession, **given: object) -> UploadSession:
    return await stack.core.service.complete(ALICE, session.session_id, wait=30, **given)  # type: ignore[arg-type]


async def put_raw(stack: Stack, session: UploadSession, number: int, body: bytes) -> str:
    """Send a part without any checksum bound, and return its ETag."""
    [signed] = await stack.core.service.sign(
        ALICE, session.session_id, [PartToSign(number, replace=True)]
    )
    async with stack.http.put(
        URL(signed.url, encoded=True), data=BytesIO(body), headers=signed.headers
    ) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers["ETag"]


async def events_of(stack: Stack, session: UploadSession) -> Counter[EventType]:
    return Counter(event.type for event in await stack.ports.sessions.outbox(session.session_id))


class TestComplete:
    async def test_a_file_ends_verified_by_the_client_s_parts(self, stack: Stack) -> None:
        session = await uploaded(stack)
        done = await completed(stack, session)
        assert (done.state, done.verified_by) == (State.COMPLETED, VerifiedBy.CLIENT_PARTS)
        assert await stack.read_object(done) == DATA
        assert done.object is not None
        assert done.object.checksums["crc64nvme"] == ALGORITHMS["crc64nvme"].value_of(DATA)
        assert await events_of(stack, done) == {EventType.CREATED: 1, EventType.COMPLETED: 1}

    @pytest.mark.parametrize("algorithm", ["crc64nvme", "crc32c", "crc32", "sha256"])
    async def test_every_algorithm_of_parts_vouches_for_the_whole(
        self, stack: Stack, algorithm: str
    ) -> None:
        done = await completed(stack, await uploaded(stack, checksum_algorithm=algorithm))
        assert (done.state, done.verified_by) == (State.COMPLETED, VerifiedBy.CLIENT_PARTS)

    async def test_a_declared_sha256_is_read_back(self, stack: Stack) -> None:
        declared = Checksum("sha256", ALGORITHMS["sha256"].value_of(DATA))
        session = await uploaded(stack)
        done = await completed(stack, session, checksum=declared)
        assert done.verified_by is VerifiedBy.CLIENT_FILE
        assert done.object is not None
        assert done.object.checksums["sha256"] == declared.value

    async def test_wrong_bytes_that_the_store_believes_in_end_corrupt(self, stack: Stack) -> None:
        session = await created(stack)
        wrong = bytearray(DATA)
        wrong[77] ^= 4
        for number, body in ((1, wrong[:PART_SIZE]), (2, wrong[PART_SIZE:])):
            etag = await put_raw(stack, session, number, bytes(body))
            right = DATA[(number - 1) * PART_SIZE :][:PART_SIZE]
            word = Acknowledged(number, etag, ALGORITHMS["crc64nvme"].value_of(right))
            await stack.core.service.acknowledge(ALICE, session.session_id, [word])
        done = await completed(stack, session)
        assert done.state is State.CORRUPT
        assert done.error is not None
        assert done.error.code == "checksum_mismatch"
        # Quarantined: not handed out, not deleted, and everybody is told.
        with pytest.raises(Conflict) as caught:
            await stack.core.service.content_url(ALICE, session.session_id)
        assert caught.value.code == "quarantined"
        assert await stack.read_object(done) == wrong
        assert (await events_of(stack, done))[EventType.CORRUPT] == 1

    async def test_a_corrupt_object_stays_corrupt_when_redis_is_emptied(self, stack: Stack) -> None:
        declared = Checksum("sha256", ALGORITHMS["sha256"].value_of(b"another file"))
        session = await uploaded(stack, checksum=declared)
        assert (await completed(stack, session)).state is State.CORRUPT
        await stack.empty_redis()
        again = await completed(stack, session)
        assert again.state is State.CORRUPT
        assert again.progress.received_parts == 2

    async def test_without_a_client_s_word_only_the_store_vouches(self, stack: Stack) -> None:
        session = await created(stack)
        await put_raw(stack, session, 1, DATA[:PART_SIZE])
        await put_raw(stack, session, 2, DATA[PART_SIZE:])
        done = await completed(stack, session)
        assert (done.state, done.verified_by) == (State.COMPLETED, VerifiedBy.STORE)

    async def test_again_gives_the_same_answer(self, stack: Stack) -> None:
        session = await uploaded(stack)
        first = await completed(stack, session)
        assert await completed(stack, session) == first
        assert (await events_of(stack, first))[EventType.COMPLETED] == 1

    async def test_missing_parts_are_named_and_nothing_changes(self, stack: Stack) -> None:
        session = await created(stack)
        parts = await put_parts(stack, ALICE, session, DATA, 2)
        with pytest.raises(Conflict) as caught:
            await completed(stack, session, parts=parts)
        assert caught.value.code == "parts_missing"
        assert caught.value.details == {"missing": "1", "wrong_size": "", "changed": ""}
        assert (await stack.core.service.get(ALICE, session.session_id)).state is State.OPEN

    async def test_a_part_that_was_only_claimed_is_missing(self, stack: Stack) -> None:
        session = await created(stack)
        await put_parts(stack, ALICE, session, DATA, 2)
        with pytest.raises(Conflict) as caught:
            await completed(stack, session, parts=[Acknowledged(1, "0" * 32)])
        assert caught.value.details["missing"] == "1"

    async def test_parts_that_were_never_acknowledged_count_when_stored(self, stack: Stack) -> None:
        session = await created(stack)
        await put_parts(stack, ALICE, session, DATA)
        assert (await completed(stack, session)).state is State.COMPLETED

    async def test_twenty_at_once_end_in_one_event(self, stack: Stack) -> None:
        session = await uploaded(stack)
        ends = await asyncio.gather(*(completed(stack, session) for _ in range(20)))
        assert {end.state for end in ends} == {State.COMPLETED}
        assert (await events_of(stack, session))[EventType.COMPLETED] == 1

    async def test_an_unknown_size_is_declared_at_the_end(self, stack: Stack) -> None:
        session = await created(stack, size=None)
        first = await put_parts(stack, ALICE, replace(session, size=len(DATA)), DATA, 1)
        [signed] = await stack.core.service.sign(
            ALICE, session.session_id, [PartToSign(2, size=1000)]
        )
        async with stack.http.put(
            URL(signed.url, encoded=True), data=DATA[PART_SIZE:], headers=signed.headers
        ) as answer:
            second = Acknowledged(2, answer.headers["ETag"], None)
        with pytest.raises(InvalidRequest) as caught:
            await completed(stack, session, parts=[*first, second])
        assert caught.value.code == "size_required"
        with pytest.raises(InvalidRequest) as caught:
            await completed(stack, session, parts=[*first, second], size=PART_SIZE)
        assert caught.value.code == "size_mismatch"
        done = await completed(stack, session, parts=[*first, second], size=len(DATA))
        assert done.state is State.COMPLETED
        assert done.size == len(DATA)
        assert await stack.read_object(done) == DATA


class TestAcknowledge:
    async def test_the_same_part_counts_once(self, stack: Stack) -> None:
        session = await created(stack)
        [part] = await put_parts(stack, ALICE, session, DATA, 1)
        for expected in ("stored", "same", "same"):
            after, outcomes = await stack.core.service.acknowledge(
                ALICE, session.session_id, [part]
            )
            assert outcomes == [expected]
            assert after.progress.received_bytes == PART_SIZE

    async def test_other_bytes_conflict_and_the_first_are_kept(self, stack: Stack) -> None:
        session = await created(stack)
        [part] = await put_parts(stack, ALICE, session, DATA, 1)
        await acknowledge_all(stack, ALICE, session, [part])
        other = ALGORITHMS["crc64nvme"].value_of(b"other")
        with pytest.raises(Conflict) as caught:
            await stack.core.service.sign(ALICE, session.session_id, [PartToSign(1, None, other)])
        assert caught.value.code == "part_conflict"
        assert caught.value.details == {"parts": [1]}
        with pytest.raises(Conflict) as caught:
            await stack.core.service.acknowledge(
                ALICE, session.session_id, [Acknowledged(1, "1" * 32, other)]
            )
        assert caught.value.code == "part_conflict"
        [kept] = (await stack.ports.sessions.parts(session.session_id)).parts
        assert kept.checksum == part.checksum

    async def test_replacing_on_purpose_takes_the_new_bytes(self, stack: Stack) -> None:
        session = await uploaded(stack)
        edited = b"edited" + DATA[6:]
        etag = await put_raw(stack, session, 1, edited[:PART_SIZE])
        word = Acknowledged(1, etag, ALGORITHMS["crc64nvme"].value_of(edited[:PART_SIZE]))
        await stack.core.service.acknowledge(ALICE, session.session_id, [word])
        done = await completed(stack, session)
        assert done.verified_by is VerifiedBy.CLIENT_PARTS
        assert await stack.read_object(done) == edited

    @pytest.mark.parametrize(
        ("part", "code"),
        [
            (Acknowledged(0, "e"), "part_number_out_of_range"),
            (Acknowledged(3, "e"), "part_number_out_of_range"),
            (Acknowledged(10_001, "e"), "part_number_out_of_range"),
            (Acknowledged(1, ""), "invalid_etag"),
            (Acknowledged(1, "e" * 257), "invalid_etag"),
            (Acknowledged(1, "e\n"), "part_stored"),
            (Acknowledged(1, "a\x00b"), "invalid_etag"),
            (Acknowledged(1, "e", "AAAA"), "invalid_checksum"),
            (Acknowledged(1, "e", "not base64!!"), "invalid_checksum"),
        ],
    )
    async def test_a_bad_part_changes_nothing(
        self, stack: Stack, part: Acknowledged, code: str
    ) -> None:
        session = await created(stack)
        if code == "part_stored":  # White space around an ETag is the wire's, not the store's.
            await stack.core.service.acknowledge(ALICE, session.session_id, [part])
            return
        good = Acknowledged(2, "0" * 32)
        with pytest.raises(InvalidRequest) as caught:
            await stack.core.service.acknowledge(ALICE, session.session_id, [good, part])
        assert caught.value.code == code
        assert caught.value.hint
        after = await stack.core.service.get(ALICE, session.session_id)
        assert after.progress.received_parts == 0


class TestCreate:
    async def test_a_retry_with_the_same_key_finds_the_same_session(self, stack: Stack) -> None:
        new = NewUpload(filename="a", size=1, idempotency_key="k1")
        first, made = await stack.core.service.create(ALICE, new)
        again, made_again = await stack.core.service.create(ALICE, new)
        assert (made, made_again) == (True, False)
        assert first.session_id == again.session_id
        with pytest.raises(InvalidRequest) as caught:
            await stack.core.service.create(ALICE, replace(new, size=2))
        assert caught.value.code == "idempotency_mismatch"
        other, _ = await stack.core.service.create(BOB, new)
        assert other.session_id != first.session_id

    async def test_fifty_at_once_make_one_session(self, stack: Stack) -> None:
        new = NewUpload(filename="a", size=1, idempotency_key="k1")

        async def attempt() -> str:
            async with asyncio.timeout(20):
                while True:
                    [end] = await asyncio.gather(
                        stack.core.service.create(ALICE, new), return_exceptions=True
                    )
                    if not isinstance(end, BaseException):
                        return end[0].session_id
                    assert isinstance(end, Conflict)
                    assert end.code == "creation_in_flight"
                    await asyncio.sleep(0)

        assert len(set(await asyncio.gather(*(attempt() for _ in range(50))))) == 1

    async def test_a_retry_finds_the_session_that_redis_has_lost(self, stack: Stack) -> None:
        new = NewUpload(filename="a", size=1, idempotency_key="k1")
        first, _ = await stack.core.service.create(ALICE, new)
        await stack.empty_redis()
        again, made = await stack.core.service.create(ALICE, new)
        assert (again.session_id, made) == (first.session_id, False)

    async def test_clients_do_not_choose_keys_unless_allowed(self, stack: Stack) -> None:
        with pytest.raises(Forbidden) as caught:
            await created(stack, key="mine/film.mp4")
        assert caught.value.code == "key_not_allowed"


class TestSign:
    async def test_a_new_session_s_first_parts_are_signed_at_once(self, stack: Stack) -> None:
        session = await created(stack)
        for wanted, numbers in ((1, [1]), (1000, [1, 2])):
            signed = await stack.core.service.sign_first(ALICE, session, wanted)
            assert [part.number for part in signed] == numbers

    async def test_a_session_past_sending_gets_no_urls(self, stack: Stack) -> None:
        done = await completed(stack, await uploaded(stack))
        assert await stack.core.service.sign_first(ALICE, done, 2) == []

    async def test_digests_of_parts_must_all_be_given(self, stack: Stack) -> None:
        session = await created(stack, checksum_algorithm="sha256")
        assert await stack.core.service.sign_first(ALICE, session, 2) == []
        with pytest.raises(InvalidRequest) as caught:
            await stack.core.service.sign(ALICE, session.session_id, [PartToSign(1)])
        assert caught.value.code == "checksum_required"

    @pytest.mark.parametrize(("wanted", "life"), [(None, 900), (1, 1), (60, 60), (901, 900)])
    async def test_a_client_may_want_a_shorter_life_but_no_longer_one(
        self, stack: Stack, wanted: int | None, life: int
    ) -> None:
        session = await created(stack)
        [signed] = await stack.core.service.sign(
            ALICE, session.session_id, [PartToSign(1)], expires_in=wanted
        )
        assert URL(signed.url).query["X-Amz-Expires"] == str(life)

    @pytest.mark.parametrize("wanted", [0, -1])
    async def test_a_life_of_no_time_is_refused(self, stack: Stack, wanted: int) -> None:
        session = await created(stack)
        with pytest.raises(InvalidRequest, match="expires_in"):
            await stack.core.service.sign(
                ALICE, session.session_id, [PartToSign(1)], expires_in=wanted
            )

    async def test_at_most_a_thousand_at_a_time(self, stack: Stack) -> None:
        session = await created(stack, size=None)
        parts = [PartToSign(number) for number in range(1, 1002)]
        assert len(await stack.core.service.sign(ALICE, session.session_id, parts[:1000])) == 1000
        with pytest.raises(InvalidRequest) as caught:
            await stack.core.service.sign(ALICE, session.session_id, parts)
        assert caught.value.code == "too_many_parts"


class TestOwnership:
    async def test_a_foreign_session_is_unknown_to_every_verb(self, stack: Stack) -> None:
        session_id = (await uploaded(stack)).session_id
        service = stack.core.service
        for call in (
            service.get(BOB, session_id),
            service.parts(BOB, session_id),
            service.sign(BOB, session_id, [PartToSign(1)]),
            service.acknowledge(BOB, session_id, [Acknowledged(1, "e")]),
            service.report_in_flight(BOB, session_id, {1: 1}),
            service.complete(BOB, session_id),
            service.abort(BOB, session_id),
            service.content_url(BOB, session_id),
            anext(service.watch(BOB, session_id)),
            anext(service.read_content(BOB, session_id)),
        ):
            with pytest.raises(SessionNotFound):
                await call
        assert (await service.find(BOB)).sessions == ()
        assert [found.session_id for found in (await service.find(ALICE)).sessions] == [session_id]


class TestAbort:
    async def test_parts_go_and_a_second_time_is_a_success(self, stack: Stack) -> None:
        session = await uploaded(stack)
        for _ in range(2):
            await stack.core.service.abort(ALICE, session.session_id)
        after = await stack.core.service.get(ALICE, session.session_id)
        assert (after.state, after.storage_cleared) == (State.ABORTED, True)
        with pytest.raises(NoSuchUpload):
            _ = [part async for part in stack.ports.storage.list_parts(session.upload)]
        with pytest.raises(Gone):
            await stack.core.service.sign(ALICE, session.session_id, [PartToSign(1)])
        with pytest.raises(Gone):
            await completed(stack, session)
        assert (await events_of(stack, session))[EventType.ABORTED] == 1

    async def test_a_completed_session_is_kept(self, stack: Stack) -> None:
        session = await uploaded(stack)
        done = await completed(stack, session)
        with pytest.raises(Conflict) as caught:
            await stack.core.service.abort(ALICE, session.session_id)
        assert caught.value.code == "session_completed"
        assert await stack.read_object(done) == DATA

    async def test_an_object_completed_behind_our_back_is_never_aborted(self, stack: Stack) -> None:
        session = await uploaded(stack)
        parts = (await stack.ports.sessions.parts(session.session_id)).parts
        await stack.ports.storage.complete(session.upload, parts, algorithm="crc64nvme")
        with pytest.raises(Conflict) as caught:
            await stack.core.service.abort(ALICE, session.session_id)
        assert caught.value.code == "session_busy"
        done = await completed(stack, session)
        assert done.state is State.COMPLETED
        assert await stack.read_object(done) == DATA


class TestSweeper:
    async def test_an_upload_aborted_behind_our_back_is_closed(self, stack: Stack) -> None:
        session = await uploaded(stack)
        await stack.ports.storage.abort(session.upload)
        await stack.ports.sessions.schedule(session.session_id, LONG_AGO)
        await stack.core.sweeper.sweep()
        after = await stack.core.service.get(ALICE, session.session_id)
        assert after.state is State.ABORTED
        assert after.error is not None
        assert after.error.code == "upload_lost"

    async def test_an_upload_completed_behind_our_back_is_verified(self, stack: Stack) -> None:
        session = await uploaded(stack)
        parts = (await stack.ports.sessions.parts(session.session_id)).parts
        await stack.ports.storage.complete(session.upload, parts, algorithm="crc64nvme")
        await stack.ports.sessions.schedule(session.session_id, LONG_AGO)
        await stack.core.sweeper.sweep()
        done = await completed(stack, session)
        assert (done.state, done.verified_by) == (State.COMPLETED, VerifiedBy.CLIENT_PARTS)

    async def test_too_few_parts_completed_behind_our_back_end_corrupt(self, stack: Stack) -> None:
        session = await uploaded(stack)
        parts = (await stack.ports.sessions.parts(session.session_id)).parts
        await stack.ports.storage.complete(session.upload, parts[:1], algorithm="crc64nvme")
        done = await completed(stack, session)
        assert done.state is State.CORRUPT
        assert done.error is not None
        assert done.error.code == "size_mismatch"

    async def test_a_session_expires_after_its_grace_and_not_before(self, stack: Stack) -> None:
        clock = SetClock()
        stack.reconnect(clock=clock)
        session = await uploaded(stack)
        clock.ahead = timedelta(days=7, minutes=59)
        await stack.core.sweeper.sweep()
        assert (await stack.core.service.get(ALICE, session.session_id)).state is State.OPEN
        clock.ahead = timedelta(days=7, minutes=61)
        await stack.ports.sessions.schedule(session.session_id, LONG_AGO)
        await stack.core.sweeper.sweep()
        after = await stack.core.service.get(ALICE, session.session_id)
        assert (after.state, after.storage_cleared) == (State.EXPIRED, True)
        assert (await events_of(stack, session))[EventType.EXPIRED] == 1

    async def test_an_emptied_redis_is_rebuilt_with_its_fingerprints(self, stack: Stack) -> None:
        await stack.core.sweeper.sweep()
        session = await uploaded(stack, fingerprint="f1")
        done = await completed(stack, await uploaded(stack, b"small"))
        await stack.empty_redis()
        await stack.core.sweeper.sweep()
        page = await stack.core.service.find(ALICE, fingerprint="f1")
        assert [found.session_id for found in page.sessions] == [session.session_id]
        assert page.sessions[0].progress.received_parts == 2
        again = await stack.core.service.get(ALICE, done.session_id)
        assert replace(again, progress=done.progress) == done

    async def test_sweeping_twice_does_nothing_twice(self, stack: Stack) -> None:
        session = await uploaded(stack)
        await stack.core.service.abort(ALICE, session.session_id)
        await stack.core.sweeper.sweep()
        before = await stack.core.service.get(ALICE, session.session_id)
        await stack.core.sweeper.sweep()
        assert await stack.core.service.get(ALICE, session.session_id) == before

    async def test_only_closed_sessions_are_cleared(self, stack: Stack) -> None:
        session = await uploaded(stack)
        with pytest.raises(Conflict):
            await stack.core.sweeper.clear(session)
        assert (await completed(stack, session)).state is State.COMPLETED

    async def test_clearing_asks_for_the_object_first(self, stack: Stack) -> None:
        session = await uploaded(stack)
        done = await completed(stack, session)
        # A record that is wrong about the session must not cost the object.
        await stack.core.sweeper.clear(replace(done, state=State.ABORTED))
        assert await stack.read_object(done) == DATA


async def test_watching_yields_changes_and_ends_when_settled(stack: Stack) -> None:
    session = await uploaded(stack)
    watching = stack.core.service.watch(ALICE, session.session_id)
    assert (await anext(watching)).state is State.OPEN
    await completed(stack, session)
    async with asyncio.timeout(10):
        states = [seen.state async for seen in watching]
    assert states[-1] is State.COMPLETED
