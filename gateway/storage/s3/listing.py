"""Walks ListParts to its end: several pages at once, in order of number, none lost, none twice.

The store's own NextPartNumberMarker is not trusted. SeaweedFS 4.48 keeps parts under names such as
`0999_...`, `1000_...` and sorts them as text, so that part 10,000 comes between 999 and 1,000;
whoever follows its marker there is told that the list is at its end, 9,000 parts early. It also
keeps every upload of a number, and a page may end between two of them. Here pages are asked for
by numbers of our own choosing, and overlap.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from itertools import islice

from gateway.core.model import Part
from gateway.core.plan import MAX_PART_NUMBER
from gateway.errors import Unavailable
from gateway.storage.s3.xml import PartsPage

PAGE_PARTS = 1000
"""S3's largest page (docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html)."""

# A window is a little smaller than a page, which leaves room for numbers that are there twice.
_WINDOW = 990
_AT_ONCE = 4

FetchPage = Callable[[int], Awaitable[PartsPage]]
"""Gives the page of the parts whose numbers lie above a marker."""


@dataclass(frozen=True, slots=True)
class _Window:
    """The parts above a number, all up to `_WINDOW` further at least; `last`: and all there are."""

    parts: tuple[Part, ...]
    last: bool


async def walk_parts(fetch: FetchPage) -> AsyncGenerator[Part, None]:
    """Yield every part once, in order of number; those of one number in the store's order.

    Raises what `fetch` raises, and Unavailable where the pages lead nowhere.
    """
    # Part 10,000 may be listed too early, or again: it is held back for the end.
    highest: dict[str, Part] = {}
    starts = iter(range(0, MAX_PART_NUMBER, _WINDOW))
    ahead: deque[asyncio.Task[_Window]] = deque()
    at_once = 1
    try:
        while True:
            for start in islice(starts, at_once - len(ahead)):
                ahead.append(asyncio.create_task(_window(fetch, start)))
            if not ahead:
                break
            window = await ahead.popleft()
            for part in window.parts:
                if part.number < MAX_PART_NUMBER:
                    yield part
                else:
                    highest.setdefault(part.etag, part)
            if window.last:
                break
            # Short lists need one page or two; only long ones are worth asking ahead for.
            at_once = min(2 * at_once, _AT_ONCE)
    finally:
        for task in ahead:
            task.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)
    for part in highest.values():
        yield part


async def _window(fetch: FetchPage, start: int) -> _Window:
    """Return the parts above `start`, complete up to `start + _WINDOW`."""
    end = min(start + _WINDOW, MAX_PART_NUMBER)
    found: dict[tuple[int, str], Part] = {}
    marker = start
    while True:
        page = await fetch(marker)
        for part in page.parts:
            if part.number > start:
                found.setdefault((part.number, part.etag), part)
        reached = max(
            (part.number for part in page.parts if part.number < MAX_PART_NUMBER), default=0
        )
        last = not page.truncated
        if last or reached > end:
            # What lies above the window belongs to the next one, unless there is none.
            parts = (
                part
                for part in found.values()
                if last or part.number <= end or part.number == MAX_PART_NUMBER
            )
            return _Window(tuple(sorted(parts, key=lambda part: part.number)), last)
        if reached <= marker:
            raise Unavailable(
                "The store's list of parts does not come to an end.",
                code="storage_unavailable",
                hint="Look at the store: its ListParts repeats itself.",
            )
        # The page may have ended between two parts of one number; a page full of one number is
        # passed over, as there is no other way on.
        marker = reached - 1 if reached - 1 > marker else reached
