"""What can be done to a call and to its reply: the faults of `proxy.py`, which says how to use them."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum

import aiohttp
from aiohttp import web
from faults.calls import OPERATIONS, Call

# Connection headers are each hop's own (RFC 9110, section 7.6.1).
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade"}
_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'
_SPACE_EVERY = 0.05
_BLOCK = 1 << 16


class Kind(StrEnum):
    """What a fault does. Those marked (after) know `after=True`."""

    FAIL = "fail"  # `status` with the S3 error `code`; `retry_after` seconds (after)
    SLOW_DOWN = "slow down"  # 503 SlowDown; `retry_after` seconds (after)
    OK_WITH_ERROR = "ok with error"  # 200, and an <Error> with `code` in it (after)
    OK_EMPTY = "ok empty"  # 200, and nothing in it (after)
    OK_WITHOUT_ETAG = "ok without etag"  # the reply, but no ETag in headers and XML
    STALL = "stall"  # waits for `release`, or `seconds`, and then goes on (after)
    WHITE_SPACE = "white space"  # 200 and blanks meanwhile, as Amazon's Complete does (after)
    LATE = "late"  # cuts the caller off, and gives the store its call after `release` or `seconds`
    RESET = "reset"  # TCP reset, when `at` bytes of the body have come (after: instead of a reply)
    DROP = "drop"  # takes the call, and closes without an answer (after)
    CUT_REQUEST = "cut request"  # cuts both connections when the store has `at` bytes of the body
    CUT_REPLY = "cut reply"  # cuts the connection after `at` bytes of the reply (None: its middle)
    SHORT_REPLY = "short reply"  # a well-formed reply with only the first `at` bytes (as above)
    FLIP_REQUEST = "flip request"  # flips the lowest bit of byte `at` of the body (None: the first)
    FLIP_REPLY = "flip reply"  # flips the lowest bit of byte `at` of the reply (None: its middle)


# These are given in the place of a reply, or of the whole call.
INSTEAD = {
    Kind.FAIL,
    Kind.SLOW_DOWN,
    Kind.OK_WITH_ERROR,
    Kind.OK_EMPTY,
    Kind.RESET,
    Kind.DROP,
}
_KNOW_AFTER = INSTEAD | {Kind.STALL, Kind.WHITE_SPACE}
_SPOIL_REPLY = {Kind.CUT_REPLY, Kind.SHORT_REPLY, Kind.FLIP_REPLY}
_CLAIM_SUCCESS = {Kind.OK_WITH_ERROR, Kind.OK_EMPTY}


@dataclass(eq=False)
class Fault:
    """One fault; `hits` counts how often it has struck."""

    operation: str
    kind: Kind
    nth: int = field(default=1, kw_only=True)
    times: int | None = field(default=1, kw_only=True)
    part: int | None = field(default=None, kw_only=True)
    when: Callable[[Call], bool] | None = field(default=None, kw_only=True)
    after: bool = field(default=False, kw_only=True)
    status: int = field(default=500, kw_only=True)
    code: str = field(default="InternalError", kw_only=True)
    retry_after: int | None = field(default=None, kw_only=True)
    at: int | None = field(default=None, kw_only=True)
    seconds: float | None = field(default=None, kw_only=True)
    hits: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS | {"*"}:
            raise ValueError(f"{self.operation} is no operation that is recognised")
        if self.after and self.kind not in _KNOW_AFTER:
            raise ValueError(f"{self.kind} is not done after anything")
        self._fitting = 0
        self._released = asyncio.Event()

    def release(self) -> None:
        """Let what this fault holds back go on, now and from now on."""
        self._released.set()

    def due(self, call: Call) -> bool:
        """Count a call that fits, and tell whether it may be struck."""
        if self.operation not in {"*", call.operation}:
            return False
        if self.part is not None and call.part_number != self.part:
            return False
        if self.when is not None and not self.when(call):
            return False
        self._fitting += 1
        return self._fitting >= self.nth and (self.times is None or self.hits < self.times)

    async def held(self) -> None:
        """Wait for the release, or for `seconds`."""
        try:
            async with asyncio.timeout(self.seconds):
                await self._released.wait()
        except TimeoutError:
            return


class CutError(Exception):
    """The request was cut on its way to the store."""


async def harmed(
    request: web.Request, answer: aiohttp.ClientResponse, fault: Fault
) -> web.StreamResponse:
    """Answer with the store's reply, or with what the fault leaves of it."""
    kind = fault.kind
    if kind in INSTEAD:
        body = await answer.read()
        # A refusal by the store is no success that could be garbled.
        if kind in _CLAIM_SUCCESS and not answer.ok:
            return web.Response(status=answer.status, headers=_headers(answer), body=body)
        return await instead(request, fault)
    if kind is Kind.WHITE_SPACE:
        body = await answer.read()
        return await after_blanks(await blanks(request, fault), body)
    if kind is Kind.OK_WITHOUT_ETAG and answer.ok:
        headers = _headers(answer, without={"etag", "content-length"})
        return web.Response(headers=headers, body=_without_etag(await answer.read()))
    if kind is Kind.STALL and fault.after:
        await fault.held()
    if kind in _SPOIL_REPLY:
        return await _spoiled(request, answer, fault)
    return await pass_on(request, answer)


async def _spoiled(
    request: web.Request, answer: aiohttp.ClientResponse, fault: Fault
) -> web.StreamResponse:
    """Answer with the store's reply, cut, shortened or with another bit."""
    at, length, blocks = fault.at, answer.content_length, answer.content.iter_any()
    if at is None:
        if length is None:
            body = await answer.read()
            length, blocks = len(body), one(body)
        at = length // 2
    if fault.kind is Kind.SHORT_REPLY:
        body = b"".join([block async for block in _upto(blocks, at)])
        headers = _headers(answer, without={"content-length"})
        return web.Response(status=answer.status, headers=headers, body=body)
    spoil = flipped if fault.kind is Kind.FLIP_REPLY else cut
    return await pass_on(request, answer, spoil(blocks, at))


async def pass_on(
    request: web.Request,
    answer: aiohttp.ClientResponse,
    blocks: AsyncIterator[bytes] | None = None,
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=_headers(answer))
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        async for block in blocks or answer.content.iter_chunked(_BLOCK):
            await response.write(block)
    except CutError:
        assert request.transport is not None
        # What was written is still to arrive, so that this is no reset.
        request.transport.close()
        return response
    await response.write_eof()
    return response


async def instead(request: web.Request, fault: Fault) -> web.StreamResponse:
    """Answer, or hang up, in the store's place."""
    if fault.kind is Kind.RESET:
        if fault.at:
            async for _ in _upto(request.content.iter_any(), fault.at):
                pass
        return reset(request)
    await _drained(request)
    if fault.kind is Kind.DROP:
        if request.transport is not None:
            request.transport.close()
        return web.Response(status=500)
    if fault.kind is Kind.OK_EMPTY:
        return web.Response(status=200)
    status, code = fault.status, fault.code
    if fault.kind is Kind.SLOW_DOWN:
        status, code = 503, "SlowDown"
    if fault.kind is Kind.OK_WITH_ERROR:
        status = 200
    headers = {"Content-Type": "application/xml"}
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    body = _DECLARATION + f"<Error><Code>{code}</Code><Message>A fault.</Message></Error>".encode()
    return web.Response(status=status, headers=headers, body=body)


async def blanks(request: web.Request, fault: Fault) -> web.StreamResponse:
    """Begin a 200, and send blanks until the fault lets go."""
    response = web.StreamResponse(headers={"Content-Type": "application/xml"})
    await response.prepare(request)
    await response.write(_DECLARATION)
    holding = asyncio.ensure_future(fault.held())
    try:
        while not holding.done():
            await response.write(b" ")
            await asyncio.wait([holding], timeout=_SPACE_EVERY)
    finally:
        holding.cancel()
    return response


async def after_blanks(response: web.StreamResponse, body: bytes) -> web.StreamResponse:
    # A declaration may stand at the beginning alone.
    _, declared, rest = body.partition(b"?>")
    await response.write(rest if declared else body)
    await response.write_eof()
    return response


def _headers(answer: aiohttp.ClientResponse, *, without: Collection[str] = ()) -> dict[str, str]:
    return {
        k: v for k, v in answer.headers.items() if k.lower() not in HOP and k.lower() not in without
    }


def is_there(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


def reset(request: web.Request) -> web.Response:
    """Reset the caller's connection; the response returned goes nowhere."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        # To linger for no time is to reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response(status=500)


async def _drained(request: web.Request) -> None:
    """Read what comes, so that the caller gets to read the answer."""
    async for _ in request.content.iter_any():
        pass


async def taken(request: web.Request) -> bytes:
    return b"".join([block async for block in request.content.iter_any()])


async def one(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body as blocks."""
    for start in range(0, len(body), _BLOCK):
        yield body[start : start + _BLOCK]


async def _upto(blocks: AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
    """Yield the first `count` bytes."""
    async for block in blocks:
        yield block[:count]
        count -= len(block)
        if count <= 0:
            return


async def cut(blocks: AsyncIterator[bytes], at: int) -> AsyncIterator[bytes]:
    if at:
        async for block in _upto(blocks, at):
            yield block
    raise CutError


async def flipped(blocks: AsyncIterator[bytes], at: int) -> AsyncIterator[bytes]:
    position = 0
    async for block in blocks:
        here = at - position
        position += len(block)
        if 0 <= here < len(block):
            yield block[:here] + bytes([block[here] ^ 1]) + block[here + 1 :]
        else:
            yield block


def _without_etag(body: bytes) -> bytes:
    before, found, rest = body.partition(b"<ETag>")
    return before + rest.partition(b"</ETag>")[2] if found else body
