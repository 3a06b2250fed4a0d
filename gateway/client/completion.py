"""The end of an upload: waiting until the gateway is done, and what the outcome means."""

import asyncio
from collections.abc import Mapping
from typing import Final

from gateway.client.api import GatewayClient
from gateway.client.model import OPEN, SETTLED, Session, unexpected_answer
from gateway.client.patience import Patience
from gateway.client.progress import Progress
from gateway.client.sender import conflicting, not_open
from gateway.core.checksums import Checksum
from gateway.core.plan import MAX_PART_NUMBER, parse_ranges
from gateway.errors import Conflict, Corrupt, GatewayError, Unavailable

MAX_ROUNDS: Final = 8
"""How often a completion is asked for that ends with the session open again."""

SETTLE_LIMIT: Final = 900.0
_POLL_AT_MOST: Final = 10.0


async def wait_settled(
    client: GatewayClient,
    session: Session,
    again: float,
    *,
    progress: Progress,
    give_up_after: float,
) -> Session:
    """Wait until the gateway has done with the session, or has opened it again.

    `again` is when to look first, in seconds. Raises Unavailable (`unreachable`) when it does not
    get on for the longer of `give_up_after` and 15 minutes.
    """
    patience = Patience(max(SETTLE_LIMIT, give_up_after))
    while session.state not in SETTLED and session.state != OPEN:
        progress.phase = session.state
        progress.fraction = session.fraction
        if patience.lost:
            raise Unavailable(
                f"The gateway has been {session.state} for long without getting on.",
                code="unreachable",
                hint="It goes on by itself; look at it later with gateway status, or start the "
                "upload again to hear how it ended.",
            )
        await asyncio.sleep(min(again, _POLL_AT_MOST))
        again = max(1.0, again)
        latest = await client.get(session.session_id)
        if (latest.state, latest.fraction) != (session.state, session.fraction):
            patience.renew()
        session = latest
    return session


def agrees(session: Session, checksums: Mapping[str, Checksum]) -> bool | None:
    """Compare the object's checksums with the file's; None where there is none to compare."""
    told = session.object.checksums if session.object is not None else {}
    common = told.keys() & checksums.keys()
    return all(told[name] == checksums[name].value for name in common) if common else None


def require_agreement(session: Session, checksums: Mapping[str, Checksum]) -> None:
    """Raise Corrupt where the object is said to be another one than was sent."""
    if agrees(session, checksums) is False:
        raise Corrupt(
            "The object in the store has another checksum than what was sent.",
            hint=f"Do not use session {session.session_id}; tell the gateway's operator.",
            details={"session": dict(session.raw)},
        )


def named_parts(error: Conflict) -> list[int]:
    """Return the parts that a refused completion wants sent again."""
    if error.code != "parts_missing":
        return sorted(conflicting(error))
    ranges = error.details.get("missing")
    if not isinstance(ranges, str):
        raise unexpected_answer("no ranges of missing parts") from error
    return parse_ranges(ranges, maximum=MAX_PART_NUMBER)


def never_complete() -> Unavailable:
    """Return the error for a gateway that opens the session again every time."""
    return Unavailable(
        "The gateway keeps asking for parts that have been sent.",
        code="never_complete",
        hint="Start the upload again; if that does not help, ask the gateway's operator.",
    )


def failed(session: Session) -> GatewayError:
    """Return the error for a session that has ended otherwise than completed."""
    problem = session.error or {}
    if session.state in {"corrupt", "rejected"}:
        return Corrupt(
            problem.get("message") or f"The upload ended {session.state}.",
            code=session.state if session.state == "rejected" else None,
            hint=problem.get("hint") or "Start the upload again; it makes a new session.",
            details={"session": dict(session.raw)},
        )
    return not_open(session)
