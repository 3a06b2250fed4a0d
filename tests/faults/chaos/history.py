"""What clients did and were told, and what was done to them: one JSON object a line.

Written as it happens, so that a run which dies leaves its history; read once, at the end, by
`ledger.py`. `t` is seconds since the run began, `began` when the call began that a line tells of.

    begin     a client begins to upload the file `name` (size, offset and seed say what is in it)
    call      one call of the API: verb, gateway, status (null: no answer), code, session_id, state
    put       one part sent to the store: part, etag, `other` bytes on purpose, `bound` checksum
    recorded  parts acknowledged with success: {number: etag}
    intent    what the client is about to do that may end the session: abort, meddle
    fault     what was done to a server, or to calls
    events    the outbox of a session as it was: {event id: type}
    wrong     something that must never happen, seen at once
    end       how the client left the file
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson


class History:
    """Appends to the file; `wrongs` counts what was seen to be wrong so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wrongs = 0
        self._began = time.monotonic()
        self._file = path.open("ab", buffering=0)

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return round(time.monotonic() - self._began, 4)

    def note(self, what: str, **facts: Any) -> None:
        """Write down one fact."""
        self._file.write(orjson.dumps({"t": self.now, "what": what, **facts}) + b"\n")

    def wrong(self, name: str, message: str, **facts: Any) -> None:
        """Write down what must never happen; the run ends as a failure, but it goes on."""
        self.wrongs += 1
        self.note("wrong", name=name, message=message, **facts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield all lines, oldest first."""
        with self.path.open("rb") as file:
            for line in file:
                yield orjson.loads(line)
