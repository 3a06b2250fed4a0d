"""Events on their way out of Redis: the index of those not handed on, the stream, the letters.

Everything in here can be lost with Redis and comes back with the sessions, whose events are
recorded anew with the same ids; then all of a retention's time are handed on again, and letters
that were given up are tried again.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from gateway.core.events import Event
from gateway.core.outbox import (
    Backlog,
    EventStream,
    Letter,
    Letters,
    Outbox,
    Pending,
    StreamEntry,
)
from gateway.errors import Internal, InvalidRequest
from gateway.state.redis.client import Client, Script
from gateway.state.redis.errors import unreadable
from gateway.state.redis.keys import Keys
from gateway.state.redis.records import (
    decode_event,
    encode_event,
    milliseconds,
    moment,
)

log = logging.getLogger(__name__)

_CLAIM = Script.load("claim")
_OUTBOX = Script.load("outbox")
_ADD_LETTER = Script.load("add_letter")
_MOVE_LETTER = Script.load("move_letter")
_ENTER = Script.load("enter")
_SETTLE = Script.load("settle")
# The name of the queue which is the index.
_PENDING: Final = "pending"
_RECORDED_SOON: Final = timedelta(seconds=1)


async def enter(client: Client, keys: Keys, event_id: str, now: datetime) -> None:
    """Enter an event into the index; called before it is recorded, so that none is overlooked."""
    await client.run(_ENTER, keys.queue(_PENDING)[:2], event_id, milliseconds(now))


class RedisOutbox(Outbox):
    """The index, and the outboxes that it speaks of; the session store writes both."""

    def __init__(self, client: Client, *, prefix: str = "gw") -> None:
        self._client = client
        self._keys = Keys(prefix)
        self._queue = self._keys.queue(_PENDING)

    async def claim(self, now: datetime, *, seconds: float, limit: int) -> list[Pending]:
        """Claim, and look into the outbox of each; one that is unreadable holds no event."""
        claimed = await _claim(self._client, self._queue[:2], now, seconds, limit)
        outboxes = await self._client.run_each(
            _OUTBOX, [[self._keys.outbox(_session_of(event_id))] for event_id, _, _ in claimed]
        )
        found = [
            Pending(event_id, since, _find(event_id, values))
            for (event_id, since, _), values in zip(claimed, outboxes, strict=True)
        ]
        again = milliseconds(now + _RECORDED_SOON)
        if words := [word for one in found if not one.event for word in (again, one.event_id)]:
            # Entered before it is recorded, which mostly happens at this moment.
            await self._client.command("ZADD", self._queue[0], "XX", "LT", *words)
        return found

    async def settle(self, entry: Pending) -> None:
        """Forget the entry, unless it was entered again since."""
        arguments = (entry.event_id, milliseconds(entry.since))
        await self._client.run(_SETTLE, self._queue[:2], *arguments)

    async def backlog(self) -> Backlog:
        """Count the entries, those too whose event is not recorded."""
        return await _backlog(self._client, self._queue)


class RedisEventStream(EventStream):
    """A Redis Stream: `id`, `type` and `event`, the document, in every entry."""

    def __init__(self, client: Client, *, prefix: str = "gw", length: int = 10_000) -> None:
        """Keep about `length` entries: Redis trims whole nodes, of a hundred entries by default."""
        self._client = client
        self._key = Keys(prefix).events
        self._length = length

    async def append(self, event: Event, document: bytes) -> None:
        """Append, trimming the oldest; Unavailable `redis_full`."""
        fields = ("id", event.event_id, "type", event.type.value, "event", document)
        await self._client.command("XADD", self._key, "MAXLEN", "~", self._length, "*", *fields)

    async def read(self, after: str, *, limit: int, wait: float = 0) -> list[StreamEntry]:
        """Return up to `limit` entries; `wait` must stay below the client's deadline."""
        block = ("BLOCK", max(1, int(wait * 1000))) if wait else ()
        try:
            reply = await self._client.command(
                "XREAD", "COUNT", limit, *block, "STREAMS", self._key, _position(after)
            )
        except ValueError as error:
            raise InvalidRequest(
                "This is no position in the stream of events.",
                code="invalid_position",
                hint="Give one as it was shown, such as 1763719200000-0, or 0 for all that is kept.",
            ) from error
        return [
            StreamEntry(position.decode(), fields.get(b"event", b"null"))
            for _, entries in reply or []
            for position, fields in entries
        ]

    async def newest(self) -> str:
        """Return the last entry's position, or the one before all others."""
        entries = await self._client.command("XREVRANGE", self._key, "+", "-", "COUNT", 1)
        return entries[0][0].decode() if entries else "0-0"


class RedisLetters(Letters):
    """A queue an endpoint, in one slot."""

    def __init__(self, client: Client, *, prefix: str = "gw") -> None:
        self._client = client
        self._keys = Keys(prefix)

    async def register(self, endpoints: Mapping[str, str]) -> None:
        """Note the endpoints beside those of before."""
        if endpoints:
            words = [word for pair in endpoints.items() for word in pair]
            await self._client.command("HSET", self._keys.endpoints, *words)

    async def endpoints(self) -> dict[str, str]:
        """Return all that were noted."""
        found = await self._client.command("HGETALL", self._keys.endpoints)
        return {one.decode(): name.decode() for one, name in found.items()}

    async def add(self, endpoint: str, event: Event, now: datetime) -> None:
        """Add a letter; Unavailable `redis_full`."""
        letter = _encode(Letter(event, now))
        await self._client.run(
            _ADD_LETTER, self._queue(endpoint)[:3], event.event_id, milliseconds(now), letter
        )

    async def claim(
        self, endpoint: str, now: datetime, *, seconds: float, limit: int
    ) -> list[Letter]:
        """Claim up to `limit` letters."""
        queue = self._queue(endpoint)[:3]
        claimed = await _claim(self._client, queue, now, seconds, limit)
        return [
            replace(letter, since=since)
            for event_id, since, words in claimed
            if (letter := _readable(event_id, words)) is not None
        ]

    async def delivered(self, endpoint: str, event_id: str) -> None:
        """Forget a letter, waiting or dead."""
        await self._move(endpoint, event_id, "any", "gone")

    async def postpone(self, endpoint: str, letter: Letter) -> None:
        """Let it wait until `letter.at`."""
        await self._move(endpoint, letter.event.event_id, "waiting", "waiting", letter=letter)

    async def bury(self, endpoint: str, letter: Letter, *, forget_before: datetime) -> None:
        """Move it to the dead; up to a hundred of the old ones go."""
        await self._move(
            endpoint,
            letter.event.event_id,
            "waiting",
            "dead",
            letter=letter,
            forget_before=milliseconds(forget_before),
        )

    async def waiting(self, endpoint: str, *, start: int, limit: int) -> list[Letter]:
        """Return one page."""
        return await self._page(endpoint, 0, start, limit)

    async def dead(self, endpoint: str, *, start: int, limit: int) -> list[Letter]:
        """Return one page."""
        return await self._page(endpoint, 3, start, limit)

    async def replay(self, endpoint: str, event_id: str, now: datetime) -> bool:
        """Let a dead letter be due now, as if it were new."""
        words = await self._client.command("HGET", self._queue(endpoint)[2], event_id)
        if words is None:
            return False
        anew = Letter(_decode(words).event, now, at=now)
        return await self._move(endpoint, event_id, "dead", "anew", letter=anew)

    async def backlog(self, endpoint: str) -> Backlog:
        """Count the letters."""
        return await _backlog(self._client, self._queue(endpoint))

    def _queue(self, endpoint: str) -> list[str]:
        return self._keys.queue(f"webhook-{endpoint}")

    async def _move(
        self,
        endpoint: str,
        event_id: str,
        origin: str,
        target: str,
        *,
        letter: Letter | None = None,
        forget_before: int = 0,
    ) -> bool:
        words = _encode(letter) if letter else b""
        at = milliseconds(letter.at) if letter and letter.at else 0
        arguments = (event_id, origin, target, words, at, forget_before)
        return bool(await self._client.run(_MOVE_LETTER, self._queue(endpoint), *arguments))

    async def _page(self, endpoint: str, which: int, start: int, limit: int) -> list[Letter]:
        queue = self._queue(endpoint)
        ids = await self._client.command("ZRANGE", queue[which], start, start + limit - 1)
        if not ids:
            return []
        found = await self._client.command("HMGET", queue[2], *ids)
        pairs = zip(ids, found, strict=True)
        letters = [_readable(one.decode(), words) for one, words in pairs if words is not None]
        return [letter for letter in letters if letter is not None]


async def _claim(
    client: Client, queue: Sequence[str], now: datetime, seconds: float, limit: int
) -> list[tuple[str, datetime, bytes]]:
    start = milliseconds(now)
    claimed = await client.run(_CLAIM, queue, start, start + int(seconds * 1000), limit)
    return [
        (event_id.decode(), moment(int(float(since))), letter)
        for event_id, since, letter in claimed
    ]


async def _backlog(client: Client, queue: Sequence[str]) -> Backlog:
    due, since, _, dead = queue
    oldest = await client.command("ZRANGE", since, 0, 0)
    score = await client.command("ZSCORE", since, oldest[0]) if oldest else None
    return Backlog(
        waiting=int(await client.command("ZCARD", due)),
        oldest=None if score is None else moment(int(float(score))),
        dead=int(await client.command("ZCARD", dead)),
    )


def _session_of(event_id: str) -> str:
    return event_id.rpartition(":")[0]


def _find(event_id: str, values: Any) -> Event | None:
    # An outbox that cannot be read is an error in the place of its values.
    if not isinstance(values, list):
        return None
    wanted = event_id.encode()
    for value in values:
        if wanted in value:
            with suppress(Internal):
                event = decode_event(value)
                if event.event_id == event_id:
                    return event
    return None


def _encode(letter: Letter) -> bytes:
    return orjson.dumps(
        {
            "event": orjson.Fragment(encode_event(letter.event)),
            "since": milliseconds(letter.since),
            "attempts": letter.attempts,
            "reason": letter.reason,
            "at": None if letter.at is None else milliseconds(letter.at),
        }
    )


def _decode(words: bytes) -> Letter:
    try:
        record = orjson.loads(words)
        at = record["at"]
        return Letter(
            event=decode_event(orjson.dumps(record["event"])),
            since=moment(record["since"]),
            attempts=int(record["attempts"]),
            reason=str(record["reason"]),
            at=None if at is None else moment(at),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise unreadable() from error


def _readable(event_id: str, words: bytes) -> Letter | None:
    """Decode a letter, or pass over it with a warning: one must not keep the others back."""
    try:
        return _decode(words)
    except Internal as error:
        log.warning("letter passed over: %s", error.code, extra={"event_id": event_id})
        return None


def _position(text: str) -> str:
    """Return a position as Redis takes it, or raise ValueError."""
    time, _, number = text.partition("-")
    if not (text.isascii() and time.isdecimal() and (number.isdecimal() or text == time)):
        raise ValueError("Not a position.")
    if max(int(time), int(number or 0)) >= 1 << 64:
        raise ValueError("Larger than any position.")
    return text
