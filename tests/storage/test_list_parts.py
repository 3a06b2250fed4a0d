"""ListParts walked to its end over any store's pages, and without holding up the event loop."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.model import MultipartUpload, Part
from gateway.errors import NoSuchUpload, Unavailable
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.listing import PAGE_PARTS, walk_parts
from gateway.storage.s3.storage import S3Storage
from gateway.storage.s3.xml import MalformedReply, PartsPage, parse_parts

UPLOAD = MultipartUpload("bucket", "film", "upload")


def by_number(part: Part) -> Any:
    """Sort as S3 does."""
    return part.number, part.etag


def by_name(part: Part) -> Any:
    """Sort as SeaweedFS 4.48 does: part 10,000 between 999 and 1,000."""
    return f"{part.number:04d}_{part.etag}"


class Pages:
    """A store that lists these parts in its own order, `cap` to a page."""

    def __init__(self, parts: list[Part], cap: int, order: Callable[[Part], Any]) -> None:
        self.parts = sorted(parts, key=order)
        self.cap = cap
        self.order = order
        self.asked: list[int] = []

    async def fetch(self, marker: int) -> PartsPage:
        self.asked.append(marker)
        await asyncio.sleep(0)
        first = f"{marker + 1:04d}" if self.order is by_name else (marker + 1, "")
        rest = [p for p in self.parts if self.order(p) >= first and p.number > marker]
        return PartsPage(tuple(rest[: self.cap]), len(rest) > self.cap)


numbers = st.lists(
    st.tuples(st.integers(1, 10_000), st.integers(1, 1500)), min_size=0, max_size=3
).map(lambda runs: {n for start, length in runs for n in range(start, min(start + length, 10_001))})


# A page that ends between two parts of the last number of a window.
@example(chosen=set(range(1, 1500)), twice={990}, highest=set(), cap=990, order=by_number)
@settings(max_examples=80, deadline=None)
@given(
    chosen=numbers,
    twice=st.sets(st.integers(1, 10_000), max_size=20),
    highest=st.sampled_from([set[int](), {10_000}]),
    cap=st.sampled_from([60, 300, 999, 1000, 10_000]),
    order=st.sampled_from([by_number, by_name]),
)
def test_every_part_is_listed_once_in_order_of_number(
    chosen: set[int], twice: set[int], highest: set[int], cap: int, order: Callable[[Part], Any]
) -> None:
    parts = [Part(n, n, "a") for n in chosen | highest]
    parts += [Part(n, n + 1, "b") for n in twice & chosen]
    pages = Pages(parts, cap, order)

    async def walk() -> list[Part]:
        return [part async for part in walk_parts(pages.fetch)]

    listed = asyncio.run(walk())
    assert sorted(listed, key=by_number) == sorted(parts, key=by_number)
    assert [part.number for part in listed] == sorted(part.number for part in parts)


async def test_a_short_list_is_asked_for_once_and_a_long_one_several_pages_at_once() -> None:
    short = Pages([Part(n, 1, "a") for n in range(1, 1001)], PAGE_PARTS, by_number)
    assert len([part async for part in walk_parts(short.fetch)]) == 1000
    assert short.asked == [0]

    long = Pages([Part(n, 1, "a") for n in range(1, 10_001)], PAGE_PARTS, by_number)
    under_way, most = 0, 0

    async def fetch(marker: int) -> PartsPage:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return await long.fetch(marker)

    assert len([part async for part in walk_parts(fetch)]) == 10_000
    assert len(long.asked) == 11
    assert most == 4


async def test_a_walk_that_is_given_up_stops_asking() -> None:
    started = asyncio.Event()

    async def fetch(marker: int) -> PartsPage:
        if marker:
            started.set()
            await asyncio.Event().wait()
        return PartsPage(tuple(Part(n, 1, "a") for n in range(1, 1001)), truncated=True)

    async with aclosing(walk_parts(fetch)) as parts:
        for _ in range(990):
            await anext(parts)
        pending = asyncio.ensure_future(anext(parts))
        await started.wait()
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
    assert not [t for t in asyncio.all_tasks() if "_window" in repr(t) and not t.done()]


@pytest.mark.parametrize("parts", [(), (Part(1, 1, "a"),), (Part(10_000, 1, "a"),)])
async def test_a_list_that_leads_nowhere_ends_in_an_error(parts: tuple[Part, ...]) -> None:
    async def fetch(_: int) -> PartsPage:
        return PartsPage(parts, truncated=True)

    async with asyncio.timeout(5):
        with pytest.raises(Unavailable):
            [part async for part in walk_parts(fetch)]


def document(numbers: range, *, truncated: bool) -> bytes:
    parts = "".join(
        f"<Part><ETag>&#34;{n:032x}&#34;</ETag><LastModified>2026-11-21T11:25:09Z</LastModified>"
        f"<PartNumber>{n}</PartNumber><Size>8388608</Size></Part>"
        for n in numbers
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListPartsResult xmlns="http://s3.amazonaws.com/'
        f'doc/2006-03-01/"><IsTruncated>{str(truncated).lower()}</IsTruncated>{parts}'
        "</ListPartsResult>"
    ).encode()


# Made beforehand: the stub shares the loop that is watched.
PAGES = {
    marker: document(
        range(marker + 1, min(marker + 1000, 10_000) + 1), truncated=marker + 1000 < 10_000
    )
    for marker in range(0, 10_000, 990)
}


async def answer_like_a_store(request: Any, writer: asyncio.StreamWriter) -> None:
    marker = int(request.query.get("part-number-marker", 0))
    assert request.query["max-parts"] == "1000"
    body = PAGES[marker]
    # The stub hangs up after each answer; a client that is not told may send its next request
    # into the closing connection.
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)


async def quietest(work: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    """Return for how long, in seconds, nothing else could run, and what the work gave.

    The best of a few tries: what the machine and the garbage of other tests do is not ours.
    """
    loop = asyncio.get_running_loop()
    pauses, result = [], None
    gc.collect()
    gc.freeze()
    try:
        for _ in range(5):
            task = asyncio.ensure_future(work())
            longest, before = 0.0, loop.time()
            while not task.done():
                await asyncio.sleep(0)
                now = loop.time()
                longest, before = max(longest, now - before), now
            result = await task
            pauses.append(longest)
    finally:
        gc.unfreeze()
    return min(pauses), result


async def test_ten_thousand_parts_are_listed_without_holding_up_the_loop(
    stub: Any, client: S3Client
) -> None:
    stub.answer = answer_like_a_store

    async def walk() -> list[Part]:
        return [part async for part in S3Storage(client).list_parts(UPLOAD)]

    pause, parts = await quietest(walk)
    assert parts == [Part(n, 8388608, f"{n:032x}") for n in range(1, 10_001)]
    assert pause < 0.02


async def test_ten_thousand_parts_are_completed_without_holding_up_the_loop(
    stub: Any, client: S3Client
) -> None:
    stub.say(
        200, b'<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>'
    )
    parts = [Part(n, 8388608, f"{n:032x}") for n in range(1, 10_001)]
    storage = S3Storage(client)
    pause, stored = await quietest(lambda: storage.complete(UPLOAD, parts, algorithm="crc32"))
    assert stored.size == 10_000 * 8388608
    assert pause < 0.02
    assert stub.requests[0].body.count(b"<Part>") == 10_000


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchUpload", NoSuchUpload),
        # A proxy's own, or an answer that was cut: not the store's word.
        (404, "", Unavailable),
        (403, "AccessDenied", Unavailable),
        (503, "", Unavailable),
    ],
)
async def test_a_refused_list_is_told_by_its_code(
    stub: Any, client: S3Client, status: int, code: str, kind: type[Exception]
) -> None:
    stub.say(status, f"<Error><Code>{code}</Code></Error>".encode() if code else b"")
    with pytest.raises(kind):
        [part async for part in S3Storage(client).list_parts(UPLOAD)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html/>",
        document(range(1, 3), truncated=False)[:-30],
        document(range(1, 3), truncated=False).replace(b">1<", b">0<"),
        document(range(1, 3), truncated=False).replace(b">1<", b">10001<"),
        document(range(1, 3), truncated=False).replace(b">8388608<", b">-1<"),
        document(range(1, 2), truncated=False).replace(b"0" * 31 + b"1", b""),
    ],
)
async def test_a_list_that_makes_no_sense_is_no_list(
    stub: Any, client: S3Client, body: bytes
) -> None:
    stub.say(200, body)
    with pytest.raises(Unavailable):
        [part async for part in S3Storage(client).list_parts(UPLOAD)]


def test_entities_are_neither_expanded_nor_fetched() -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 9))
    for body in (
        f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]><ListPartsResult>&l8;</ListPartsResult>',
        '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><ListPartsResult/>',
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><ListPartsResult/>',
    ):
        with pytest.raises(MalformedReply):
            parse_parts(body.encode())


# abort


async def test_an_abort_is_repeated_until_nothing_is_listed(stub: Any, client: S3Client) -> None:
    late = [2]

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        if request.method == "DELETE":
            writer.write(b"HTTP/1.1 204 X\r\n\r\n")
            return
        late[0] -= 1
        body = document(range(1, 2), truncated=False)
        if late[0] < 0:
            body = b"<Error><Code>NoSuchUpload</Code></Error>"
        status = 200 if late[0] >= 0 else 404
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    stub.answer = answer
    await S3Storage(client).abort(UPLOAD)
    assert [request.method for request in stub.requests] == ["DELETE", "GET"] * 3


async def test_an_abort_that_parts_keep_arriving_in_is_given_up(
    stub: Any, client: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.storage.s3.storage._ABORT_PAUSE", 0.001)

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        body = b"" if request.method == "DELETE" else document(range(1, 2), truncated=False)
        writer.write(f"HTTP/1.1 200 X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    stub.answer = answer
    with pytest.raises(Unavailable) as caught:
        await S3Storage(client).abort(UPLOAD)
    assert caught.value.code == "abort_incomplete"
