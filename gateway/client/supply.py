"""What sending needs of whatever supplies the parts: a file, or a stream that is being spooled.

`transfer`, `sender` and `body` know no more of their source than this. A part that was handed out
stays readable until it is said to be settled, since the store may want it again.
"""

from collections.abc import Iterable
from typing import Protocol

from gateway.client.digests import PartDigest
from gateway.core.plan import PartPlan
from gateway.errors import GatewayError


class PartSource(Protocol):
    """The bytes of parts. Its methods block: run them in threads."""

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset` of the whole, all of one part."""

    def check(self) -> None:
        """Raise `changed()` where the source is known to be another one by now."""

    def changed(self) -> GatewayError:
        """Return the error for bytes that are not what they were when they were hashed."""


class PartDigests(Protocol):
    """The lengths and checksums of parts, each known once `part` has returned it."""

    @property
    def plan(self) -> PartPlan:
        """Where each part lies; its `last_number` is as many as there may be."""

    async def part(self, number: int, *, compare_etag: bool = False) -> PartDigest | None:
        """Return a part's digests, or None where the whole has ended before it."""

    async def check(self, number: int) -> None:
        """Read a part once more; raise where it is not what it was."""

    def length(self, number: int) -> int:
        """Return the bytes of a part that is known."""

    def settle(self, numbers: Iterable[int]) -> None:
        """Take note that these parts are stored and acknowledged: nobody will read them again."""
