"""The only place that decides a session's state. Rules that must live together live here.

Nothing here waits or talks to anything: `advance` takes a session and a trigger and returns the
changed session with the event to record, or raises Conflict or Gone.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from gateway.core.events import Event, EventType
from gateway.core.model import State, UploadSession
from gateway.errors import Conflict, Gone


class Trigger(StrEnum):
    """What can happen to a session."""

    COMPLETE = "complete"  # the client asks, or the object is there already
    REFUSED = "refused"  # the store refuses the part list: the client may mend it
    LOST = "lost"  # the store no longer knows the multipart upload
    STORED = "stored"  # the object exists
    VERIFIED = "verified"  # it holds the promised bytes
    MISMATCH = "mismatch"  # it does not
    RETRY = "retry"  # verify a corrupt object again
    REJECT = "reject"  # policy refuses the content
    ABORT = "abort"
    EXPIRE = "expire"


TRANSITIONS: dict[tuple[State, Trigger], tuple[State, EventType | None]] = {
    (State.OPEN, Trigger.COMPLETE): (State.COMPLETING, None),
    (State.OPEN, Trigger.ABORT): (State.ABORTED, EventType.ABORTED),
    (State.OPEN, Trigger.LOST): (State.ABORTED, EventType.ABORTED),
    (State.OPEN, Trigger.EXPIRE): (State.EXPIRED, EventType.EXPIRED),
    (State.COMPLETING, Trigger.STORED): (State.VERIFYING, None),
    (State.COMPLETING, Trigger.REFUSED): (State.OPEN, None),
    (State.COMPLETING, Trigger.LOST): (State.ABORTED, EventType.ABORTED),
    (State.VERIFYING, Trigger.VERIFIED): (State.COMPLETED, EventType.COMPLETED),
    (State.VERIFYING, Trigger.MISMATCH): (State.CORRUPT, EventType.CORRUPT),
    (State.VERIFYING, Trigger.REJECT): (State.REJECTED, EventType.REJECTED),
    (State.CORRUPT, Trigger.RETRY): (State.VERIFYING, None),
}

# Nobody works on a session in these states; those in UNSETTLED are driven on by the gateway.
SETTLED = frozenset({State.COMPLETED, State.CORRUPT, State.REJECTED, State.ABORTED, State.EXPIRED})
UNSETTLED = frozenset({State.COMPLETING, State.VERIFYING})
CLOSED = frozenset({State.ABORTED, State.EXPIRED})

# An open session that nobody touches is compared with the store this often, which notices a
# Complete or Abort that somebody sent to the store directly.
RECHECK_AFTER = timedelta(minutes=10)


def advance(
    session: UploadSession, trigger: Trigger, now: datetime, **changes: Any
) -> tuple[UploadSession, Event | None]:
    """Return the session after the trigger, its other fields changed, and the event it makes.

    The version is the next one; the session store saves it only if nobody was quicker.
    Raises what `require_open` raises, or Conflict `wrong_state`, where the table has no row.
    """
    row = TRANSITIONS.get((session.state, trigger))
    if row is None:
        if trigger in {Trigger.COMPLETE, Trigger.ABORT, Trigger.EXPIRE}:
            require_open(session)
        raise Conflict(
            f"A session that is {session.state} cannot {trigger}.",
            code="wrong_state",
            details={"state": session.state.value},
        )
    state, event_type = row
    after = replace(session, state=state, version=session.version + 1, updated_at=now, **changes)
    return after, event_for(after, event_type) if event_type else None


def event_for(session: UploadSession, event_type: EventType) -> Event:
    """Return the event that the session's present version makes."""
    return Event(
        event_id=f"{session.session_id}:{session.version}",
        type=event_type,
        session_id=session.session_id,
        owner=session.owner,
        at=session.updated_at,
    )


def recorded_event(session: UploadSession) -> Event | None:
    """Return the event that brought a session to its state, for a record rebuilt.

    None where no event did, or where it cannot be told from the session.
    """
    if session.state is State.OPEN and session.version == 1:
        return event_for(session, EventType.CREATED)
    # Clearing storage is the one change after a session is settled, and makes no event.
    settled = replace(session, version=session.version - session.storage_cleared)
    for state, event_type in TRANSITIONS.values():
        if event_type is not None and state is session.state:
            return event_for(settled, event_type)
    return None


def require_open(session: UploadSession) -> None:
    """Raise unless parts may still be sent: Gone for a closed session, else Conflict."""
    if session.state is State.OPEN:
        return
    if session.state in CLOSED:
        raise Gone(
            session.error.message if session.error else f"The upload was {session.state}.",
            hint="Create a new session and send the file again.",
            details={"state": session.state.value},
        )
    busy = session.state in UNSETTLED
    raise Conflict(
        f"The session is {session.state}, no longer open.",
        code="session_busy" if busy else f"session_{session.state}",
        hint="Ask for its status until it is settled." if busy else "Create a new session.",
        retryable=busy,
        retry_after=2 if busy else None,
        details={"state": session.state.value},
    )


def require_parts(session: UploadSession) -> None:
    """Raise Conflict `session_chunked` where the gateway makes the parts, of chunks."""
    if session.chunks is not None:
        raise Conflict(
            "This file is sent in chunks, from which the gateway makes the parts.",
            code="session_chunked",
            hint="Send its chunks the way the first one came.",
        )


def is_over(session: UploadSession, grace: timedelta) -> bool:
    """Tell whether nothing is left to do with it; a corrupt one waits for somebody to look at it."""
    return (
        session.state in SETTLED
        and session.state is not State.CORRUPT
        and attention_at(session, grace) is None
    )


def attention_at(session: UploadSession, grace: timedelta) -> datetime | None:
    """Return when the sweeper should next look at the session, or None for never again."""
    if session.state in UNSETTLED:
        return session.updated_at
    if session.state is State.OPEN:
        return min(session.updated_at + RECHECK_AFTER, session.expires_at + grace)
    # Of a closed session its parts are left in storage, of one in chunks what was staged.
    if (session.state in CLOSED or session.chunks is not None) and not session.storage_cleared:
        return session.updated_at
    return None
