"""A stream of bytes at an offset, over a real store: what is durable is the offset."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from faults.ports import Around
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stack import Stack

from gateway.core.access import Principal
from gateway.core.claim import Claim, ClaimOptions
from gateway.core.composition import compose
from gateway.core.model import NewUpload, State, UploadSession
from gateway.errors import Conflict, GatewayError, Gone, InvalidRequest

ALICE = Principal("alice")
PART_SIZE = 5 * 1024 * 1024
DATA = random.Random(7).randbytes(2 * PART_SIZE + 3000)
GONE = InvalidRequest("The client is gone.", code="body_truncated", retryable=True)


async def blocks(
    data: bytes, block: int = 60_000, failure: Exception | None = None
) -> AsyncIterator[bytes]:
    for start in range(0, len(data), block):
        yield data[start : start + block]
    if failure is not None:
        raise failure


async def created(stack: Stack, size: int | None = len(DATA)) -> UploadSession:
    new = NewUpload("film.mp4", size, part_size=PART_SIZE)
    return (await stack.core.service.create(ALICE, new))[0]


async def append(
    stack: Stack, session: UploadSession, offset: int, data: bytes, **options: Any
) -> int:
    failure = options.pop("failure", None)
    return await stack.core.service.append(
        ALICE, session.session_id, offset, blocks(data, failure=failure), **options
    )


async def offset_of(stack: Stack, session: UploadSession) -> int:
    return await stack.core.service.offset(ALICE, session.session_id)


async def staged(stack: Stack, session: UploadSession) -> list[str]:
    prefix = f".gateway/staging/{session.session_id}/"
    return [item.key async for item in stack.ports.objects.list(session.upload.bucket, prefix)]


async def must_become(stack: Stack, session: UploadSession, data: bytes, **given: Any) -> None:
    session = await stack.core.service.complete(ALICE, session.session_id, wait=30, **given)
    assert session.state is State.COMPLETED
    assert await stack.read_object(session) == data
    assert await staged(stack, session) == []


async def test_a_stream_in_one_go_becomes_the_file(stack: Stack) -> None:
    session = await created(stack)
    assert await append(stack, session, 0, DATA) == len(DATA)
    await must_become(stack, session, DATA)


async def test_a_stream_of_unknown_size_ends_where_it_is_said_to_end(stack: Stack) -> None:
    session = await created(stack, size=None)
    assert await append(stack, session, 0, DATA[:PART_SIZE]) == PART_SIZE
    assert await append(stack, session, PART_SIZE, DATA[PART_SIZE:-10]) == len(DATA) - 10
    assert await append(stack, session, len(DATA) - 10, DATA[-10:], last=True) == len(DATA)
    await must_become(stack, session, DATA, size=len(DATA))


@pytest.mark.parametrize("size", [0, None])
async def test_an_empty_stream_becomes_an_empty_file(stack: Stack, size: int | None) -> None:
    session = await created(stack, size=size)
    assert await append(stack, session, 0, b"", last=True) == 0
    await must_become(stack, session, b"", size=0)


async def test_pieces_of_any_size_become_the_file(stack: Stack) -> None:
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.integers(0, len(DATA)), max_size=4).map(sorted),
        st.lists(st.booleans(), min_size=5, max_size=5),
        st.integers(0, 3),
    )
    def check(cuts: list[int], broken: list[bool], emptied: int) -> None:
        examples.append((cuts, broken, emptied))

    examples: list[tuple[list[int], list[bool], int]] = []
    check()
    for cuts, broken, emptied in examples:
        session = await created(stack)
        offset = 0
        for index, end in enumerate([*cuts, len(DATA)]):
            failure = GONE if broken[index] else None
            try:
                await append(stack, session, offset, DATA[offset:end], failure=failure)
            except InvalidRequest as error:
                assert error is failure  # noqa: PT017 - the body's own error, and no other
            if index == emptied:
                await stack.empty_redis()
            # All that had come is kept, also where the body broke off.
            assert await offset_of(stack, session) == end
            offset = end
        await must_become(stack, session, DATA)


async def test_bytes_at_another_offset_are_refused_with_the_right_one(stack: Stack) -> None:
    session = await created(stack)
    await append(stack, session, 0, DATA[:1000])
    for wrong in (0, 999, 1001):
        with pytest.raises(Conflict) as caught:
            await append(stack, session, wrong, DATA[wrong:])
        assert caught.value.code == "offset_mismatch"
        assert caught.value.details == {"offset": 1000}
    assert await offset_of(stack, session) == 1000


async def test_bytes_beyond_the_end_are_refused_and_the_rest_is_kept(stack: Stack) -> None:
    session = await created(stack)
    await append(stack, session, 0, DATA[:-10])
    with pytest.raises(InvalidRequest) as caught:
        await append(stack, session, len(DATA) - 10, DATA[-10:] + b"x")
    assert caught.value.code == "size_mismatch"
    assert await offset_of(stack, session) == len(DATA) - 10
    await append(stack, session, len(DATA) - 10, DATA[-10:])
    await must_become(stack, session, DATA)


async def test_a_silent_sender_is_evicted_and_its_bytes_are_not_mixed_in(stack: Stack) -> None:
    claim = ClaimOptions(lease=0.3, patience=3.0, poll=0.02)
    core = compose(stack.ports, replace(stack.options, append=claim))
    session = await created(stack)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        yield bytes(1000)
        begun.set()
        await go_on.wait()
        yield bytes(1000)

    held = asyncio.create_task(core.service.append(ALICE, session.session_id, 0, silent()))
    await begun.wait()
    assert await core.service.append(ALICE, session.session_id, 0, blocks(DATA)) == len(DATA)
    go_on.set()
    with pytest.raises(GatewayError) as caught:
        await held
    assert caught.value.code == "append_busy"
    await must_become(stack, session, DATA)


async def test_little_memory_makes_segments_and_no_deadlock(stack: Stack) -> None:
    """Five streams share a budget of three pieces; nobody waits while holding."""
    core = compose(stack.ports, replace(stack.options, memory=3 * 1024 * 1024))
    sessions = [await created(stack) for _ in range(5)]
    ends = await asyncio.gather(
        *(core.service.append(ALICE, one.session_id, 0, blocks(DATA)) for one in sessions)
    )
    assert ends == [len(DATA)] * 5
    assert core.budget.figures.peak <= 3 * 1024 * 1024
    assert core.budget.figures.taken == 0
    for session in sessions:
        await must_become(stack, session, DATA)


async def test_a_segment_that_the_store_has_damaged_is_sent_again(stack: Stack) -> None:
    session = await created(stack)
    await append(stack, session, 0, DATA[:1000])
    [key] = await staged(stack, session)
    await stack.ports.objects.put(
        session.upload.bucket, key, bytes(1000), content_type="text/plain"
    )
    with pytest.raises(Conflict) as caught:
        await append(stack, session, 1000, DATA[1000:])
    assert caught.value.details == {"offset": 0}
    assert await offset_of(stack, session) == 0
    await append(stack, session, 0, DATA)
    await must_become(stack, session, DATA)


async def test_an_aborted_stream_leaves_no_tail(stack: Stack) -> None:
    session = await created(stack)
    await append(stack, session, 0, DATA[: PART_SIZE + 10])
    assert len(await staged(stack, session)) == 1
    await stack.core.service.abort(ALICE, session.session_id)
    assert await staged(stack, session) == []


async def test_what_a_part_holds_by_now_does_not_stay_in_the_tail(stack: Stack) -> None:
    """As when the gateway is killed between recording the part and deleting the segment."""
    session = await created(stack)
    await append(stack, session, 0, DATA[:1000])
    [key] = await staged(stack, session)
    tail = DATA[:1000]
    await append(stack, session, 1000, DATA[1000:])
    bucket = session.upload.bucket
    await stack.ports.objects.put(bucket, key, tail, content_type="text/plain")
    assert await offset_of(stack, session) == len(DATA)
    await must_become(stack, session, DATA)


@pytest.mark.parametrize("size", [None, len(DATA)])
async def test_a_last_stream_that_breaks_off_does_not_end_the_file(
    stack: Stack, size: int | None
) -> None:
    session = await created(stack, size=size)
    with pytest.raises(InvalidRequest):
        await append(stack, session, 0, DATA[:1000], last=True, failure=GONE)
    assert await offset_of(stack, session) == 1000
    assert await append(stack, session, 1000, DATA[1000:], last=True) == len(DATA)
    await must_become(stack, session, DATA, size=len(DATA))


@pytest.mark.parametrize("end", [0, 1000, PART_SIZE, PART_SIZE + 1000])
async def test_a_stream_that_has_ended_is_as_long_as_it_was_then(stack: Stack, end: int) -> None:
    """Also for whoever asks again, and nothing comes behind its end."""
    session = await created(stack, size=None)
    assert await append(stack, session, 0, DATA[:end], last=True) == end
    assert await offset_of(stack, session) == end
    assert await append(stack, session, end, b"", last=True) == end
    if end % PART_SIZE or not end:
        with pytest.raises(InvalidRequest) as caught:
            await append(stack, session, end, b"more")
        assert caught.value.code == "size_mismatch"
    await stack.empty_redis()
    assert await offset_of(stack, session) == end
    await must_become(stack, session, DATA[:end], size=end)


async def test_bytes_that_come_while_the_session_is_aborted_are_not_kept(stack: Stack) -> None:
    session = await created(stack)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield bytes(1000)
        begun.set()
        await go_on.wait()

    held = asyncio.create_task(stack.core.service.append(ALICE, session.session_id, 0, slow()))
    await begun.wait()
    await stack.core.service.abort(ALICE, session.session_id)
    go_on.set()
    with pytest.raises(Gone):
        await held
    assert await staged(stack, session) == []


async def test_row_10_a_part_that_redis_forgot_is_found_in_the_store(stack: Stack) -> None:
    """What was confirmed behind it is not given up."""
    session = await created(stack)
    await append(stack, session, 0, DATA[: PART_SIZE + 1000])
    sessions = stack.ports.sessions
    known = (await sessions.parts(session.session_id)).parts
    await sessions.heal_parts(session.session_id, found=(), lost=known)
    assert await offset_of(stack, session) == PART_SIZE + 1000
    await sessions.heal_parts(session.session_id, found=(), lost=known)
    await append(stack, session, PART_SIZE + 1000, DATA[PART_SIZE + 1000 :])
    await must_become(stack, session, DATA)


async def test_a_slow_writer_that_comes_back_takes_nothing_from_those_after_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its whole process stood still for longer than its claim lasts."""

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Claim, "_renew", never)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def put(real: Any, *arguments: Any, **options: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await real(*arguments, **options)

    claim = ClaimOptions(lease=0.2, patience=5.0, poll=0.02)
    slow = compose(
        replace(stack.ports, objects=Around(stack.ports.objects, put=put)),
        replace(stack.options, append=claim),
    )
    session = await created(stack)
    old = asyncio.create_task(
        slow.service.append(ALICE, session.session_id, 0, blocks(bytes(2000)))
    )
    await begun.wait()
    assert await append(stack, session, 0, DATA[:1000]) == 1000
    go_on.set()
    with pytest.raises(Conflict) as caught:
        await old
    assert caught.value.code == "append_busy"
    assert await offset_of(stack, session) == 1000
    await append(stack, session, 1000, DATA[1000:])
    await must_become(stack, session, DATA)
