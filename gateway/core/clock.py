"""The one clock that is real; everything that asks for the time takes it as a collaborator."""

from datetime import UTC, datetime

from gateway.core.ports import Clock


class SystemClock(Clock):
    """The machine's time, to the millisecond: what records keep, so that copies compare equal."""

    def now(self) -> datetime:
        """Return the present as an aware UTC datetime."""
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)
