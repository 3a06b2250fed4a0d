"""Redis stalled, killed, emptied, full, or with nonsense in it (faults 7 to 13 and 53)."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from conformance.session_store import frozen, new_session, part, settled
from state.cutting_proxy import CuttingProxy

from gateway.core.events import EventType
from gateway.core.lifecycle import event_for
from gateway.core.model import State
from gateway.core.ports import PartOutcome, SessionQuery
from gateway.embedded import Valkey
from gateway.errors import Internal, InvalidRequest, SessionNotFound, Unavailable
from gateway.state.redis.client import Client, connect
from gateway.state.redis.keys import Keys
from gateway.state.redis.leases import RedisLeases
from gateway.state.redis.store import RedisSessionStore, RedisStoreOptions

DEADLINE = 0.5


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Valkey]:
    """Start a server that may be broken."""
    async with Valkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
async def impatient(server: Valkey) -> AsyncIterator[Client]:
    client = connect(server.url, deadline=DEADLINE, connections=8)
    yield client
    await client.close()


@pytest.fixture
def store(impatient: Client) -> RedisSessionStore:
    return RedisSessionStore(impatient)


async def test_row_09_stalled_redis_is_given_up_within_the_deadline(
    server: Valkey, impatient: Client, store: RedisSessionStore
) -> None:
    session = await store.add(new_session())
    leases = RedisLeases(impatient)
    server.pause()
    try:
        began = time.monotonic()
        # More calls than connections: waiting for one counts, too.
        async with asyncio.timeout(10 * DEADLINE):
            results = await asyncio.gather(
                *(store.get(session.session_id) for _ in range(50)),
                *(store.add_parts(session.session_id, [part(n)]) for n in range(1, 50)),
                store.save(frozen(session)),
                store.find(SessionQuery(session.owner)),
                store.ping(),
                leases.acquire("work", seconds=5),
                return_exceptions=True,
            )
        took = time.monotonic() - began
        fresh = connect(server.url, deadline=DEADLINE)
        with pytest.raises(Unavailable):
            await RedisSessionStore(fresh).ping()
        await fresh.close()
    finally:
        server.resume()

    assert took < 2 * DEADLINE
    for result in results:
        assert isinstance(result, Unavailable)
        assert result.code == "redis_unavailable"
        assert result.retryable
        assert result.retry_after == 2
        assert result.hint
        assert result.__cause__ is not None
    # What was sent may have taken effect, and can be repeated.
    repeated = await store.get(session.session_id)
    if repeated.state is State.OPEN:
        assert len(await store.add_parts(session.session_id, [part(1)])) == 1


async def test_row_08_killed_redis_is_unavailable_and_comes_back_with_its_records(
    server: Valkey, store: RedisSessionStore
) -> None:
    session = await store.add(new_session())
    await asyncio.gather(*(store.add_parts(session.session_id, [part(n)]) for n in range(1, 9)))

    await server.kill()
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            await store.get(session.session_id)
        assert caught.value.code == "redis_unavailable"
    await server.start()

    # Every connection of the pool is stale now, and none of these calls notices.
    found = await asyncio.gather(*(store.get(session.session_id) for _ in range(20)))
    assert {one.progress.received_parts for one in found} == {8}
    results = await asyncio.gather(
        *(store.add_parts(session.session_id, [part(n)]) for n in range(1, 17))
    )
    assert sum(result == [PartOutcome.STORED] for result in results) == 8


async def test_row_07_emptied_redis_knows_nothing_and_takes_everything_again(
    impatient: Client, store: RedisSessionStore
) -> None:
    session = new_session()
    await store.add(session)
    await store.mark()
    before = await store.parts(session.session_id)

    # The scripts are gone as well.
    await impatient.command("FLUSHALL")
    await impatient.command("SCRIPT", "FLUSH")

    with pytest.raises(SessionNotFound):
        await store.get(session.session_id)
    assert not await store.is_marked()
    assert (await store.find(SessionQuery(session.owner))).sessions == ()
    assert await store.due(session.expires_at, 10) == []
    await store.add(session, parts=[part(1)])
    assert (await store.get(session.session_id)).progress.numbers() == [1]
    assert len((await store.find(SessionQuery(session.owner))).sessions) == 1
    # A revision from before the loss never fits by chance.
    assert (await store.parts(session.session_id)).revision != before.revision


async def test_row_07_scripts_that_redis_forgot_are_sent_again(
    impatient: Client, store: RedisSessionStore
) -> None:
    added = [await store.add(new_session(owner="me")) for _ in range(5)]

    await impatient.command("SCRIPT", "FLUSH")
    found = await store.find(SessionQuery("me"))
    await impatient.command("SCRIPT", "FLUSH")
    read = await asyncio.gather(*(store.get(session.session_id) for session in added))

    assert {session.session_id for session in found.sessions} == {
        session.session_id for session in added
    }
    assert read == added


async def test_row_11_full_redis_refuses_new_sessions_and_live_ones_finish(
    impatient: Client, store: RedisSessionStore
) -> None:
    session = new_session()
    await store.add(session)
    new = new_session()
    await impatient.command("CONFIG", "SET", "maxmemory", 1)
    before = await _dump(impatient)

    with pytest.raises(Unavailable) as caught:
        await store.add(new, event_for(new, EventType.CREATED))

    assert caught.value.code == "redis_full"
    assert caught.value.hint
    assert await _dump(impatient) == before
    lease = await RedisLeases(impatient).acquire(session.session_id, seconds=30)
    assert lease is not None
    assert await lease.renew()
    await store.report_in_flight(session.session_id, {1: 5})
    await store.add_parts(session.session_id, [part(n) for n in range(1, 100)])
    await store.allow_replace(session.session_id, [1])
    await store.add_parts(session.session_id, [part(1, "other")])
    await store.heal_parts(session.session_id, found=[part(100)], lost=[part(2)])
    completing = await store.save(frozen(session))
    await store.schedule(session.session_id, session.expires_at)
    await store.report_verified(session.session_id, 7)
    assert (await store.get(session.session_id)).progress.received_parts == 99
    assert completing.state is State.COMPLETING
    await lease.release()
    await impatient.command("CONFIG", "SET", "maxmemory", 0)
    assert await store.add(new) == new


async def test_wrong_password_is_told_apart(server: Valkey) -> None:
    client = connect(f"redis://:wrong@127.0.0.1:{server.port}/0")
    with pytest.raises(Unavailable) as caught:
        await RedisSessionStore(client).ping()
    assert caught.value.code == "redis_denied"
    assert not caught.value.retryable
    await client.close()


async def test_mark_does_not_outlive_a_restart_during_the_rebuild(
    server: Valkey, impatient: Client, store: RedisSessionStore
) -> None:
    assert not await store.is_marked()
    await server.kill()
    await server.start()

    # What was recorded between these two may be lost, and the rebuild does not know it.
    await store.mark()

    assert not await store.is_marked()
    await store.mark()
    assert await store.is_marked()


async def test_sweeping_needs_no_dangerous_commands(server: Valkey, impatient: Client) -> None:
    await impatient.command(
        "ACL", "SETUSER", "gw", "on", ">secret", "~gw:*", "+@all", "-@dangerous"
    )
    client = connect(f"redis://gw:secret@127.0.0.1:{server.port}/0")
    try:
        store = RedisSessionStore(client)
        assert not await store.is_marked()
        await store.mark()
        assert await store.is_marked()
        assert await store.due(new_session().expires_at, 10) == []
        await impatient.command("FLUSHALL")
        assert not await store.is_marked()
    finally:
        await client.close()


@pytest.mark.parametrize("url", ["", "http://x:secret@host", "redis://host:notaport/0"])
def test_url_that_cannot_be_used_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        connect(url)
    assert caught.value.code == "invalid_redis_url"
    assert "secret" not in caught.value.message + caught.value.hint


async def test_url_cannot_change_how_replies_are_read(server: Valkey) -> None:
    client = connect(f"{server.url}?decode_responses=true&protocol=3&socket_timeout=1")
    store = RedisSessionStore(client)
    session = await store.add(new_session())
    assert await store.get(session.session_id) == session
    await client.close()


async def test_calls_whose_reply_was_lost_are_repeated_without_harm(server: Valkey) -> None:
    async with CuttingProxy(server.url) as proxy:
        client = connect(proxy.url)
        store = RedisSessionStore(client)
        # Redis gets to know the scripts, so that what is cut below has been carried out.
        known = await store.add(new_session())
        await store.add_parts(known.session_id, [part(1)])
        await store.save(frozen(known))
        assert await RedisLeases(client).acquire("other", seconds=30)
        session = new_session()
        session_id = session.session_id

        proxy.cut_next(f"{{{session_id}}}:outbox".encode())
        await store.add(session, event_for(session, EventType.CREATED))
        proxy.cut_next(f"{{{session_id}}}:parts".encode())
        await store.add_parts(session_id, [part(1)])
        proxy.cut_next(f"{{{session_id}}}:outbox".encode())
        aborted, event = settled(session)
        saved = await store.save(aborted, event)
        proxy.cut_next(b"work")
        lease = await RedisLeases(client).acquire("work", seconds=30)

        assert proxy.cuts == 4
        assert saved.state is State.ABORTED
        assert lease is not None
        assert [one.type for one in await store.outbox(session_id)] == [
            EventType.CREATED,
            EventType.ABORTED,
        ]
        assert (await store.get(session_id)).progress.received_parts == 1
        await client.close()


async def test_cancelled_calls_leave_no_trace(server: Valkey) -> None:
    client = connect(server.url, connections=2)
    store = RedisSessionStore(client)
    session = await store.add(new_session())

    for round_ in range(30):
        calls = [asyncio.create_task(store.get(session.session_id)) for _ in range(10)]
        calls += [
            asyncio.create_task(store.add_parts(session.session_id, [part(n)]))
            for n in range(1, 11)
        ]
        for _ in range(round_ % 6):
            await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        # The others are answered, each with its own reply.
        assert not [one for one in results[1:10:2] if one != session]
        assert all(isinstance(one, list) for one in results[11::2])

    # All connections are free again, and none has somebody else's reply in it.
    found = await asyncio.gather(*(store.get(session.session_id) for _ in range(20)))
    assert all(one.progress.has(10) for one in found)
    await client.close()


async def test_row_53_unreadable_record_troubles_only_its_own_session(
    client: Client,
    sessions: RedisSessionStore,
    keys: Keys,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plans: list[tuple[str, ...]] = [
        ("HSET", "record", "{broken"),
        ("HSET", "record", "[]"),
        ("HSET", "record", '{"session_id": "x"}'),
        ("HSET", "bytes", "many"),
        ("HDEL", "record"),
        ("HDEL", "count"),
    ]
    good = [await sessions.add(new_session(owner="poison")) for _ in range(2)]
    bad = [await sessions.add(new_session(owner="poison")) for _ in range(len(plans) + 1)]
    for session, (command, *words) in zip(bad, plans, strict=False):
        await client.command(command, keys.session(session.session_id), *words)
    # Not even a hash.
    await client.command("SET", keys.session(bad[-1].session_id), "nonsense")

    results = await asyncio.gather(
        *(sessions.get(session.session_id) for session in [*bad, *good]), return_exceptions=True
    )

    for result in results[: len(bad)]:
        assert isinstance(result, Internal)
        assert result.code == "record_unreadable"
    assert results[len(bad) :] == good
    with caplog.at_level(logging.WARNING):
        page = await sessions.find(SessionQuery("poison"))
    assert {one.session_id for one in page.sessions} == {one.session_id for one in good}
    warned = {getattr(record, "session_id", None) for record in caplog.records}
    assert warned == {one.session_id for one in bad}


Operation = Callable[[RedisSessionStore, str], Awaitable[object]]
PARTS = [part(1, "b", "x", 3), part(2), part(7)]
OPERATIONS: dict[str, Operation] = {
    "add": lambda store, one: store.add(
        session := new_session(session_id=one),
        event_for(session, EventType.CREATED),
        parts=PARTS,
    ),
    "save": lambda store, one: store.save(
        *settled(new_session(session_id=one)), parts_revision=None
    ),
    "add_parts": lambda store, one: store.add_parts(one, PARTS),
    "heal_parts": lambda store, one: store.heal_parts(one, found=PARTS, lost=[part(1)]),
    "allow_replace": lambda store, one: store.allow_replace(one, [1, 2]),
    "report_in_flight": lambda store, one: store.report_in_flight(one, {3: 3, 4: 4}),
    "report_verified": lambda store, one: store.report_verified(one, 3),
}
# Which keys each of them needs; the others may hold whatever they like.
TOUCHED = {
    "add": ["outbox"],
    "save": ["session", "outbox"],
    "add_parts": ["session", "parts", "received", "in_flight", "replace"],
    "heal_parts": ["session", "parts", "received", "in_flight"],
    "allow_replace": ["session", "replace"],
    "report_in_flight": ["session", "received"],
    "report_verified": ["session"],
}


@pytest.mark.parametrize(
    ("operation", "key"), [(name, key) for name, keys in TOUCHED.items() for key in keys]
)
async def test_row_13_error_inside_a_script_leaves_nothing_half_written(
    client: Client, sessions: RedisSessionStore, keys: Keys, operation: str, key: str
) -> None:
    session = await sessions.add(new_session())
    session_id = session.session_id
    await sessions.add_parts(session_id, [part(1), part(5)])
    await sessions.report_in_flight(session_id, {2: 5})
    await sessions.allow_replace(session_id, [1])
    broken = f"{keys.prefix}:{{{session_id}}}:{key}"
    await client.command("DEL", broken)
    await client.command("ZADD", broken, 1, "not what it should be")
    if operation == "add":
        await client.command("DEL", keys.session(session_id))
    before = await _dump(client, *keys.all(session_id))

    with pytest.raises(Internal) as caught:
        await OPERATIONS[operation](sessions, session_id)

    assert caught.value.code == "record_unreadable"
    assert await _dump(client, *keys.all(session_id)) == before


@pytest.mark.parametrize("poison", [b"{broken", b"[]", b'"text"', b"[1]", b'[1,"two","a",null]'])
async def test_row_13_unreadable_part_is_refused_before_anything_is_written(
    client: Client, sessions: RedisSessionStore, keys: Keys, poison: bytes
) -> None:
    session_id = (await sessions.add(new_session())).session_id
    await sessions.add_parts(session_id, [part(1), part(2)])
    await client.command("HSET", keys.parts(session_id), 2, poison)
    before = await _dump(client, *keys.all(session_id))

    results = await asyncio.gather(
        sessions.add_parts(session_id, [part(3), part(2)]),
        sessions.heal_parts(session_id, found=[part(3), part(2)], lost=[]),
        sessions.parts(session_id),
        sessions.parts_of(session_id, [1, 2]),
        return_exceptions=True,
    )

    for result in results:
        assert isinstance(result, Internal)
        assert result.code == "record_unreadable"

    assert await _dump(client, *keys.all(session_id)) == before


async def test_row_13_a_script_that_redis_ends_for_its_memory_has_written_nothing(
    impatient: Client, store: RedisSessionStore
) -> None:
    """A script refused for lack of memory is refused before its first line, by its flags."""
    session = await store.add(new_session())
    keys = Keys("gw")
    await impatient.command("CONFIG", "SET", "maxmemory", 1)
    before = await _dump(impatient)
    restored = new_session()
    with pytest.raises(Unavailable):
        await store.add(restored, event_for(restored, EventType.CREATED), parts=PARTS)
    assert await _dump(impatient) == before
    # What is under way is never refused halfway: all of it is written.
    await store.add_parts(session.session_id, [part(n) for n in range(1, 1001)])
    found = await store.get(session.session_id)
    assert found.progress.received_parts == 1000
    assert await impatient.command("HLEN", keys.parts(session.session_id)) == 1000


async def test_leftovers_of_a_lost_session_do_not_come_back_with_it(
    client: Client, sessions: RedisSessionStore, keys: Keys
) -> None:
    session = new_session()
    await sessions.add(session, event_for(session, EventType.CREATED))
    await sessions.add_parts(session.session_id, [part(1), part(2)])
    await sessions.allow_replace(session.session_id, [3])
    await client.command("DEL", keys.session(session.session_id))

    await sessions.add(session, parts=[part(4)])

    assert (await sessions.parts(session.session_id)).parts == (part(4),)
    progress = (await sessions.get(session.session_id)).progress
    assert (progress.numbers(), progress.received_parts) == ([4], 1)
    # An event that waits for delivery is a fact.
    assert len(await sessions.outbox(session.session_id)) == 1


async def _dump(client: Client, *keys: str) -> dict[str, bytes]:
    """Return the exact contents of these keys, or of all."""
    names = keys or [key.decode() for key in await client.command("KEYS", "*")]
    return {name: await client.command("DUMP", name) for name in names}


async def test_random_bytes_are_no_record(client: Client, keys: Keys) -> None:
    store = RedisSessionStore(client, RedisStoreOptions(prefix=keys.prefix))
    session = await store.add(new_session())
    await client.command(
        "HSET", keys.session(session.session_id), "record", secrets.token_bytes(100)
    )
    with pytest.raises(Internal):
        await store.get(session.session_id)
