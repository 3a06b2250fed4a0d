"""What a history says of each session: the promises made, and what may excuse an end.

A promise is an answer that a client got. Answers to calls that ran at the same time may be told in
any order; one to a call that began after a promise was given must not contradict it.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from faults.chaos.history import History
from faults.chaos.material import Source

_SETTLED = {"completed", "corrupt", "rejected", "aborted", "expired"}
_CLOSED = {"aborted", "expired"}


@dataclass
class File:
    """One file that a client took: its bytes, and whether its creation was disturbed."""

    source: Source
    declared: str | None
    ending: str
    disturbed: bool = False


@dataclass
class Told:
    """What was said and done about one session."""

    name: str
    settled: str | None = None
    since: float = 0.0
    recorded: dict[int, str] = field(default_factory=dict)
    other_bytes: bool = False
    unbound: bool = False
    intents: set[str] = field(default_factory=set)
    events: dict[str, str] = field(default_factory=dict)
    asked: float | None = None
    longest_wait: float = 0.0

    def hear(self, began: float, ended: float, state: str) -> str | None:
        """Take in an answer; return the contradiction, if it is one."""
        if self.settled is not None and began > self.since and not agree(self.settled, state):
            return f"It was {self.settled} at {self.since} s, and {state} at {ended} s."
        if self.settled is None and state in {*_SETTLED, "closed"}:
            self.settled, self.since = state, ended
            if self.asked is not None and state == "completed":
                self.longest_wait = ended - self.asked
        return None


@dataclass
class Ledger:
    """All of it. `wrongs` are what was seen to be wrong on the way, and contradictions."""

    files: dict[str, File] = field(default_factory=dict)
    sessions: dict[str, Told] = field(default_factory=dict)
    wrongs: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    sent_bytes: int = 0

    @classmethod
    def of(cls, history: History) -> "Ledger":
        """Read the whole history."""
        ledger = cls()
        for line in history.read():
            take = getattr(ledger, f"_{line['what']}", None)
            if take is not None:
                take(line)
        return ledger

    def _begin(self, line: dict[str, Any]) -> None:
        source = Source(line["name"], line["size"], line["offset"])
        self.files[line["name"]] = File(source, line["declared"], line["ending"])

    def _call(self, line: dict[str, Any]) -> None:
        status, verb = line.get("status"), line["verb"]
        self.calls[f"{verb} {status}"] += 1
        undisturbed = status is not None and status < 500
        if verb in {"create", "library", "gateway upload", "library interrupted"}:
            self.files[line["name"]].disturbed |= not undisturbed
        if not line.get("session_id"):
            return
        told = self._told(line)
        if verb == "complete" and told.asked is None:
            told.asked = line["began"]
        state = "closed" if verb == "abort" and status == 204 else line.get("state")
        if state is None:
            return
        contradiction = told.hear(line["began"], line["t"], state)
        if contradiction:
            self.wrongs.append(f"{line['name']} {line['session_id']}: {contradiction}")

    def _put(self, line: dict[str, Any]) -> None:
        told = self._told(line)
        self.sent_bytes += line["size"] if line["status"] == 200 else 0
        told.other_bytes |= line["other"]
        told.unbound |= not line["bound"]

    def _recorded(self, line: dict[str, Any]) -> None:
        told = self._told(line)
        told.recorded |= {int(number): etag for number, etag in line["parts"].items()}

    def _intent(self, line: dict[str, Any]) -> None:
        self._told(line).intents.add(line["how"])

    def _events(self, line: dict[str, Any]) -> None:
        told = self.sessions.setdefault(line["session_id"], Told(""))
        for event_id, event_type in line["events"]:
            if told.events.setdefault(event_id, event_type) != event_type:
                self.wrongs.append(f"{line['session_id']}: event {event_id} is two things.")

    def _wrong(self, line: dict[str, Any]) -> None:
        self.wrongs.append(f"{line['name']} {line.get('session_id')}: {line['message']}")

    def _told(self, line: dict[str, Any]) -> Told:
        told = self.sessions.setdefault(line["session_id"], Told(line["name"]))
        told.name = told.name or line["name"]
        return told


def agree(settled: str, state: str) -> bool:
    """Tell whether a state is the one that was answered, `closed` being either of two."""
    if settled == "closed":
        return state in {*_CLOSED, "closed"}
    return state == settled or (state == "closed" and settled in _CLOSED)
