"""Relayed parts over a real store and a real Redis: what is acknowledged is what is stored."""

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from stack import Stack, put_parts

from gateway.core.access import Principal
from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.claim import ClaimOptions
from gateway.core.composition import compose
from gateway.core.model import MultipartUpload, NewUpload, Part, State, UploadSession, VerifiedBy
from gateway.core.ports import PartOutcome, Storage
from gateway.core.relay import PartRelay, RelayOptions
from gateway.errors import Conflict, InvalidRequest, SessionNotFound, Unavailable
from gateway.storage.retrying import RetryingStorage

ALICE = Principal("alice")
SIZE = 5 * 1024 * 1024
DATA = random.Random(4).randbytes(SIZE + 1000)
LAST = DATA[SIZE:]


async def body(data: bytes, block: int = 65_536) -> AsyncIterator[bytes]:
    for start in range(0, len(data), block):
        yield data[start : start + block]


async def created(stack: Stack, data: bytes = DATA, **options: Any) -> UploadSession:
    size = options.pop("size", len(data))
    new = NewUpload("film.mp4", size, part_size=SIZE, **options)
    return (await stack.core.service.create(ALICE, new))[0]


async def relay(
    stack: Stack, session: UploadSession, number: int, data: bytes, **options: Any
) -> tuple[Part, PartOutcome]:
    _, part, outcome = await stack.core.service.put_part(
        ALICE,
        session.session_id,
        number,
        body(data),
        **{"size": len(data), **options},
    )
    return part, outcome


def checksum_of(session: UploadSession, data: bytes) -> Checksum:
    algorithm = session.checksum_algorithm
    return Checksum(algorithm, ALGORITHMS[algorithm].value_of(data))


async def test_an_upload_of_relayed_parts_is_verified(stack: Stack) -> None:
    session = await created(stack)
    for number, data in ((2, LAST), (1, DATA[:SIZE])):
        part, outcome = await relay(stack, session, number, data)
        assert outcome is PartOutcome.STORED
        assert part.checksum == checksum_of(session, data).value
    session = await stack.core.service.complete(ALICE, session.session_id)
    assert session.state is State.COMPLETED
    assert session.verified_by is VerifiedBy.GATEWAY
    assert await stack.read_object(session) == DATA


async def test_digests_of_the_client_make_it_the_clients_word(stack: Stack) -> None:
    session = await created(stack)
    first = DATA[:SIZE]
    sha256 = Checksum("sha256", ALGORITHMS["sha256"].value_of(first))
    await relay(stack, session, 1, first, checksums=[sha256])
    await relay(stack, session, 2, LAST, checksums=[checksum_of(session, LAST)])
    session = await stack.core.service.complete(ALICE, session.session_id)
    assert session.verified_by is VerifiedBy.CLIENT_PARTS


async def test_an_empty_file_has_one_empty_relayed_part(stack: Stack) -> None:
    session = await created(stack, b"")
    await relay(stack, session, 1, b"")
    session = await stack.core.service.complete(ALICE, session.session_id)
    assert session.state is State.COMPLETED
    assert await stack.read_object(session) == b""


@pytest.mark.parametrize("direct", [True, False])
async def test_the_same_bytes_again_count_once(stack: Stack, *, direct: bool) -> None:
    session = await created(stack)
    if direct:
        parts = await put_parts(stack, ALICE, session, DATA, 2)
        # As somebody acknowledges who knows no checksums.
        await stack.core.service.acknowledge(
            ALICE, session.session_id, [replace(part, checksum=None) for part in parts]
        )
    else:
        await relay(stack, session, 2, LAST)
    for _ in range(2):
        part, outcome = await relay(stack, session, 2, LAST)
        assert outcome is PartOutcome.SAME
        assert part.checksum == checksum_of(session, LAST).value
    progress = (await stack.core.service.get(ALICE, session.session_id)).progress
    assert (progress.received_parts, progress.received_bytes) == (1, len(LAST))


async def test_row_25_other_bytes_are_a_conflict_and_the_stored_part_stays(stack: Stack) -> None:
    session = await created(stack)
    first, _ = await relay(stack, session, 1, DATA[:SIZE])
    other = bytes(reversed(DATA[:SIZE]))
    with pytest.raises(Conflict) as caught:
        await relay(stack, session, 1, other)
    assert (caught.value.code, caught.value.details) == ("part_conflict", {"parts": [1]})
    listed = [part async for part in stack.ports.storage.list_parts(session.upload)]
    assert [(part.number, part.etag) for part in listed] == [(1, first.etag)]
    part, outcome = await relay(stack, session, 1, other, replace=True)
    assert (outcome, part.etag) == (PartOutcome.STORED, hashlib.md5(other).hexdigest())  # noqa: S324 - an ETag
    # The permission was for once.
    with pytest.raises(Conflict):
        await relay(stack, session, 1, DATA[:SIZE])
    await relay(stack, session, 2, LAST)
    session = await stack.core.service.complete(ALICE, session.session_id)
    assert await stack.read_object(session) == other + LAST


@pytest.mark.parametrize("first", ["none", "same", "broken"])
async def test_a_replacement_leaves_no_permission_behind(stack: Stack, first: str) -> None:
    """Neither where there was nothing to replace, nor with the same bytes, nor half of them."""
    session = await created(stack)
    if first != "none":
        await relay(stack, session, 2, LAST)
    if first == "broken":
        with pytest.raises(InvalidRequest):
            await relay(stack, session, 2, LAST[:-1], size=len(LAST), replace=True)
    else:
        await relay(stack, session, 2, LAST, replace=True)
    with pytest.raises(Conflict) as caught:
        await relay(stack, session, 2, bytes(len(LAST)))
    assert caught.value.code == "part_conflict"
    await relay(stack, session, 1, DATA[:SIZE])
    session = await stack.core.service.complete(ALICE, session.session_id)
    assert await stack.read_object(session) == DATA


class Damaging(RetryingStorage):
    """Flips a bit of the first part that passes, as a bad cable would."""

    damaged = False

    async def put_part(
        self,
        upload: MultipartUpload,
        number: int,
        body: AsyncIterator[bytes],
        *,
        size: int,
        algorithm: str,
        checksum: str | None = None,
    ) -> Part:
        async def flipped() -> AsyncIterator[bytes]:
            async for block in body:
                yield block if self.damaged else bytes([block[0] ^ 1]) + block[1:]
                self.damaged = True

        return await super().put_part(
            upload, number, flipped(), size=size, algorithm=algorithm, checksum=checksum
        )


@pytest.mark.parametrize("listed", [True, False])
async def test_a_damaged_part_is_sent_again_and_then_stays(stack: Stack, *, listed: bool) -> None:
    stack.reconnect(storage=Damaging(stack.ports.storage))
    session = await created(stack)
    with pytest.raises(Unavailable) as caught:
        await relay(stack, session, 2, LAST)
    assert caught.value.code == "part_damaged"
    if listed:
        await stack.core.service.parts(ALICE, session.session_id)
    _, outcome = await relay(stack, session, 2, LAST)
    assert outcome is PartOutcome.STORED
    with pytest.raises(Conflict) as conflict:
        await relay(stack, session, 2, bytes(len(LAST)))
    assert conflict.value.code == "part_conflict"
    await relay(stack, session, 1, DATA[:SIZE])
    session = await stack.core.service.complete(ALICE, session.session_id)
    assert await stack.read_object(session) == DATA


async def test_row_07_a_redis_emptied_meanwhile_costs_no_confirmed_part(stack: Stack) -> None:
    """The other sender has loaded the session before, and knows of no part now."""
    session = await created(stack)
    await relay(stack, session, 2, LAST)
    ports = stack.ports
    other = PartRelay(storage=ports.storage, sessions=ports.sessions, leases=ports.leases)
    await stack.empty_redis()
    with pytest.raises(SessionNotFound):
        await other.put(session, 2, body(bytes(len(LAST))), size=len(LAST))
    await relay(stack, session, 1, DATA[:SIZE])
    session = await stack.core.service.complete(ALICE, session.session_id)
    assert await stack.read_object(session) == DATA


class SlowToList(RetryingStorage):
    """Lists parts when it is told to."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def list_parts(self, upload: MultipartUpload) -> AsyncGenerator[Part, None]:
        self.asked.set()
        await self.go_on.wait()
        async for part in super().list_parts(upload):
            yield part


async def test_row_07_no_confirmed_part_is_unknown_while_a_session_comes_back(stack: Stack) -> None:
    session = await created(stack)
    await relay(stack, session, 2, LAST)
    slow = SlowToList(stack.ports.storage)
    other = compose(replace(stack.ports, storage=slow), stack.options)
    await stack.empty_redis()
    loading = asyncio.create_task(other.service.get(ALICE, session.session_id))
    await slow.asked.wait()
    with pytest.raises(Conflict):
        await relay(stack, session, 2, bytes(len(LAST)))
    slow.go_on.set()
    assert (await loading).progress.received_parts == 1


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"number": 3}, "part_number_out_of_range"),
        ({"size": SIZE}, "part_length_mismatch"),
        ({"data": LAST[:-1], "size": len(LAST)}, "part_length_mismatch"),
        ({"data": LAST + b"x", "size": len(LAST)}, "part_length_mismatch"),
        ({"checksums": [Checksum("md5", "1B2M2Y8AsgTpgAmY7PhCfg==")]}, "digest_mismatch"),
        ({"checksums": [Checksum("crc64nvme", "AAAAAAAAAAA=")]}, "digest_mismatch"),
    ],
)
async def test_what_is_refused_is_not_in_the_store(
    stack: Stack, options: dict[str, Any], code: str
) -> None:
    session = await created(stack)
    arguments = {"number": 2, "data": LAST, **options}
    with pytest.raises(InvalidRequest) as caught:
        await relay(stack, session, **arguments)
    assert caught.value.code == code
    assert [part async for part in stack.ports.storage.list_parts(session.upload)] == []
    assert await stack.core.service.parts(ALICE, session.session_id) == ()


async def test_a_part_of_unknown_size_needs_its_length(stack: Stack) -> None:
    session = await created(stack, size=None)
    with pytest.raises(InvalidRequest) as caught:
        await relay(stack, session, 1, DATA[:SIZE], size=None)
    assert caught.value.code == "length_required"
    await relay(stack, session, 1, DATA[:SIZE])
    await relay(stack, session, 2, LAST)
    session = await stack.core.service.complete(ALICE, session.session_id, size=len(DATA))
    assert await stack.read_object(session) == DATA


async def test_a_part_of_a_sha256_session_needs_its_digest(stack: Stack) -> None:
    session = await created(stack, checksum_algorithm="sha256")
    with pytest.raises(InvalidRequest) as caught:
        await relay(stack, session, 2, LAST)
    assert caught.value.code == "checksum_required"
    await relay(stack, session, 2, LAST, checksums=[checksum_of(session, LAST)])


async def test_two_clients_race_with_different_bytes_and_the_acknowledged_are_read_back(
    stack: Stack,
) -> None:
    """Two hundred times, through two gateways that share nothing but Redis and the store."""
    other = compose(stack.ports, stack.options)
    codes: list[str] = []

    async def send(core: Any, session: UploadSession, data: bytes) -> bytes | None:
        try:
            await core.service.put_part(
                ALICE, session.session_id, 1, body(data, 700), size=len(data)
            )
        except Conflict as error:
            codes.append(error.code)
            return None
        return data

    async def race(_: int) -> None:
        one, two = os.urandom(2000), os.urandom(2000)
        session = await created(stack, one)
        kept = await asyncio.gather(send(stack.core, session, one), send(other, session, two))
        [acknowledged] = [data for data in kept if data is not None]
        progress = (await stack.core.service.get(ALICE, session.session_id)).progress
        assert (progress.received_parts, progress.received_bytes) == (1, 2000)
        session = await stack.core.service.complete(ALICE, session.session_id)
        assert session.state is State.COMPLETED
        assert await stack.read_object(session) == acknowledged

    for start in range(0, 200, 20):
        await asyncio.gather(*map(race, range(start, start + 20)))
    assert codes == ["part_conflict"] * 200
    await other.completer.close()


def impatient(stack: Stack, **options: Any) -> Any:
    """Another gateway, whose claims do not last long."""
    claim = ClaimOptions(lease=0.3, patience=options.get("patience", 3.0), poll=0.02)
    relay = RelayOptions(**{"patience": 3.0, "claim": claim, **options})
    return compose(stack.ports, replace(stack.options, relay=relay))


async def test_row_51_a_silent_sender_is_evicted_by_the_next_one(stack: Stack) -> None:
    core = impatient(stack)
    session = await created(stack)
    begun = asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        yield LAST[:500]
        begun.set()
        await asyncio.Event().wait()

    held = asyncio.create_task(
        core.service.put_part(ALICE, session.session_id, 2, silent(), size=len(LAST))
    )
    await begun.wait()
    _, _, outcome = await core.service.put_part(
        ALICE, session.session_id, 2, body(LAST), size=len(LAST)
    )
    assert outcome is PartOutcome.STORED
    with pytest.raises(Conflict) as caught:
        await asyncio.wait_for(held, 10)
    assert (caught.value.code, caught.value.retryable) == ("part_busy", True)
    assert [part.size for part in await core.service.parts(ALICE, session.session_id)] == [
        len(LAST)
    ]


async def test_a_sender_whose_bytes_keep_coming_keeps_its_claim(stack: Stack) -> None:
    core = impatient(stack, patience=0.6)
    session = await created(stack)
    begun, enough = asyncio.Event(), asyncio.Event()

    async def steady() -> AsyncIterator[bytes]:
        for start in range(900):
            begun.set()
            if enough.is_set():
                yield LAST[start:]
                return
            yield LAST[start : start + 1]
            await asyncio.sleep(0.02)

    held = asyncio.create_task(
        core.service.put_part(ALICE, session.session_id, 2, steady(), size=len(LAST))
    )
    await begun.wait()
    with pytest.raises(Conflict) as caught:
        await core.service.put_part(ALICE, session.session_id, 2, body(LAST), size=len(LAST))
    assert caught.value.code == "part_busy"
    enough.set()
    _, _, outcome = await held
    assert outcome is PartOutcome.STORED


async def test_more_parts_than_there_are_turns_wait_and_then_are_told(stack: Stack) -> None:
    core = impatient(stack, at_once=1, patience=0.2)
    session = await created(stack)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def paused() -> AsyncIterator[bytes]:
        yield LAST[:500]
        begun.set()
        await go_on.wait()
        yield LAST[500:]

    held = asyncio.create_task(
        core.service.put_part(ALICE, session.session_id, 2, paused(), size=len(LAST))
    )
    await begun.wait()
    with pytest.raises(Unavailable) as caught:
        await core.service.put_part(ALICE, session.session_id, 1, body(DATA[:SIZE]), size=SIZE)
    assert (caught.value.code, caught.value.retryable) == ("too_many_parts_in_flight", True)
    go_on.set()
    await held
    await core.service.put_part(ALICE, session.session_id, 1, body(DATA[:SIZE]), size=SIZE)
