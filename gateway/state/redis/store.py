"""Sessions in Redis: fast, atomic, shared by all gateway processes, and never the truth (law 4).

A session is a handful of keys in one slot, changed by one script at a time (`keys.py`, `scripts/`).
What a change needs in other slots, the indexes and the time of attention, is written so that a
crash in between leaves too much of it rather than too little: an entry without a session, or a
session that is looked at too early.

Sessions with nothing left to do expire after a retention, but for corrupt ones, which somebody has
to see to; their sidecars stay in storage, from where they come back when asked for.
"""

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gateway.core.clock import SystemClock
from gateway.core.events import HANDED_ON, Event
from gateway.core.lifecycle import attention_at, is_over
from gateway.core.model import Part, Progress, State, UploadSession
from gateway.core.plan import PartPlan
from gateway.core.ports import Clock, PartList, PartOutcome, SessionPage, SessionQuery, SessionStore
from gateway.errors import Conflict, InvalidRequest, SessionNotFound
from gateway.state.redis.client import Client, Script
from gateway.state.redis.events import enter
from gateway.state.redis.index import (
    SessionIndex,
    belongs,
    cursor_after,
    entry_for,
    entry_of,
    session_id_of,
)
from gateway.state.redis.keys import Keys
from gateway.state.redis.mark import Mark
from gateway.state.redis.reads import SessionReads
from gateway.state.redis.records import (
    decode_event,
    decode_parts,
    decode_session,
    encode_event,
    encode_parts,
    encode_session,
    milliseconds,
)
from gateway.state.redis.replies import raise_refusal, session_or_none

log = logging.getLogger(__name__)

MAX_PAGE = 1000
# `find` looks at up to this many times the page's size of entries before it hands out a cursor.
_LOOKS_A_SESSION = 10
# Loading this many sessions takes a few milliseconds of the event loop.
_SESSIONS_AT_A_TIME = 100
_IN_FLIGHT_MS = 60_000
# How long an index outlives what is known of its sessions, for those that settle late.
_INDEX_SLACK = timedelta(days=1)
# Any part number that S3 knows; the session's own plan is the core's business.
_ANY_PLAN = PartPlan(None, 1)

_ADD = Script.load("add")
_SAVE = Script.load("save")
_ANNOUNCE = Script.load("announce")
_ADD_PARTS = Script.load("add_parts")
_ALLOW_REPLACE = Script.load("allow_replace")
_HEAL_PARTS = Script.load("heal_parts")
_PARTS = Script.load("parts")
_REPORT_IN_FLIGHT = Script.load("report_in_flight")
_REPORT_VERIFIED = Script.load("report_verified")
_SCHEDULE = Script.load("schedule")


@dataclass(frozen=True, slots=True)
class RedisStoreOptions:
    """`prefix` starts every key; `grace` is the sweeper's; `retention` is for settled sessions."""

    prefix: str = "gw"
    grace: timedelta = timedelta(hours=24)
    retention: timedelta = timedelta(days=30)

    def __post_init__(self) -> None:
        if self.retention < timedelta(seconds=1) or self.grace < timedelta(0):
            raise InvalidRequest(
                "The retention or the grace of sessions is too short.",
                code="invalid_retention",
                hint="Keep settled sessions for at least a second, and give no negative grace.",
            )


class RedisSessionStore(SessionStore):
    """See `core.ports.SessionStore`, whose contract this keeps, and the module's docstring."""

    def __init__(
        self,
        client: Client,
        options: RedisStoreOptions | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        """`clock` decides only which index entries, and which events, are old."""
        self._client = client
        self._clock = clock or SystemClock()
        self._options = options or RedisStoreOptions()
        self._keys = Keys(self._options.prefix)
        self._reads = SessionReads(client, self._keys)
        self._mark = Mark(client, self._keys)
        keep = self._options.grace + self._options.retention + _INDEX_SLACK
        self._index = SessionIndex(client, self._keys, keep=keep, clock=self._clock)

    async def announce(self, session_id: str, at: datetime) -> bool:
        """Schedule a session that is not there yet; Unavailable `redis_full`."""
        added = await self._client.run(_ANNOUNCE, [self._keys.due], session_id, milliseconds(at))
        return bool(added)

    async def add(
        self, session: UploadSession, event: Event | None = None, *, parts: Sequence[Part] = ()
    ) -> UploadSession:
        """Record a session with its parts, or return the known one; Unavailable `redis_full`."""
        _check_numbers(parts)
        encoded = await encode_parts(list({part.number: part for part in parts}.values()))
        await self._index.enter(session)
        await self._schedule_at_latest(session)
        await self._enter(event)
        reply = await self._client.run(
            _ADD,
            self._keys.all(session.session_id),
            encode_session(session),
            session.version,
            session.state.value,
            # Random, so that a revision from before a loss of Redis never fits by chance.
            secrets.randbits(40),
            encode_event(event) if event else b"",
            self._retention_ms(session),
            *encoded,
        )
        if reply != b"added":
            return await self.get(session.session_id)
        if self._index.is_old(entry_for(session)):
            # Restored from a sidecar: somebody may have taken the old entry for garbage before
            # the session was there.
            await self._index.enter(session)
        if self._retention_ms(session):
            await self._index.prolong(session, self._options.retention)
        if parts:
            return await self.get(session.session_id)
        return replace(session, progress=Progress())

    async def get(self, session_id: str) -> UploadSession:
        """Return the session with its live progress, in at most one round trip of its own."""
        return decode_session(await self._reads.read(session_id))

    async def save(
        self,
        session: UploadSession,
        event: Event | None = None,
        *,
        parts_revision: int | None = None,
    ) -> UploadSession:
        """Compare and swap; an answer that was lost and asked for again within the call is known.

        A save that raises Conflict leaves the time of attention too early at worst.
        """
        await self._schedule_at_latest(session)
        await self._enter(event)
        reply = await self._client.run(
            _SAVE,
            self._keys.all(session.session_id),
            session.version - 1,
            session.version,
            encode_session(session),
            session.state.value,
            encode_event(event) if event else b"",
            b"" if parts_revision is None else parts_revision,
            self._retention_ms(session),
            secrets.token_hex(8),
        )
        if reply == b"missing":
            raise SessionNotFound
        if reply != b"saved":
            raise Conflict(
                "The session was changed by somebody else at the same moment.",
                code="session_changed",
                hint="Read the session again, and decide anew.",
                retryable=True,
            )
        await self._follow_up(session)
        return session

    async def add_parts(self, session_id: str, parts: Sequence[Part]) -> list[PartOutcome]:
        """Record parts, all or none, in one script: 10,000 of them hold Redis for some 50 ms."""
        _check_numbers(parts)
        reply = await self._client.run(
            _ADD_PARTS, self._keys.all(session_id)[:5], *await encode_parts(parts)
        )
        raise_refusal(reply)
        if reply[0] == b"conflict":
            raise Conflict(
                "Other bytes are recorded for these parts.",
                code="part_conflict",
                hint="Sign a part with replace: true if the new bytes are meant to take its place.",
                details={"parts": sorted(set(reply[1:]))},
            )
        outcomes = {ord("+"): PartOutcome.STORED, ord("="): PartOutcome.SAME}
        return [outcomes[letter] for letter in reply[1]]

    async def allow_replace(self, session_id: str, numbers: Sequence[int]) -> None:
        """Let these numbers be replaced once; lasts until it is used. SessionNotFound, Conflict."""
        keys = self._keys
        reply = await self._client.run(
            _ALLOW_REPLACE, [keys.session(session_id), keys.replace(session_id)], *numbers
        )
        raise_refusal(reply)

    async def may_replace(self, session_id: str, number: int) -> bool:
        """Tell whether this number may be replaced once."""
        return bool(await self._client.command("SISMEMBER", self._keys.replace(session_id), number))

    async def heal_parts(
        self, session_id: str, *, found: Sequence[Part], lost: Sequence[Part]
    ) -> None:
        """Add what was found, forget what was lost; a number in both lists is forgotten."""
        _check_numbers([*found, *lost])
        reply = await self._client.run(
            _HEAL_PARTS,
            self._keys.all(session_id)[:4],
            len(found),
            *await encode_parts(found),
            *await encode_parts(lost),
        )
        if reply[0] != b"closed":
            raise_refusal(reply)

    async def parts(self, session_id: str, *, known: PartList | None = None) -> PartList:
        """Return all recorded parts in order, or `known` where they are still those."""
        keys = [self._keys.session(session_id), self._keys.parts(session_id)]
        at = known.revision if known is not None else b""
        revision, values = await self._client.run(_PARTS, keys, at)
        if revision is None:
            raise SessionNotFound
        if known is not None and int(revision) == known.revision:
            return known
        parts = await decode_parts(values)
        return PartList(
            revision=int(revision),
            parts=tuple(sorted(parts, key=lambda part: part.number)),
        )

    async def parts_of(self, session_id: str, numbers: Sequence[int]) -> dict[int, Part]:
        """Return those recorded among the numbers."""
        if not numbers:
            return {}
        values = await self._client.command("HMGET", self._keys.parts(session_id), *numbers)
        parts = await decode_parts([value for value in values if value is not None])
        return {part.number: part for part in parts}

    async def report_in_flight(self, session_id: str, in_flight: Mapping[int, int]) -> None:
        """Replace the claim; one about a session that is no longer open is passed over."""
        for number in in_flight:
            _ANY_PLAN.check_number(number)
        keys = self._keys.progress(session_id)
        claims = [word for claim in in_flight.items() for word in claim]
        reply = await self._client.run(_REPORT_IN_FLIGHT, keys, _IN_FLIGHT_MS, *claims)
        if reply[0] != b"closed":
            raise_refusal(reply)

    async def report_verified(self, session_id: str, verified_bytes: int) -> None:
        """Record how far verification read; a save that starts verifying sets it back to 0."""
        keys = [self._keys.session(session_id)]
        raise_refusal(await self._client.run(_REPORT_VERIFIED, keys, verified_bytes))

    async def find(self, query: SessionQuery) -> SessionPage:
        """Return one page; its sessions may be fewer than the limit although more follow.

        Looks at no more than ten times the limit. Raises InvalidRequest (`invalid_cursor`,
        `invalid_limit`).
        """
        if not 1 <= query.limit <= MAX_PAGE:
            raise InvalidRequest(
                f"A page has 1 to {MAX_PAGE} sessions.",
                code="invalid_limit",
                hint="Ask for a smaller page, and follow its cursor.",
            )
        after = entry_of(query.cursor) if query.cursor else None
        found: list[UploadSession] = []
        looks = query.limit * _LOOKS_A_SESSION
        while looks > 0:
            take = min(looks, query.limit - len(found), _SESSIONS_AT_A_TIME)
            entries = await self._index.read(query, after, take + 1)
            found += [
                session
                for session in await self._load(query, entries[:take])
                if query.states is None or session.state in query.states
            ]
            if len(entries) <= take:
                return SessionPage(tuple(found), None)
            after = entries[take - 1]
            looks -= take
            if len(found) == query.limit:
                break
        return SessionPage(tuple(found), cursor_after(after) if after else None)

    async def due(self, now: datetime, limit: int) -> list[str]:
        """Return ids of sessions whose attention is due, the longest waiting first."""
        ids = await self._client.command(
            "ZRANGE", self._keys.due, "-inf", milliseconds(now), "BYSCORE", "LIMIT", 0, limit
        )
        return [session_id.decode() for session_id in ids]

    async def schedule(self, session_id: str, at: datetime | None) -> None:
        """Move a session's attention to a time, or drop it for None."""
        if at is None:
            await self._client.command("ZREM", self._keys.due, session_id)
        else:
            await self._client.run(
                _SCHEDULE, [self._keys.due], session_id, milliseconds(at), "exactly"
            )

    async def outbox(self, session_id: str) -> list[Event]:
        """Return the session's recorded events, oldest first."""
        values = await self._client.command("LRANGE", self._keys.outbox(session_id), 0, -1)
        return [decode_event(value) for value in values]

    async def is_marked(self) -> bool:
        """Tell whether `mark` was called on this Redis, and it has lost nothing since."""
        return await self._mark.is_there()

    async def mark(self) -> None:
        """Note that the records are as complete as the sidecars in storage."""
        await self._mark.make()

    async def ping(self) -> None:
        """Raise Unavailable unless Redis answers."""
        await self._client.command("PING")

    async def _load(self, query: SessionQuery, entries: Sequence[str]) -> list[UploadSession]:
        """Load the sessions of index entries; garbage is passed over, and removed when old."""
        if not entries:
            return []
        sessions: list[UploadSession] = []
        garbage: list[str] = []
        replies = await self._reads.read_each([session_id_of(entry) for entry in entries])
        for entry, reply in zip(entries, replies, strict=True):
            session = None if reply is None else session_or_none(session_id_of(entry), reply)
            if reply is None or (session is not None and not belongs(entry, session, query)):
                garbage.append(entry)
            elif session is not None:
                sessions.append(session)
        await self._index.forget(query, garbage)
        return sessions

    async def _follow_up(self, session: UploadSession) -> None:
        """Bring the other slots up to date with a session that was just saved."""
        await self.schedule(session.session_id, attention_at(session, self._options.grace))
        version = await self._client.command(
            "HGET", self._keys.session(session.session_id), "version"
        )
        if version is not None and int(version) != session.version:
            # Somebody saved the next version meanwhile, and the line above may have undone what
            # they scheduled: let the sweeper look, and decide.
            await self._attend_at_latest(session.session_id, session.updated_at)
        if self._retention_ms(session):
            await self._index.prolong(session, self._options.retention)
        elif session.state is State.CORRUPT:
            await self._index.prolong(session, None)

    async def _enter(self, event: Event | None) -> None:
        """Enter an event that is about to be recorded into the index of those to hand on.

        But not what was handed on a retention ago, and comes with a session that somebody asked
        for again.
        """
        if event is not None and event.type in HANDED_ON:
            now = self._clock.now()
            if event.at >= now - self._options.retention:
                await enter(self._client, self._keys, event.event_id, now)

    async def _schedule_at_latest(self, session: UploadSession) -> None:
        at = attention_at(session, self._options.grace)
        if at is not None:
            await self._attend_at_latest(session.session_id, at)

    async def _attend_at_latest(self, session_id: str, at: datetime) -> None:
        await self._client.run(
            _SCHEDULE, [self._keys.due], session_id, milliseconds(at), "at the latest"
        )

    def _retention_ms(self, session: UploadSession) -> int:
        """Return for how long Redis keeps the session from now on; 0 is for ever."""
        if is_over(session, self._options.grace):
            return self._options.retention // timedelta(milliseconds=1)
        return 0


def _check_numbers(parts: Sequence[Part]) -> None:
    # A bit far outside would make Redis allocate half a gigabyte.
    for part in parts:
        _ANY_PLAN.check_number(part.number)
