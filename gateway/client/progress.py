"""Figures of a transfer that is under way, for whoever wants to show them.

A transfer writes them on the event loop; a display reads them whenever it likes. They are not a
record: what counts is the receipt.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """Sizes in bytes; `size` is None for a stream of which nobody knows it yet.

    `phase` is starting, uploading, completing, verifying, downloading or done, and aborted for a
    stream that was given up.

    `read_bytes` have come out of a stream. `settled_bytes` are safely where they belong, `moved_bytes` all that went over the network in
    this run, and `in_flight` is what of each part is on its way. `fraction` is how much of the
    object the gateway has read back while verifying, where it says so. `trouble` is what is being
    waited for just now, in words, or empty. `relayed` is whether the bytes go through the gateway,
    which is so from the moment when the store was found to be out of reach.
    """

    session_id: str = ""
    name: str = ""
    size: int | None = 0
    phase: str = "starting"
    read_bytes: int = 0
    settled_bytes: int = 0
    moved_bytes: int = 0
    in_flight: dict[int, int] = field(default_factory=dict)
    fraction: float | None = None
    trouble: str = ""
    relayed: bool = False

    @property
    def shown_bytes(self) -> int:
        """What a bar should show: settled bytes and those on their way."""
        shown = self.settled_bytes + sum(self.in_flight.values())
        return shown if self.size is None else min(self.size, shown)
