"""Indexes, attention and retention: what lies outside a session's own slot, or goes by itself."""

import asyncio
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from conformance.session_store import new_session, next_version, part, settled
from samples import NOW

from gateway.core.lifecycle import Trigger, advance
from gateway.core.model import State, UploadSession
from gateway.core.ports import Clock, SessionQuery
from gateway.errors import InvalidRequest, SessionNotFound
from gateway.state.redis.client import Client, Script
from gateway.state.redis.keys import Keys
from gateway.state.redis.store import RedisSessionStore, RedisStoreOptions

DAY_MS = 86_400_000
FOREVER = -1


class FixedClock(Clock):
    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now


def store_at(client: Client, prefix: str, now: datetime) -> RedisSessionStore:
    return RedisSessionStore(client, RedisStoreOptions(prefix=prefix), clock=FixedClock(now))


async def entries(client: Client, index: str) -> list[bytes]:
    return list(await client.command("ZRANGE", index, 0, -1))


async def lives(client: Client, keys: Keys, session: UploadSession) -> set[int]:
    """Return the days that the keys of a session still live, rounded."""
    found = [await client.command("PTTL", key) for key in keys.all(session.session_id)]
    return {FOREVER if life == FOREVER else round(life / DAY_MS) for life in found if life != -2}


async def test_entries_without_a_session_are_passed_over_and_removed_when_old(
    client: Client, keys: Keys
) -> None:
    store = store_at(client, keys.prefix, NOW)
    young = new_session(owner="me", fingerprint="f", created_at=NOW)
    old = new_session(owner="me", fingerprint="f", created_at=NOW - timedelta(minutes=2))
    alive = new_session(owner="me", fingerprint="f", created_at=NOW - timedelta(days=2))
    for session in (young, old, alive):
        await store.add(session)
    for gone in (young, old):
        await client.command("DEL", *keys.all(gone.session_id))

    for query in (SessionQuery("me"), SessionQuery("me", fingerprint="f")):
        assert (await store.find(query)).sessions == (alive,)

    for index in (keys.owner("me"), keys.fingerprint("me", "f")):
        left = await entries(client, index)
        # The session of a young entry may still be on its way.
        assert [entry.partition(b":")[2].decode() for entry in left] == [
            alive.session_id,
            young.session_id,
        ]


async def test_second_entry_of_a_session_does_not_show_it_twice(client: Client, keys: Keys) -> None:
    store = store_at(client, keys.prefix, NOW)
    session = new_session(owner="me", created_at=NOW - timedelta(hours=1))
    await store.add(session)
    # Another process tried to create the same session, under its idempotency key, a little later.
    await store.add(
        new_session(
            owner="me",
            session_id=session.session_id,
            created_at=session.created_at + timedelta(seconds=1),
        )
    )

    assert (await store.find(SessionQuery("me"))).sessions == (session,)
    assert len(await entries(client, keys.owner("me"))) == 1


async def test_sessions_of_another_owner_are_never_shown(client: Client, keys: Keys) -> None:
    store = store_at(client, keys.prefix, NOW)
    foreign = new_session(owner="somebody else", created_at=NOW)
    await store.add(foreign)
    entry = (await entries(client, keys.owner("somebody else")))[0]
    await client.command("ZADD", keys.owner("me"), 0, entry)

    assert (await store.find(SessionQuery("me"))).sessions == ()


async def test_restored_session_is_listed_although_its_entry_was_taken_for_garbage(
    client: Client, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(client, keys.prefix, NOW)
    session = new_session(owner="me", created_at=NOW - timedelta(days=1))
    run = client.run

    async def find_first(script: Script, of: Sequence[str], *words: bytes | str | int) -> object:
        if script == Script.load("add"):
            # The entry is there already, old, and the session is not.
            assert (await store.find(SessionQuery("me"))).sessions == ()
            assert not await entries(client, keys.owner("me"))
        return await run(script, of, *words)

    monkeypatch.setattr(client, "run", find_first)
    await store.add(session)

    assert (await store.find(SessionQuery("me"))).sessions == (session,)


async def test_index_that_nobody_lists_does_not_keep_the_gone_for_ever(
    client: Client, keys: Keys
) -> None:
    store = store_at(client, keys.prefix, NOW)
    for age in range(100):
        gone = new_session(owner="busy", created_at=NOW - timedelta(hours=1, seconds=age))
        await store.add(gone)
        await client.command("DEL", keys.session(gone.session_id))
    for _ in range(100):
        await store.add(new_session(owner="busy", created_at=NOW))

    # Two of the entries are looked at with each that is added: half as many as living are left.
    assert len(await entries(client, keys.owner("busy"))) < 180


async def test_index_outlives_its_sessions_but_not_for_ever(client: Client, keys: Keys) -> None:
    store = store_at(client, keys.prefix, NOW)
    index = keys.fingerprint("me", "f")
    week = new_session(owner="me", fingerprint="f", expires_at=NOW + timedelta(days=7))
    day = new_session(owner="me", fingerprint="f", expires_at=NOW + timedelta(days=1))
    await store.add(week)
    await store.add(day)

    # Seven days to live, one of grace, 30 of retention, and one for those that settle late.
    assert round(await client.command("PTTL", index) / DAY_MS) == 7 + 1 + 30 + 1
    late, event = settled(week, cleared=True)
    await client.command("PEXPIRE", index, DAY_MS)
    await store.save(late, event)
    assert round(await client.command("PTTL", index) / DAY_MS) == 30


async def test_settled_session_is_kept_for_the_retention(client: Client, keys: Keys) -> None:
    store = store_at(client, keys.prefix, NOW)
    session = await store.add(new_session())
    await store.add_parts(session.session_id, [part(1)])
    await store.allow_replace(session.session_id, [1])
    assert await lives(client, keys, session) == {FOREVER}
    aborted, event = settled(session)

    await store.save(aborted, event)
    # What it left in storage is still to be cleared.
    assert await lives(client, keys, session) == {FOREVER}
    cleared = next_version(aborted, storage_cleared=True)
    await store.save(cleared)

    assert await lives(client, keys, session) == {30}


async def test_corrupt_session_is_kept_until_somebody_sees_to_it(
    client: Client, keys: Keys
) -> None:
    store = store_at(client, keys.prefix, NOW)
    session = await store.add(new_session(state=State.VERIFYING), parts=[part(1)])
    corrupt, event = advance(session, Trigger.MISMATCH, NOW)

    await store.save(corrupt, event)

    assert await lives(client, keys, session) == {FOREVER}
    assert await client.command("PTTL", keys.owner(session.owner)) == FOREVER
    await store.add(new_session(owner=session.owner))
    assert await client.command("PTTL", keys.owner(session.owner)) == FOREVER
    again, _ = advance(corrupt, Trigger.RETRY, NOW)
    await store.save(again)
    completed, event = advance(again, Trigger.VERIFIED, NOW)
    await store.save(completed, event)
    assert await lives(client, keys, session) == {30}


async def test_session_taken_up_again_is_kept(client: Client, keys: Keys) -> None:
    store = store_at(client, keys.prefix, NOW)
    session = await store.add(new_session(state=State.COMPLETED), parts=[part(1)])
    assert await lives(client, keys, session) == {30}

    await store.save(next_version(session, state=State.VERIFYING))

    assert await lives(client, keys, session) == {FOREVER}


async def test_session_is_gone_after_the_retention(client: Client, redis_prefix: str) -> None:
    options = RedisStoreOptions(prefix=redis_prefix, retention=timedelta(seconds=1))
    store = RedisSessionStore(client, options)
    session = await store.add(new_session(state=State.COMPLETED), parts=[part(1)])

    # Redis tells nobody that a key has expired; half a second more is for a busy machine.
    await asyncio.sleep(1.5)

    with pytest.raises(SessionNotFound):
        await store.get(session.session_id)
    assert not await client.command("EXISTS", Keys(redis_prefix).parts(session.session_id))


async def test_claims_on_the_way_end_within_a_minute(client: Client, keys: Keys) -> None:
    store = store_at(client, keys.prefix, NOW)
    session = await store.add(new_session())
    await store.report_in_flight(session.session_id, {1: 5})
    in_flight = keys.progress(session.session_id)[2]
    assert 50_000 < await client.command("PTTL", in_flight) <= 60_000


async def test_loser_of_two_saves_leaves_the_winners_attention(
    client: Client, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(client, keys.prefix, NOW)
    session = await store.add(new_session(state=State.VERIFYING))
    corrupt, event = advance(session, Trigger.MISMATCH, NOW)
    again, _ = advance(corrupt, Trigger.RETRY, NOW)
    run, interfered = client.command, asyncio.Event()

    async def command(*words: bytes | str | int) -> object:
        # Between the save of `corrupt` and the removal of its attention, a retry is saved.
        if words[0] == "ZREM" and not interfered.is_set():
            interfered.set()
            await store.save(again)
        return await run(*words)

    monkeypatch.setattr(client, "command", command)
    await store.save(corrupt, event)

    assert interfered.is_set()
    assert (await store.get(session.session_id)).state is State.VERIFYING
    assert session.session_id in await store.due(NOW, 100)


@pytest.mark.parametrize("options", [{"retention": timedelta(0)}, {"grace": timedelta(seconds=-1)}])
def test_absurd_options_are_refused(options: dict[str, timedelta]) -> None:
    with pytest.raises(InvalidRequest):
        RedisStoreOptions(**options)


async def test_owners_and_fingerprints_may_be_any_text(client: Client, keys: Keys) -> None:
    store = store_at(client, keys.prefix, NOW)
    texts = ["{x}", "a:b", "ünïcode 🎬", "x" * 5000, "a", secrets.token_hex(8)]
    added = [await store.add(new_session(owner=text, fingerprint=text)) for text in texts]
    for text, session in zip(texts, added, strict=True):
        found = await store.find(SessionQuery(text, fingerprint=text))
        assert found.sessions == (session,)
    assert keys.fingerprint("ab", "c") != keys.fingerprint("a", "bc")
