"""What handing events on asks of the world: more ports, under the rules of `core.ports`.

An event is recorded with its state change, in the outbox of its session (law 12), and an index
names those that have not been handed on. They go to a stream, which anybody may read, and as a
letter into the queue of each webhook. Everything is claimed for a while, so that no two processes
do the same work, and taken up again by somebody else where the claimer died: at least once.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.core.events import Event


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry of the index: an event that is perhaps recorded, and perhaps not handed on.

    `event` is None where no outbox holds it: not yet, not ever, or not any more. `since` is when it
    was entered, just before it was to be recorded.
    """

    event_id: str
    since: datetime
    event: Event | None

    @property
    def session_id(self) -> str:
        """The session whose event it is."""
        return self.event_id.rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits, what was given up, and since when the oldest of the waiting waits."""

    waiting: int
    oldest: datetime | None
    dead: int = 0


class Outbox(Protocol):
    """The events of all sessions that have not been handed on."""

    @abstractmethod
    async def claim(self, now: datetime, *, seconds: float, limit: int) -> Sequence[Pending]:
        """Return what is to be looked at, and keep it from others for so long.

        What is not settled by then is claimed again, here or elsewhere; and after a second at most
        where no event was found: it is perhaps being recorded.
        """

    @abstractmethod
    async def settle(self, entry: Pending) -> None:
        """Forget an entry of the index: it was handed on, or there is nothing to hand on.

        One that was entered again since it was claimed stays: it is about to be recorded.
        """

    @abstractmethod
    async def backlog(self) -> Backlog:
        """Count the entries of the index."""


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One document of the stream; what comes after it is read from its `position` on."""

    position: str
    document: bytes


class EventStream(Protocol):
    """A log of what was handed on, in the order of that, of limited length. Others read it too."""

    @abstractmethod
    async def append(self, event: Event, document: bytes) -> None:
        """Append; a second time makes a second entry with the same event id."""

    @abstractmethod
    async def read(self, after: str, *, limit: int, wait: float = 0) -> Sequence[StreamEntry]:
        """Return entries behind a position, waiting for the first one for up to so many seconds.

        Raises InvalidRequest `invalid_position`.
        """

    @abstractmethod
    async def newest(self) -> str:
        """Return the position of the last entry: what is read from there is new."""


@dataclass(frozen=True, slots=True)
class Letter:
    """An event on its way to one endpoint; `reason` is why the last attempt failed.

    `since` is when the attempts began; `at` when the next one is due, or when it was given up.
    """

    event: Event
    since: datetime
    attempts: int = 0
    reason: str = ""
    at: datetime | None = None


class Letters(Protocol):
    """A queue of letters for each endpoint, and those that were given up.

    Letters hold no facts of their session: a queue may grow with every upload of a day.
    """

    @abstractmethod
    async def register(self, endpoints: Mapping[str, str]) -> None:
        """Note the endpoints' ids and what people know them by."""

    @abstractmethod
    async def endpoints(self) -> Mapping[str, str]:
        """Return every endpoint that was ever registered, with what people know it by."""

    @abstractmethod
    async def add(self, endpoint: str, event: Event, now: datetime) -> None:
        """Add a letter that is due at once, unless there is one of this event, waiting or dead.

        Raises Unavailable `redis_full` where there is no room.
        """

    @abstractmethod
    async def claim(
        self, endpoint: str, now: datetime, *, seconds: float, limit: int
    ) -> Sequence[Letter]:
        """Return letters that are due, and keep them from others for so long."""

    @abstractmethod
    async def delivered(self, endpoint: str, event_id: str) -> None:
        """Forget a letter."""

    @abstractmethod
    async def postpone(self, endpoint: str, letter: Letter) -> None:
        """Let the letter be due again `at` a time; one that somebody delivered meanwhile is gone."""

    @abstractmethod
    async def bury(self, endpoint: str, letter: Letter, *, forget_before: datetime) -> None:
        """Give the letter up, `at` a time, and forget those that were given up before another."""

    @abstractmethod
    async def waiting(self, endpoint: str, *, start: int, limit: int) -> Sequence[Letter]:
        """Return letters in the order in which they are due."""

    @abstractmethod
    async def dead(self, endpoint: str, *, start: int, limit: int) -> Sequence[Letter]:
        """Return letters that were given up, the oldest first."""

    @abstractmethod
    async def replay(self, endpoint: str, event_id: str, now: datetime) -> bool:
        """Begin anew with a letter that was given up; False where there is none."""

    @abstractmethod
    async def backlog(self, endpoint: str) -> Backlog:
        """Count the letters of an endpoint."""
