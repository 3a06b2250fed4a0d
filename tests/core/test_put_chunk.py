"""What put_chunk promises, on a real store and a real Redis."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from core.chunks import (
    ALICE,
    CHUNK,
    File,
    another_gateway,
    body_of,
    send,
    send_all,
    staged,
    until_clear,
    with_small_parts,
)
from faults.ports import Around
from stack import Stack

from gateway.core.access import Principal
from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.chunks.leftovers import Leftovers
from gateway.core.chunks.loose import LOOSE, loose_prefix
from gateway.core.chunks.pieces import PIECE_BYTES, piece_keys
from gateway.core.chunks.staging import Staging
from gateway.core.composition import compose
from gateway.core.model import Acknowledged, ChunkedFile, PartToSign, State, VerifiedBy
from gateway.core.plan import MIB
from gateway.core.ports import PartOutcome
from gateway.core.reconciler import Reconciler
from gateway.errors import (
    Conflict,
    GatewayError,
    Gone,
    InvalidRequest,
    SessionNotFound,
    StorageFull,
)

STORED, SAME = PartOutcome.STORED, PartOutcome.SAME


def small(**said: Any) -> File:
    """Return a file of three chunks that make one part."""
    return File(os.urandom(2500), 1000, **said)


def test_a_file_id_is_checked_where_it_is_said() -> None:
    for file_id, total, code in [
        ("", 1, "invalid_file_id"),
        ("x" * 256, 1, "invalid_file_id"),
        ("a\nb", 1, "invalid_file_id"),
        ("x", 0, "total_chunks_out_of_range"),
        ("x", 1_000_001, "total_chunks_out_of_range"),
    ]:
        with pytest.raises(InvalidRequest) as caught:
            ChunkedFile("a", file_id, total, "film.mp4")
        assert caught.value.code == code


@pytest.mark.parametrize("seed", [1, 2])
async def test_chunks_in_any_order_become_the_file(stack: Stack, seed: int) -> None:
    with_small_parts(stack)
    file = File(os.urandom(4 * CHUNK - 1000))
    order = random.Random(seed).sample(range(file.count), file.count)
    session = await send_all(stack.core, file, order)
    assert (session.state, session.size) == (State.COMPLETED, len(file.data))
    assert session.verified_by is VerifiedBy.GATEWAY
    assert len(await stack.core.service.parts(ALICE, session.session_id)) == 2
    assert await stack.read_object(session) == file.data
    await until_clear(stack, session.session_id)
    assert await staged(stack, session.session_id) == []
    assert await stack.ports.chunks.staged_bytes() == 0


async def test_the_progress_counts_each_chunk_once(stack: Stack) -> None:
    file = small(completes_itself=False)
    for index, outcome, counted, unbroken, missing in [
        (2, STORED, 1, 0, "0-1"),
        (0, STORED, 2, 1, "1"),
        (0, SAME, 2, 1, "1"),
        (1, STORED, 3, 3, ""),
    ]:
        session, did = await send(stack.core, file, index)
        assert did is outcome
        assert session.progress.received_chunks == counted
        assert session.progress.unbroken_chunks == unbroken
        assert session.missing_chunks == missing
    assert session.phase == "assembling"
    assert session.chunks is not None
    assert session.chunks.size == 1000
    assert session.size == len(file.data)
    await stack.core.assembler.start(session.session_id)
    session = await stack.core.service.get(ALICE, session.session_id)
    # Nobody has asked for more than that.
    assert (session.state, session.phase, session.fraction) == (State.OPEN, "assembling", 1.0)


async def test_parts_are_written_before_the_file_is_whole(stack: Stack) -> None:
    with_small_parts(stack)
    file = File(os.urandom(4 * CHUNK - 1000), completes_itself=False)
    session = await send_all(stack.core, file, range(3))
    await stack.core.assembler.start(session.session_id)
    session = await stack.core.service.get(ALICE, session.session_id)
    assert (session.progress.received_parts, session.progress.staged_bytes) == (1, 0)
    assert [name for name in await staged(stack, session.session_id) if "part" not in name] == []
    assert session.phase == "uploading"


async def test_other_bytes_are_a_conflict_and_change_nothing(stack: Stack) -> None:
    file = small()
    await send(stack.core, file, 0)
    for other in (bytes(1000), bytes(999), bytes(1001)):
        with pytest.raises(Conflict) as caught:
            await send(stack.core, file, 0, other)
        assert caught.value.code == "chunk_conflict"
    session = await send_all(stack.core, file)
    assert await stack.read_object(session) == file.data


@pytest.mark.parametrize("forgotten", [False, True], ids=["known", "redis-emptied"])
async def test_a_chunk_after_completion_is_compared_with_the_file(
    stack: Stack, *, forgotten: bool
) -> None:
    file = small()
    done = await send_all(stack.core, file)
    await until_clear(stack, done.session_id)
    if forgotten:
        await stack.empty_redis()
    for index in range(3):
        session, outcome = await send(stack.core, file, index)
        assert (session.state, outcome) == (State.COMPLETED, SAME)
    for other in (bytes(500), bytes(499), bytes(1000)):
        with pytest.raises(Conflict) as caught:
            await send(stack.core, file, 2, other)
        assert caught.value.code == "chunk_conflict"


@pytest.mark.parametrize(
    ("sent", "index", "size", "code"),
    [
        ([], 0, 0, "chunk_empty"),
        ([], 3, 10, "chunk_index_out_of_range"),
        ([], -1, 10, "chunk_index_out_of_range"),
        ([0], 1, 999, "chunk_size_mismatch"),
        ([0], 1, 1001, "chunk_size_mismatch"),
        ([0], 2, 1001, "chunk_size_mismatch"),
        # The last one is 500 bytes long, and so none before it is shorter.
        ([2], 0, 499, "chunk_size_mismatch"),
    ],
)
async def test_a_chunk_that_cannot_be_is_refused_and_leaves_nothing(
    stack: Stack, sent: list[int], index: int, size: int, code: str
) -> None:
    file = small()
    for before in sent:
        session, _ = await send(stack.core, file, before)
    with pytest.raises(InvalidRequest) as caught:
        await send(stack.core, file, index, bytes(size))
    assert caught.value.code == code
    if sent:
        assert len(await staged(stack, session.session_id)) == len(sent)
        session = await stack.core.service.get(ALICE, session.session_id)
        assert session.progress.received_chunks == len(sent)
    done = await send_all(stack.core, file)
    assert await stack.read_object(done) == file.data


async def test_an_id_stands_for_one_file(stack: Stack) -> None:
    file = small()
    await send(stack.core, file, 0)
    for other, code in [
        (replace(file.said, total_chunks=4), "total_chunks_changed"),
        (replace(file.said, filename="other.mp4"), "file_id_taken"),
    ]:
        with pytest.raises(Conflict) as caught:
            await stack.core.service.put_chunk(ALICE, other, 1, body_of(file.piece(1)))
        assert caught.value.code == code
    # Another form, or somebody else, may use the same one.
    other_form = await send_all(stack.core, replace(file, form="b", data=file.data[::-1]))
    assert await stack.read_object(other_form) == file.data[::-1]
    with pytest.raises(SessionNotFound):
        await stack.core.service.find_chunked(Principal("bob"), "a", file.file_id)


async def test_a_client_that_stops_halfway_leaves_nothing(stack: Stack) -> None:
    class Stopped(Exception):
        pass

    async def half() -> AsyncGenerator[bytes, None]:
        yield bytes(3 * PIECE_BYTES)
        raise Stopped

    file = small()
    session, _ = await send(stack.core, file, 2)
    with pytest.raises(Stopped):
        await stack.core.service.put_chunk(ALICE, file.said, 0, half())
    assert len(await staged(stack, session.session_id)) == 1
    assert stack.core.budget.figures.taken == 0


async def test_a_chunk_of_several_pieces_comes_out_as_it_went_in(stack: Stack) -> None:
    sizes = [1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES]
    for size in sizes:
        file = File(os.urandom(size), size)
        session = await send_all(stack.core, file)
        assert await stack.read_object(session) == file.data


async def test_a_large_chunk_goes_straight_into_its_part_once_the_size_is_known(
    stack: Stack,
) -> None:
    file = File(os.urandom(3 * 5 * MIB - 1000), 5 * MIB, completes_itself=False)
    for index in range(3):
        session, outcome = await stack.core.service.put_chunk(
            ALICE,
            file.said,
            index,
            body_of(file.piece(index)),
            size=len(file.piece(index)),
        )
        assert outcome is STORED
    puts = [name for name in await staged(stack, session.session_id) if name.startswith("0000000")]
    assert all(name.startswith("0000000-") for name in puts)
    with pytest.raises(Conflict) as caught:
        await send(stack.core, file, 2, bytes(len(file.piece(2))))
    assert caught.value.code == "chunk_conflict"
    await stack.empty_redis()
    session = await stack.core.service.complete(ALICE, session.session_id, wait=30)
    assert (session.state, session.verified_by) == (State.COMPLETED, VerifiedBy.GATEWAY)
    assert await stack.read_object(session) == file.data


async def test_a_length_that_lies_is_refused(stack: Stack) -> None:
    file = File(os.urandom(2 * 5 * MIB), 5 * MIB)
    await send(stack.core, file, 0)
    for lie in (5 * MIB - 1, 5 * MIB + 1):
        with pytest.raises(InvalidRequest) as caught:
            await stack.core.service.put_chunk(
                ALICE, file.said, 1, body_of(file.piece(1)), size=lie
            )
        assert caught.value.code == "chunk_size_mismatch"
    session = await stack.core.service.find_chunked(ALICE, "a", file.file_id)
    assert session.progress.received_chunks == 1


async def test_completing_waits_for_the_assembly(stack: Stack) -> None:
    file = small(completes_itself=False)
    await send(stack.core, file, 0)
    session, _ = await send(stack.core, file, 2)
    with pytest.raises(Conflict) as caught:
        await stack.core.service.complete(ALICE, session.session_id)
    assert (caught.value.code, caught.value.details) == ("chunks_missing", {"missing": "1"})
    await send(stack.core, file, 1)
    for given in ({"size": 2499}, {"parts": [Acknowledged(1, "etag")]}):
        with pytest.raises((InvalidRequest, Conflict)):
            await stack.core.service.complete(ALICE, session.session_id, **given)  # type: ignore[arg-type]
    checksum = Checksum("sha256", ALGORITHMS["sha256"].value_of(file.data))
    done = await stack.core.service.complete(
        ALICE, session.session_id, size=2500, checksum=checksum, wait=30
    )
    assert (done.state, done.verified_by) == (State.COMPLETED, VerifiedBy.CLIENT_FILE)
    assert await stack.core.service.complete(
        ALICE, session.session_id
    ) == await stack.core.service.get(ALICE, session.session_id)


async def test_a_wrong_checksum_of_the_file_ends_corrupt(stack: Stack) -> None:
    file = small(completes_itself=False)
    session = await send_all(stack.core, file)
    wrong = Checksum("sha256", ALGORITHMS["sha256"].value_of(b"other"))
    done = await stack.core.service.complete(ALICE, session.session_id, checksum=wrong, wait=30)
    assert done.state is State.CORRUPT
    await until_clear(stack, session.session_id)
    assert await staged(stack, session.session_id) == []


async def test_an_impatient_completion_says_assembling_and_goes_on(stack: Stack) -> None:
    held = asyncio.Event()

    async def put_part(real: Any, *args: Any, **kwargs: Any) -> Any:
        await held.wait()
        return await real(*args, **kwargs)

    stack.reconnect(storage=Around(stack.ports.storage, put_part=put_part))
    file = small(completes_itself=False)
    session = await send_all(stack.core, file)
    waiting = await stack.core.service.complete(ALICE, session.session_id, wait=0.05)
    assert (waiting.state, waiting.phase, waiting.fraction) == (State.OPEN, "assembling", 0.0)
    held.set()
    await stack.core.assembler.start(session.session_id)
    done = await stack.core.service.get(ALICE, session.session_id)
    assert done.state is State.COMPLETED
    await stack.core.assembler.close()


async def test_parts_of_a_file_in_chunks_are_nobody_elses(stack: Stack) -> None:
    session, _ = await send(stack.core, small(), 0)
    service, session_id = stack.core.service, session.session_id
    calls = [
        service.sign(ALICE, session_id, [PartToSign(1)]),
        service.acknowledge(ALICE, session_id, [Acknowledged(1, "etag")]),
        service.put_part(ALICE, session_id, 1, body_of(b"x"), size=1),
        service.report_in_flight(ALICE, session_id, {1: 1}),
    ]
    for call in calls:
        with pytest.raises(Conflict) as caught:
            await call
        assert caught.value.code == "session_chunked"


@pytest.mark.parametrize("end", ["abort", "expire"])
async def test_what_was_staged_goes_with_a_closed_session(stack: Stack, end: str) -> None:
    with_small_parts(stack)
    file = File(os.urandom(4 * CHUNK), completes_itself=False)
    session = await send_all(stack.core, file, [0, 1, 2])
    await stack.core.assembler.start(session.session_id)
    if end == "abort":
        await stack.core.service.abort(ALICE, session.session_id)
    else:
        late = session.expires_at + timedelta(days=2)

        class Later:
            def now(self) -> Any:
                return late

        stack.reconnect(clock=Later())
        await stack.ports.sessions.schedule(session.session_id, late)
        await stack.core.sweeper.sweep()
    assert await staged(stack, session.session_id) == []
    assert await stack.ports.chunks.staged_bytes() == 0
    with pytest.raises(Gone):
        await send(stack.core, file, 3)
    assert await staged(stack, session.session_id) == []


async def test_two_gateways_share_one_file(stack: Stack) -> None:
    with_small_parts(stack)
    file = File(os.urandom(7 * CHUNK + 5))
    cores = [stack.core, another_gateway(stack)]
    sent = await asyncio.gather(*(send(cores[n % 2], file, n) for n in range(file.count)))
    session = await until_clear(stack, sent[0][0].session_id)
    assert session.state is State.COMPLETED
    assert await stack.read_object(session) == file.data
    assert await staged(stack, session.session_id) == []
    await cores[1].assembler.close()
    await cores[1].completer.close()


async def test_of_two_that_race_one_chunk_the_acknowledged_bytes_stay(stack: Stack) -> None:
    cores = [stack.core, another_gateway(stack)]
    winners: Counter[int] = Counter()

    async def race(number: int) -> None:
        file = File(os.urandom(2000), 1000, completes_itself=False)
        first, second = file.piece(0), os.urandom(1000)
        outcomes = await asyncio.gather(
            send(cores[number % 2], file, 0, first),
            send(cores[(number + 1) % 2], file, 0, second),
            return_exceptions=True,
        )
        won = [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, Exception)]
        assert len(won) == 1, outcomes
        lost = outcomes[1 - won[0]]
        assert isinstance(lost, GatewayError)
        assert lost.code == "chunk_conflict"
        winners[won[0]] += 1
        session, _ = await send(cores[0], file, 1)
        assert session.progress.received_chunks == 2
        done = await stack.core.service.complete(ALICE, session.session_id, wait=30)
        assert await stack.read_object(done) == [first, second][won[0]] + file.piece(1)

    await asyncio.gather(*(race(number) for number in range(10)))
    assert sum(winners.values()) == 10
    for core in cores:
        await core.assembler.close()
    await cores[1].completer.close()


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.large)])
async def test_many_chunks_at_once_keep_within_the_memory(stack: Stack, count: int) -> None:
    core = compose(stack.ports, replace(stack.options, memory=4 * MIB))
    file = File(os.urandom(count * 10_000), 10_000)
    session = await send_all(core, file, at_once=count)
    done = await until_clear(stack, session.session_id)
    assert await stack.read_object(done) == file.data
    figures = core.budget.figures
    # Nobody says how long these are, so that each takes a whole piece: four at a time.
    assert figures.peak == 4 * MIB
    assert (figures.taken, figures.refused) == (0, 0)
    await core.assembler.close()
    await core.completer.close()


async def test_a_loose_chunk_finds_its_file(stack: Stack) -> None:
    file = File(os.urandom(2 * PIECE_BYTES + 7), PIECE_BYTES + 5)
    for index in range(file.count):
        loose = await stack.core.service.stage(body_of(file.piece(index)))
        assert loose.size == len(file.piece(index))
        session, _ = await stack.core.service.put_chunk(ALICE, file.said, index, loose, wait=30)
        await loose.discard()
    assert await stack.read_object(session) == file.data
    bucket = stack.options.creator.bucket
    assert not await asyncio.to_thread(
        lambda: list(stack.oracle.list_objects(bucket, LOOSE, recursive=True))
    )
    assert stack.core.budget.figures.taken == 0


async def test_a_full_staging_refuses_more_and_goes_on_when_there_is_room(stack: Stack) -> None:
    core = compose(stack.ports, replace(stack.options, staging_limit=2000))
    first, second = small(completes_itself=False), small(completes_itself=False)
    await send(core, first, 0)
    await send(core, second, 0)
    with pytest.raises(StorageFull) as caught:
        await send(core, second, 1)
    assert (caught.value.code, caught.value.retryable) == ("staging_full", True)
    session = await core.service.find_chunked(ALICE, "a", second.file_id)
    assert session.progress.received_chunks == 1
    assert len(await staged(stack, session.session_id)) == 1
    assert core.space.figures.refused == 1
    found = await core.service.find_chunked(ALICE, "a", first.file_id)
    await core.service.abort(ALICE, found.session_id)
    await send(core, second, 1)
    assert (await core.service.find_chunked(ALICE, "a", second.file_id)).missing_chunks == "2"


async def test_a_full_store_is_told_as_it_is(stack: Stack) -> None:
    async def put(real: Any, bucket: str, key: str, body: bytes, **kwargs: Any) -> None:
        if "/staging/" in key:
            raise StorageFull("The store has no room left.", code="storage_full")
        await real(bucket, key, body, **kwargs)

    file, objects = small(), stack.ports.objects
    stack.reconnect(objects=Around(objects, put=put))
    with pytest.raises(StorageFull) as caught:
        await send(stack.core, file, 0)
    assert caught.value.code == "storage_full"
    stack.reconnect(objects=objects)
    session = await stack.core.service.find_chunked(ALICE, "a", file.file_id)
    assert session.progress.received_chunks == 0
    done = await send_all(stack.core, file)
    assert done.state is State.COMPLETED


async def test_a_staged_chunk_that_rots_is_sent_again(stack: Stack) -> None:
    file = small()
    await send(stack.core, file, 0)
    session, _ = await send(stack.core, file, 1)
    [name] = [name for name in await staged(stack, session.session_id) if name[:7] == "0000000"]
    bucket = stack.options.creator.bucket
    key = f".gateway/staging/{session.session_id}/{name}"
    await stack.ports.objects.put(bucket, key, bytes(1000), content_type="text/plain")
    session, _ = await send(stack.core, file, 2)
    assert (session.state, session.missing_chunks) == (State.OPEN, "0")
    done, _ = await send(stack.core, file, 0)
    assert done.state is State.COMPLETED
    assert await stack.read_object(done) == file.data


async def test_a_part_that_the_store_has_lost_is_sent_again(stack: Stack) -> None:
    with_small_parts(stack)
    file = File(os.urandom(4 * CHUNK), completes_itself=False)
    session = await send_all(stack.core, file)
    await stack.core.assembler.start(session.session_id)

    async def list_parts(real: Any, upload: Any) -> AsyncGenerator[Any, None]:
        async for part in real(upload):
            if part.number != 1:
                yield part

    ports = stack.ports
    await stack.core.assembler.close()
    stack.reconnect(storage=Around(ports.storage, list_parts=list_parts))
    with pytest.raises(Conflict) as caught:
        await stack.core.service.complete(ALICE, session.session_id, wait=30)
    assert (caught.value.code, caught.value.details) == ("chunks_missing", {"missing": "0-2"})
    stack.reconnect(storage=ports.storage)
    await send_all(stack.core, file, range(3))
    done = await stack.core.service.complete(ALICE, session.session_id, wait=30)
    assert await stack.read_object(done) == file.data


async def test_a_redis_that_fell_back_in_time_is_told_by_storage(stack: Stack) -> None:
    file = small(completes_itself=False)
    session = await send_all(stack.core, file)
    chunk = (await stack.ports.chunks.chunks_of(session.session_id, [1]))[1]
    await stack.ports.chunks.forget_chunks(session.session_id, 1, [chunk])
    done = await stack.core.service.complete(ALICE, session.session_id, wait=30)
    assert await stack.read_object(done) == file.data


async def test_of_two_whole_attempts_with_other_bytes_nobody_guesses(stack: Stack) -> None:
    file = small(completes_itself=False)
    session = await send_all(stack.core, file, [0, 1])
    chunk = (await stack.ports.chunks.chunks_of(session.session_id, [0]))[0]
    other = os.urandom(1000)
    checksum = ALGORITHMS[session.checksum_algorithm].value_of(other)
    [key] = piece_keys(session.session_id, replace(chunk, token="0" * 12, checksum=checksum))
    bucket = stack.options.creator.bucket
    await stack.ports.objects.put(bucket, key, other, content_type="text/plain")
    # Redis alone knew which of them was confirmed to its sender.
    await stack.empty_redis()
    found = await stack.core.service.find_chunked(ALICE, "a", file.file_id)
    assert (found.missing_chunks, found.progress.received_chunks) == ("0,2", 1)
    await send_all(stack.core, file)
    done = await stack.core.service.complete(ALICE, session.session_id, wait=30)
    assert await stack.read_object(done) == file.data
    await until_clear(stack, session.session_id)
    assert await staged(stack, session.session_id) == []


async def test_staging_is_swept_of_what_nobody_needs(stack: Stack) -> None:
    finished, open_file = small(), small()
    done = await send_all(stack.core, finished)
    await until_clear(stack, done.session_id)
    going, _ = await send(stack.core, open_file, 0)
    bucket, objects = stack.options.creator.bucket, stack.ports.objects
    today = loose_prefix(stack.ports.clock.now(), "0" * 12)
    yesterday = loose_prefix(stack.ports.clock.now() - timedelta(hours=25), "0" * 12)
    unknown = "f" * 32
    late = ["0000001-000000000000-000000"]
    for key in (
        f"{today}000000",
        f"{yesterday}000000",
        f".gateway/staging/{unknown}/{late[0]}",
        # By a process that died before it found the session completed.
        f".gateway/staging/{done.session_id}/{late[0]}",
    ):
        await objects.put(bucket, key, b"x", content_type="text/plain")
    staging = Staging(objects, bucket, stack.core.budget, stack.core.space, stack.ports.clock)
    reconciler = Reconciler(
        stack.ports.storage, objects, stack.ports.sessions, stack.ports.sidecars
    )
    await Leftovers(staging, stack.ports.leases, reconciler).sweep()
    assert await staged(stack, done.session_id) == []
    assert len(await staged(stack, going.session_id)) == 1
    assert await staged(stack, unknown) == late
    left = [item.key async for item in objects.list(bucket, LOOSE)]
    assert left == [f"{today}000000"]


@pytest.mark.large
async def test_twelve_thousand_tiny_chunks(stack: Stack) -> None:
    file = File(os.urandom(12_000 * 10 - 3), 10)
    session = await send_all(stack.core, file, at_once=32)
    async with asyncio.timeout(600):
        while session.state is not State.COMPLETED:
            await stack.core.assembler.start(session.session_id)
            session = await stack.core.service.get(ALICE, session.session_id)
    assert await stack.read_object(session) == file.data
    await until_clear(stack, session.session_id)
    assert await staged(stack, session.session_id) == []
