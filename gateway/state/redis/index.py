"""Finds sessions by owner and by fingerprint, newest first.

An index is a sorted set without scores, whose entries `<created_at in ms>:<session id>` sort by
their bytes: a page starts exactly after an entry, however many sessions one millisecond made.
Entries are written before their sessions and outlive them. They are garbage where the session is
gone or does not match, and never truth.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import timedelta

from gateway.core.model import UploadSession
from gateway.core.ports import Clock, SessionQuery
from gateway.errors import InvalidRequest
from gateway.state.redis.client import Client, Script
from gateway.state.redis.keys import Keys
from gateway.state.redis.records import milliseconds

_INDEX = Script.load("index")
_ENTRY = re.compile(r"[0-9]{15}:[0-9a-zA-Z_.-]{1,128}", re.ASCII)
# A session is recorded milliseconds after its entry; an entry this old has none any more.
_DANGLING_AFTER = timedelta(minutes=1)


class SessionIndex:
    """The indexes of all owners; see the module's docstring."""

    def __init__(
        self,
        client: Client,
        keys: Keys,
        *,
        keep: timedelta,
        clock: Clock,
    ) -> None:
        """`keep` is how long an index lives beyond the expiry of its last session."""
        self._client = client
        self._keys = keys
        self._keep = keep
        self._clock = clock

    async def enter(self, session: UploadSession) -> None:
        """Write the entries of a session that is about to be recorded.

        On the way two entries of each index are looked at, so that one which is only ever written
        to holds few whose session is gone.
        """
        life = milliseconds(session.expires_at) - milliseconds(session.updated_at)
        life = max(0, life) + self._keep // timedelta(milliseconds=1)
        own = entry_for(session)
        for index in self._indexes_of(session):
            sample = await self._client.run(_INDEX, [index], own, life)
            for entry in (one.decode() for one in sample):
                if entry != own and self.is_old(entry):
                    key = self._keys.session(session_id_of(entry))
                    if not await self._client.command("EXISTS", key):
                        await self._client.command("ZREM", index, entry)

    async def prolong(self, session: UploadSession, life: timedelta | None) -> None:
        """Let the indexes live at least that long, or for ever for None."""
        for index in self._indexes_of(session):
            if life is None:
                await self._client.command("PERSIST", index)
            else:
                await self._client.command(
                    "PEXPIRE", index, life // timedelta(milliseconds=1), "GT"
                )

    async def read(self, query: SessionQuery, after: str | None, count: int) -> list[str]:
        """Return up to `count` entries, newest first, from behind an entry on."""
        newest = f"({after}" if after else "+"
        entries = await self._client.command(
            "ZRANGE", self._index_of(query), newest, "-", "BYLEX", "REV", "LIMIT", 0, count
        )
        return [entry.decode() for entry in entries]

    async def forget(self, query: SessionQuery, entries: Sequence[str]) -> None:
        """Remove entries that are garbage, but for young ones: their session may be on its way."""
        if old := [entry for entry in entries if self.is_old(entry)]:
            await self._client.command("ZREM", self._index_of(query), *old)

    def is_old(self, entry: str) -> bool:
        """Tell whether the session of an entry must have been recorded by now."""
        created = int(entry.partition(":")[0])
        return created < milliseconds(self._clock.now() - _DANGLING_AFTER)

    def _index_of(self, query: SessionQuery) -> str:
        if query.fingerprint is None:
            return self._keys.owner(query.owner)
        return self._keys.fingerprint(query.owner, query.fingerprint)

    def _indexes_of(self, session: UploadSession) -> list[str]:
        indexes = [self._keys.owner(session.owner)]
        if session.fingerprint is not None:
            indexes.append(self._keys.fingerprint(session.owner, session.fingerprint))
        return indexes


def entry_for(session: UploadSession) -> str:
    """Return the entry of a session."""
    # 15 digits of milliseconds last until the year 33658.
    return f"{milliseconds(session.created_at):015d}:{session.session_id}"


def session_id_of(entry: str) -> str:
    """Return the session that an entry speaks of."""
    return entry.partition(":")[2]


def belongs(entry: str, session: UploadSession, query: SessionQuery) -> bool:
    """Tell whether the entry is that of this very session, and the session is the query's."""
    return (
        entry == entry_for(session)
        and session.owner == query.owner
        and query.fingerprint in {None, session.fingerprint}
    )


def cursor_after(entry: str) -> str:
    """Return the cursor of the page that starts behind an entry."""
    return base64.urlsafe_b64encode(entry.encode()).decode().rstrip("=")


def entry_of(cursor: str) -> str:
    """Return the entry within a cursor, or raise InvalidRequest `invalid_cursor`."""
    try:
        entry = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        entry = ""
    if not _ENTRY.fullmatch(entry):
        raise InvalidRequest(
            "The cursor is not one of ours.",
            code="invalid_cursor",
            hint="Use the cursor of the page before as it is, or none for the first page.",
        )
    return entry
