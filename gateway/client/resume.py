"""Which session an interrupted upload goes on with, and which of its parts can be relied on.

A part is relied on only when its bytes are known to be the file's: by a checksum, never by its
number and size. So a file edited between two tries never becomes a mixture.
"""

from enum import Enum
from typing import Final

from gateway.client.api import GatewayClient
from gateway.client.journal import Entry, PartRecord
from gateway.client.model import CLOSED, FAILED, OPEN, UNSETTLED, Session, StoredPart
from gateway.errors import Gone, NotFound

_CANDIDATES: Final = 50
"""How many sessions of one fingerprint are looked at; there is seldom more than one."""


class Verdict(Enum):
    """What to do about one part of the file."""

    SEND = "send"
    REPLACE = "replace"  # something else is stored under its number, or nobody knows what
    SKIP = "skip"
    ACKNOWLEDGE = "acknowledge"  # it is stored, but the gateway lacks its checksum


def judge(
    stored: StoredPart | None,
    *,
    size: int,
    checksum: str,
    md5: str | None = None,
    record: PartRecord | None = None,
) -> Verdict:
    """Judge a stored part by the file's: `size` in bytes, `checksum` in base64, `md5` in hex.

    `md5` is given only where the store's part ETags are known to be MD5s; `record` is the
    journal's. A checksum that the gateway knows outweighs both.
    """
    if stored is None:
        return Verdict.SEND
    if stored.size != size:
        return Verdict.REPLACE
    if stored.checksum is not None:
        return Verdict.SKIP if stored.checksum == checksum else Verdict.REPLACE
    if record is not None and record.etag == stored.etag:
        return Verdict.ACKNOWLEDGE if record.checksum == checksum else Verdict.REPLACE
    if md5 is not None and md5 == stored.etag.lower():
        return Verdict.ACKNOWLEDGE
    return Verdict.REPLACE


async def find_session(
    client: GatewayClient, entry: Entry | None, fingerprint: str, size: int
) -> Session | None:
    """Return the session to go on with, or None to begin a new one.

    First the journal's own, also when it has completed meanwhile: then its client died before it
    heard so. Else the open one of this fingerprint that has received most, or one on its way to
    completion. The caller still has to compare bytes.
    """
    if entry is not None:
        session = await _known(client, entry.session_id)
        if session is not None and _fits(session, size):
            return session
    candidates: list[Session] = []
    async for session in client.find(fingerprint=fingerprint, states=(OPEN, *sorted(UNSETTLED))):
        candidates.append(session)
        if len(candidates) == _CANDIDATES:
            break
    return max(
        (session for session in candidates if _fits(session, size)),
        key=lambda session: (session.state in UNSETTLED, session.received_bytes),
        default=None,
    )


def _fits(session: Session, size: int) -> bool:
    return session.size == size and session.state not in FAILED | CLOSED


async def _known(client: GatewayClient, session_id: str) -> Session | None:
    try:
        return await client.get(session_id)
    except (NotFound, Gone):
        return None
