"""Files that policy refuses, on a real store and a real Redis: what ends rejected, and what not."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from faults.tracing import Tracer, doomed
from samples import PNG, mrc_header
from stack import Stack, acknowledge_all, put_parts

from gateway.core.access import Principal
from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.content.policy import ContentPolicy
from gateway.core.events import EventType
from gateway.core.model import Acknowledged, NewUpload, PartToSign, State, UploadSession
from gateway.errors import Conflict, TooLarge, UnsupportedType

ALICE = Principal("alice")
PART_SIZE = 5 * 1024 * 1024
MRC = mrc_header() + bytes(96)
A_PNG = PNG + bytes(2000)


def taking(stack: Stack, *allowed_types: str, max_file_size: int | None = None) -> None:
    """Restart the gateway with another policy."""
    policy = ContentPolicy(allowed_types, max_file_size)
    stack.options = replace(stack.options, policy=policy)
    stack.reconnect()


async def created(stack: Stack, name: str, size: int | None, **fields: object) -> UploadSession:
    new = NewUpload(filename=name, size=size, part_size=PART_SIZE, **fields)  # type: ignore[arg-type]
    return (await stack.core.service.create(ALICE, new))[0]


async def uploaded(stack: Stack, name: str, data: bytes, **fields: object) -> UploadSession:
    session = await created(stack, name, len(data), **fields)
    await acknowledge_all(stack, ALICE, session, await put_parts(stack, ALICE, session, data))
    return session


async def completed(stack: Stack, session: UploadSession, **given: object) -> UploadSession:
    return await stack.core.service.complete(ALICE, session.session_id, wait=30, **given)  # type: ignore[arg-type]


async def events_of(stack: Stack, session: UploadSession) -> Counter[EventType]:
    return Counter(event.type for event in await stack.ports.sessions.outbox(session.session_id))


async def sessions_of(stack: Stack) -> Sequence[UploadSession]:
    return (await stack.core.service.find(ALICE)).sessions


class TestContent:
    async def test_a_picture_that_is_named_as_a_map_ends_rejected_and_in_quarantine(
        self, stack: Stack
    ) -> None:
        taking(stack, ".mrc", "image/*")
        done = await completed(stack, await uploaded(stack, "volume.mrc", A_PNG))
        assert done.state is State.REJECTED
        assert done.error is not None
        assert done.error.code == "content_not_allowed"
        assert "MRC2014 map" in done.error.message
        assert "PNG image" in done.error.hint
        # Everybody is told, once; nobody gets it; it is not deleted.
        assert await events_of(stack, done) == {EventType.CREATED: 1, EventType.REJECTED: 1}
        with pytest.raises(Conflict) as caught:
            await stack.core.service.content_url(ALICE, done.session_id)
        assert caught.value.code == "quarantined"
        with pytest.raises(Conflict):
            await anext(stack.core.service.read_content(ALICE, done.session_id))
        with pytest.raises(Conflict):
            await stack.core.service.abort(ALICE, done.session_id)
        assert await stack.read_object(done) == A_PNG

    async def test_it_stays_rejected_when_redis_is_emptied_and_when_it_is_completed_again(
        self, stack: Stack
    ) -> None:
        taking(stack, ".mrc")
        session = await uploaded(stack, "volume.mrc", A_PNG)
        first = await completed(stack, session)
        assert (await completed(stack, session)).state is State.REJECTED
        await stack.empty_redis()
        again = await completed(stack, session)
        assert (again.state, again.error) == (State.REJECTED, first.error)

    @pytest.mark.parametrize(
        ("name", "data"), [("a.mrc", MRC), ("a.PNG", A_PNG), ("a.foo", b"anything"), ("a.txt", b"")]
    )
    async def test_a_file_that_is_what_its_name_says_is_completed(
        self, stack: Stack, name: str, data: bytes
    ) -> None:
        taking(stack, ".mrc", "image/*", ".foo", ".txt")
        done = await completed(stack, await uploaded(stack, name, data))
        assert (done.state, done.error) == (State.COMPLETED, None)
        assert await stack.read_object(done) == data

    async def test_a_file_whose_first_bytes_lie_in_two_parts_is_read_as_one(
        self, stack: Stack
    ) -> None:
        taking(stack, ".iso")
        image = bytearray(PART_SIZE + 10)
        image[32_769:32_774] = b"CD001"
        done = await completed(stack, await uploaded(stack, "disk.iso", bytes(image)))
        assert done.state is State.COMPLETED

    async def test_an_empty_file_of_a_type_that_has_none_ends_rejected_unread(
        self, stack: Stack
    ) -> None:
        taking(stack, ".mrc")
        session = await created(stack, "a.mrc", None)
        await acknowledge_all(stack, ALICE, session, await put_parts(stack, ALICE, session, b"", 1))
        tracer = Tracer()
        core = doomed(stack, tracer)
        done = await core.service.complete(ALICE, session.session_id, size=0, wait=30)
        assert done.state is State.REJECTED
        assert done.error is not None
        assert "empty" in done.error.message
        assert not [call for call in tracer.calls if call.endswith(".read")]

    async def test_bytes_that_are_not_the_client_s_end_corrupt_whatever_they_look_like(
        self, stack: Stack
    ) -> None:
        taking(stack, ".mrc")
        declared = Checksum("sha256", ALGORITHMS["sha256"].value_of(b"another file"))
        session = await uploaded(stack, "volume.mrc", A_PNG, checksum=declared)
        done = await completed(stack, session)
        assert done.state is State.CORRUPT
        assert await events_of(stack, done) == {EventType.CREATED: 1, EventType.CORRUPT: 1}

    @pytest.mark.parametrize(
        ("allowed", "name", "more"),
        [((), "a.mrc", 0), ((".foo",), "a.foo", 0), ((".mrc",), "a.mrc", 1)],
        ids=["no-policy", "unknown-type", "known-type"],
    )
    async def test_a_policy_costs_one_read_and_none_costs_nothing(
        self, stack: Stack, allowed: tuple[str, ...], name: str, more: int
    ) -> None:
        plain = await self._calls_of_a_completion(stack, name)
        taking(stack, *allowed)
        with_policy = await self._calls_of_a_completion(stack, name)
        assert not [call for call in plain if call.endswith("ObjectStore.read")]
        reads = [call for call in with_policy if call.endswith("ObjectStore.read")]
        assert len(reads) == more
        assert [call for call in with_policy if call not in reads] == plain

    async def _calls_of_a_completion(self, stack: Stack, name: str) -> list[str]:
        session = await uploaded(stack, name, MRC)
        tracer = Tracer()
        core = doomed(stack, tracer)
        done = await core.service.complete(ALICE, session.session_id, wait=30)
        assert done.state is State.COMPLETED
        return [call for call in tracer.calls if not call.startswith("RedisLease")]

    async def test_what_is_not_taken_is_refused_before_anything_is_made(self, stack: Stack) -> None:
        taking(stack, ".mrc")
        for name, content_type in (("a.exe", "text/plain"), ("a.mrc", "text/html")):
            with pytest.raises(UnsupportedType) as caught:
                await stack.core.service.create(
                    ALICE, NewUpload(filename=name, size=1, content_type=content_type)
                )
            assert caught.value.code == "file_type_not_allowed"
        assert not await sessions_of(stack)
        bucket = stack.options.service.bucket
        uploads = stack.ports.objects.list_uploads(bucket, "")
        assert not [upload async for upload in uploads]


class TestSize:
    LIMIT = 2 * PART_SIZE + 100

    async def test_a_larger_file_is_refused_when_it_is_created(self, stack: Stack) -> None:
        taking(stack, max_file_size=1000)
        with pytest.raises(TooLarge) as caught:
            await created(stack, "a.bin", 1001)
        assert caught.value.code == "file_too_large"
        assert not await sessions_of(stack)
        done = await completed(stack, await uploaded(stack, "a.bin", b"x" * 1000))
        assert done.state is State.COMPLETED

    async def test_of_an_unknown_size_no_part_beyond_the_limit_is_signed_or_recorded(
        self, stack: Stack
    ) -> None:
        taking(stack, max_file_size=self.LIMIT)
        session = await created(stack, "a.bin", None)
        service = stack.core.service
        first = await service.sign_first(ALICE, session, 10)
        assert [part.number for part in first] == [1, 2]
        await service.sign(ALICE, session.session_id, [PartToSign(3, 100)])
        for part in (PartToSign(3, 101), PartToSign(3), PartToSign(4, 1)):
            with pytest.raises(TooLarge) as caught:
                await service.sign(ALICE, session.session_id, [part])
            assert caught.value.code == "file_too_large"
        word = ALGORITHMS[session.checksum_algorithm].value_of(b"x")
        for refused in ([Acknowledged(4, "e", word)], [Acknowledged(3, "e"), Acknowledged(9, "e")]):
            with pytest.raises(TooLarge):
                await service.acknowledge(ALICE, session.session_id, refused)
        assert not (await service.get(ALICE, session.session_id)).progress.received_parts

    async def test_a_larger_file_of_unknown_size_is_not_completed_and_can_be_aborted(
        self, stack: Stack
    ) -> None:
        session = await created(stack, "a.bin", None)
        data = b"x" * (PART_SIZE + 5)
        sent = await put_parts(stack, ALICE, session, data, 1, 2)
        taking(stack, max_file_size=PART_SIZE + 4)
        with pytest.raises(TooLarge) as caught:
            await completed(stack, session, parts=sent, size=len(data))
        assert caught.value.details == {"max_size": PART_SIZE + 4}
        assert (await stack.core.service.get(ALICE, session.session_id)).state is State.OPEN
        await stack.core.service.abort(ALICE, session.session_id)

    async def test_one_that_was_completed_behind_our_back_ends_rejected(self, stack: Stack) -> None:
        taking(stack, max_file_size=10)
        session = await created(stack, "a.bin", None)
        taking(stack)
        await acknowledge_all(
            stack, ALICE, session, await put_parts(stack, ALICE, session, b"x" * 11, 1)
        )
        parts = [part async for part in stack.ports.storage.list_parts(session.upload)]
        await stack.ports.storage.complete(
            session.upload, parts, algorithm=session.checksum_algorithm
        )
        taking(stack, max_file_size=10)
        with pytest.raises(Conflict):
            await stack.core.service.parts(ALICE, session.session_id)
        done = await completed(stack, session)
        assert done.state is State.REJECTED
        assert done.error is not None
        assert done.error.code == "file_too_large"
