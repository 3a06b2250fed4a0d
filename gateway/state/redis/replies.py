"""What the replies of the scripts mean in the core's words."""

import logging
from collections.abc import Sequence
from typing import Any

from gateway.core.model import UploadSession
from gateway.errors import Conflict, GatewayError, Internal, SessionNotFound
from gateway.state.redis.errors import unreadable
from gateway.state.redis.records import decode_session

log = logging.getLogger(__name__)


def raise_refusal(reply: Sequence[Any]) -> None:
    """Raise what a script's first word says, where it is a refusal.

    SessionNotFound, Internal `record_unreadable` or Conflict `session_not_open`.
    """
    match reply[0]:
        case b"missing":
            raise SessionNotFound
        case b"unreadable":
            raise unreadable()
        case b"closed":
            state = reply[1].decode()
            raise Conflict(
                f"The session is {state}, and its list of parts is frozen.",
                code="session_not_open",
                hint="Ask for its status; parts belong to an open session.",
                details={"state": state},
            )


def session_or_none(session_id: str, reply: Any) -> UploadSession | None:
    """Return the session of a reply, or None, with a warning, where its record makes no sense."""
    try:
        if isinstance(reply, GatewayError):
            raise reply
        return decode_session(reply)
    except Internal as error:
        log.warning("session passed over: %s", error.code, extra={"session_id": session_id})
        return None
