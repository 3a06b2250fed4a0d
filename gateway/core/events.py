"""Facts about sessions, recorded with the state change that made them true (law 12).

An event's id is `{session_id}:{version}`, the version that the change produced: recording the
same change again after a loss of Redis gives the same id, so that receivers can drop it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EventType(StrEnum):
    """What happened; the names are part of the public contract."""

    CREATED = "upload.created"
    COMPLETED = "upload.completed"
    CORRUPT = "upload.corrupt"
    REJECTED = "upload.rejected"
    ABORTED = "upload.aborted"
    EXPIRED = "upload.expired"


# What is handed on to others. Nobody has anything to do for a file that is only announced, and one
# entry an upload less is kept.
HANDED_ON = frozenset(EventType) - {EventType.CREATED}


@dataclass(frozen=True, slots=True)
class Event:
    """One fact; `event_id` is stable across deliveries and rebuilds."""

    event_id: str
    type: EventType
    session_id: str
    owner: str
    at: datetime
