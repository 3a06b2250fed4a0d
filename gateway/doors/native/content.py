"""The bytes of a completed upload: relayed with ranges (RFC 9110, section 14), safely named."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import hdrs, web

from gateway.core.model import StoredObject, UploadSession
from gateway.errors import InvalidRequest

# How long a client may refuse to take more bytes, in seconds.
_SEND_TIMEOUT = 120.0

_RANGE = re.compile(
    r"bytes\s*=\s*(?:([0-9]{1,19})\s*-\s*([0-9]{0,19})|-\s*([0-9]{1,19}))", re.ASCII
)
# RFC 8187, section 3.2.1: what needs no escaping in an extended parameter.
_ATTRIBUTE_CHARS = "!#$&+-.^_`|~"


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes [start, stop) of a file of `size` bytes; `partial` when a range was asked for."""

    start: int
    stop: int
    size: int
    partial: bool


def byte_range(request: web.Request, stored: StoredObject) -> ByteRange:
    """Return the bytes to send.

    Several ranges, other units and nonsense count as none, as the RFC allows. So does any range
    where If-Range names another version of the file. Raises InvalidRequest
    `range_not_satisfiable` for a range that begins after the end.
    """
    size = stored.size
    whole = ByteRange(0, size, size, partial=False)
    values = request.headers.getall(hdrs.RANGE, [])
    match = _RANGE.fullmatch(values[0].strip()) if len(values) == 1 else None
    if match is None:
        return whole
    condition = request.headers.get(hdrs.IF_RANGE)
    # A date never matches: we promise no modification time.
    if condition is not None and condition.strip() != quoted_etag(stored):
        return whole
    first, last, suffix = match.groups()
    if suffix is not None:
        start, stop = max(0, size - int(suffix)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return whole
    if start >= stop:
        raise InvalidRequest(
            "This range lies outside the file.",
            code="range_not_satisfiable",
            hint=f"The file has {size} bytes.",
            details={"size": size},
        )
    return ByteRange(start, stop, size, partial=True)


def content_headers(session: UploadSession, stored: StoredObject) -> dict[str, str]:
    """Return what describes the file; it is offered for saving, and never runs as a page."""
    return {
        hdrs.CONTENT_TYPE: session.content_type,
        hdrs.ETAG: quoted_etag(stored),
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CONTENT_DISPOSITION: content_disposition(session.filename),
        # Somebody's HTML, opened from the gateway's own address, must not act as the gateway.
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }


def content_disposition(filename: str) -> str:
    """Return an attachment header for any name (RFC 6266): plain ASCII first, then the true one."""
    plain = re.sub(r"[^A-Za-z0-9 ._()+=@~-]", "_", filename)
    escaped = quote(filename.encode("utf-8", "replace"), safe=_ATTRIBUTE_CHARS)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{escaped}"


def quoted_etag(stored: StoredObject) -> str:
    """Return the object's ETag as HTTP writes it."""
    return f'"{stored.etag}"'


async def relay(
    request: web.Request,
    session: UploadSession,
    stored: StoredObject,
    wanted: ByteRange,
    blocks: AsyncGenerator[bytes, None],
) -> web.StreamResponse:
    """Send the bytes as they are read. Errors before the first one are raised as usual.

    Later ones cut the connection: the announced length tells the client that bytes are missing.
    """
    async with aclosing(blocks):
        # The first block, before a head is sent that could not be taken back.
        block = await anext(blocks, b"") if wanted.stop > wanted.start else b""
        response = describe(session, stored, wanted)
        await response.prepare(request)
        while block:
            async with asyncio.timeout(_SEND_TIMEOUT):
                await response.write(block)
            block = await anext(blocks, b"")
    await response.write_eof()
    return response


def describe(session: UploadSession, stored: StoredObject, wanted: ByteRange) -> web.StreamResponse:
    """Return the answer's head."""
    response = web.StreamResponse(
        status=206 if wanted.partial else 200, headers=content_headers(session, stored)
    )
    response.content_length = wanted.stop - wanted.start
    if wanted.partial:
        response.headers[hdrs.CONTENT_RANGE] = (
            f"bytes {wanted.start}-{wanted.stop - 1}/{wanted.size}"
        )
    return response
