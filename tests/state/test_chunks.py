"""What is known of chunks, on a real Valkey: exact however many gateways tell of them at once."""

import asyncio
import random
from dataclasses import replace

import pytest
from conformance.session_store import new_session

from gateway.core.chunks.store import Chunk
from gateway.core.lifecycle import Trigger, advance
from gateway.core.model import ChunkPlan, UploadSession
from gateway.core.ports import PartOutcome
from gateway.errors import Conflict, InvalidRequest, SessionNotFound
from gateway.state.redis.chunks import RedisChunkStore
from gateway.state.redis.client import Client, connect
from gateway.state.redis.store import RedisSessionStore

TOTAL = 100
STORED, SAME = PartOutcome.STORED, PartOutcome.SAME


@pytest.fixture
def chunks(client: Client, redis_prefix: str) -> RedisChunkStore:
    return RedisChunkStore(client, prefix=redis_prefix)


async def begun(sessions: RedisSessionStore, total: int = TOTAL) -> UploadSession:
    return await sessions.add(new_session(size=None, chunks=ChunkPlan(total)))


def chunk(index: int, size: int = 10, checksum: str = "AAAA", token: str = "t") -> Chunk:
    return Chunk(index, size, checksum, token)


async def test_every_chunk_counts_once_however_many_tell_of_it(
    sessions: RedisSessionStore, chunks: RedisChunkStore, redis_url: str, redis_prefix: str
) -> None:
    session = await begun(sessions)
    other_client = connect(redis_url)
    stores = [chunks, RedisChunkStore(other_client, prefix=redis_prefix)]
    told = [chunk(index, token=f"t{n}") for index in range(TOTAL) for n in range(4)]
    random.Random(1).shuffle(told)
    outcomes = await asyncio.gather(
        *(
            stores[n % 2].add_chunk(session.session_id, one, total=TOTAL)
            for n, one in enumerate(told)
        )
    )
    await other_client.close()
    assert outcomes.count(STORED) == TOTAL
    progress = (await sessions.get(session.session_id)).progress
    assert (progress.received_chunks, progress.unbroken_chunks) == (TOTAL, TOTAL)
    assert progress.staged_bytes == TOTAL * 10
    assert await chunks.staged_bytes() == TOTAL * 10


async def test_other_bytes_conflict_and_the_first_ones_stay(
    sessions: RedisSessionStore, chunks: RedisChunkStore
) -> None:
    session = await begun(sessions)
    await chunks.add_chunk(session.session_id, chunk(3), total=TOTAL)
    for other in (chunk(3, checksum="BBBB"), chunk(3, size=11)):
        with pytest.raises(Conflict):
            await chunks.add_chunk(session.session_id, other, total=TOTAL)
    assert await chunks.chunks_of(session.session_id, [2, 3]) == {3: chunk(3)}


@pytest.mark.parametrize(
    ("known", "told", "fits"),
    [
        ([], chunk(TOTAL - 1, 7), True),
        ([chunk(0)], chunk(1, 9), False),
        ([chunk(0)], chunk(TOTAL - 1, 10), True),
        ([chunk(0)], chunk(TOTAL - 1, 11), False),
        ([chunk(TOTAL - 1, 7)], chunk(0, 7), True),
        ([chunk(TOTAL - 1, 7)], chunk(0, 6), False),
    ],
)
async def test_all_chunks_but_the_last_have_one_size(
    sessions: RedisSessionStore,
    chunks: RedisChunkStore,
    known: list[Chunk],
    told: Chunk,
    *,
    fits: bool,
) -> None:
    session = await begun(sessions)
    for one in known:
        await chunks.add_chunk(session.session_id, one, total=TOTAL)
    if fits:
        assert await chunks.add_chunk(session.session_id, told, total=TOTAL) is STORED
    else:
        with pytest.raises(InvalidRequest):
            await chunks.add_chunk(session.session_id, told, total=TOTAL)
    progress = (await sessions.get(session.session_id)).progress
    assert progress.received_chunks == len(known) + fits


async def test_a_part_is_marked_once_and_its_bytes_are_no_longer_staged(
    sessions: RedisSessionStore, chunks: RedisChunkStore
) -> None:
    session, other = await begun(sessions), await begun(sessions)
    for index in range(4):
        await chunks.add_chunk(session.session_id, chunk(index), total=TOTAL)
    await chunks.add_chunk(other.session_id, chunk(0), total=TOTAL)
    await asyncio.gather(*(chunks.mark_assembled(session.session_id, 1, 30) for _ in range(3)))
    progress = (await sessions.get(session.session_id)).progress
    assert (progress.assembled, progress.staged_bytes) == (b"\x80", 10)
    assert await chunks.staged_bytes() == 20
    await chunks.forget_staged(session.session_id)
    await chunks.forget_staged(session.session_id)
    assert await chunks.staged_bytes() == 10


async def test_a_chunk_without_token_is_its_own_part(
    sessions: RedisSessionStore, chunks: RedisChunkStore
) -> None:
    session = await begun(sessions)
    await chunks.add_chunk(session.session_id, chunk(2, token=""), total=TOTAL)
    progress = (await sessions.get(session.session_id)).progress
    assert (progress.assembled, progress.staged_bytes) == (b"\x20", 0)


async def test_what_was_lost_is_forgotten_and_may_come_again(
    sessions: RedisSessionStore, chunks: RedisChunkStore
) -> None:
    session = await begun(sessions)
    for index in range(3):
        await chunks.add_chunk(session.session_id, chunk(index), total=TOTAL)
    lost = [chunk(0), replace(chunk(1), token="another"), chunk(5)]
    for _ in range(2):
        await chunks.forget_chunks(session.session_id, 1, lost)
        progress = (await sessions.get(session.session_id)).progress
        assert (progress.chunks, progress.received_chunks) == (b"\x60", 2)
        assert progress.staged_bytes == await chunks.staged_bytes() == 20
    assert await chunks.add_chunk(session.session_id, chunk(0), total=TOTAL) is STORED


async def test_what_is_found_in_storage_changes_nothing_that_is_known(
    sessions: RedisSessionStore, chunks: RedisChunkStore
) -> None:
    session = await begun(sessions)
    await chunks.add_chunk(session.session_id, chunk(0), total=TOTAL)
    found = [chunk(0), chunk(1), chunk(2, 9), chunk(3, token=""), replace(chunk(0), token="x")]
    told = await chunks.restore_chunks(session.session_id, found, total=TOTAL)
    assert told == [True, True, False, True, False]
    assert not (await sessions.get(session.session_id)).progress.chunks_known
    await chunks.mark_restored(session.session_id)
    progress = (await sessions.get(session.session_id)).progress
    assert progress.chunks_known
    assert (progress.received_chunks, progress.staged_bytes, progress.assembled) == (3, 20, b"")


async def test_a_frozen_session_takes_no_more_and_still_knows_what_it_has(
    sessions: RedisSessionStore, chunks: RedisChunkStore
) -> None:
    session = await begun(sessions)
    await chunks.add_chunk(session.session_id, chunk(0), total=TOTAL)
    await sessions.save(advance(session, Trigger.COMPLETE, session.updated_at)[0])
    assert await chunks.add_chunk(session.session_id, chunk(0, token="x"), total=TOTAL) is SAME
    with pytest.raises(Conflict) as caught:
        await chunks.add_chunk(session.session_id, chunk(1), total=TOTAL)
    assert caught.value.code == "session_not_open"


async def test_a_session_that_is_unknown_has_no_chunks(chunks: RedisChunkStore) -> None:
    nobody = "0" * 32
    for call in (
        chunks.add_chunk(nobody, chunk(0), total=TOTAL),
        chunks.restore_chunks(nobody, [chunk(0)], total=TOTAL),
        chunks.mark_restored(nobody),
        chunks.mark_assembled(nobody, 1, 10),
        chunks.forget_chunks(nobody, 1, [chunk(0)]),
    ):
        with pytest.raises(SessionNotFound):
            await call
    assert await chunks.chunks_of(nobody, [0, 1]) == {}
    assert await chunks.staged_bytes() == 0
