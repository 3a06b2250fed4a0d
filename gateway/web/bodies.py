"""Reads request bodies: never more than a limit, never longer than a deadline, never decompressed.

`read_json` turns a body into a pydantic model or an InvalidRequest that names the field. What a
value means is the core's business; here it only has to be of the right type.

Measured on one core: a complete call of 10,000 parts (0.9 MB; with SHA-256 1.2 MB) takes 3 ms to
parse and 8 ms to validate. A thread would not help, since both hold the interpreter's lock; instead
the event loop gets a turn after each of the two, where the body is large.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import orjson
import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.errors import GatewayError, InvalidRequest, TooLarge, UnsupportedType
from gateway.web.turns import TURN

KIB = 1024
DEFAULT_LIMIT = 64 * KIB
"""Largest JSON body unless a route says otherwise, in bytes."""
PARTS_LIMIT = 4 * 1024 * KIB
"""Largest body that lists parts: 10,000 of them take 1.8 MB with SHA-256 (laws.md)."""

MAX_VALUES = 64 * KIB
"""How many values a JSON body may hold; a completion of 10,000 parts has 40,002."""

_MAX_ERRORS = 10
_MAX_UNKNOWN = 10

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BodyPace:
    """How slowly a client may send a body.

    `grace` seconds are free, and every `min_rate` bytes that have arrived buy another second.
    """

    grace: float = 15.0
    min_rate: int = 16 * KIB

    def __post_init__(self) -> None:
        if self.grace <= 0 or self.min_rate <= 0:
            raise ValueError("A body's pace needs positive figures.")


PACE: web.AppKey[BodyPace] = web.AppKey("body_pace", BodyPace)
"""The application's pace, where it differs from the default."""


class Wire(BaseModel):
    """A JSON object as it arrives. Types are strict: true is no 1, "1" and 1.0 are no 1 either."""

    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="ignore", frozen=True)


M = TypeVar("M", bound=Wire)


async def read_json(
    request: web.Request, model: type[M], *, limit: int = DEFAULT_LIMIT, optional: bool = False
) -> M:
    """Read the body as a JSON object of this model.

    With `optional`, no body at all counts as an empty object. Raises InvalidRequest
    (`invalid_body`, `request_timeout`, `body_truncated`), TooLarge (`body_too_large`) and
    UnsupportedType (`unsupported_encoding`, `unsupported_media_type`).
    """
    if optional and not request.can_read_body:
        return validate(model, {})
    if not (optional and hdrs.CONTENT_TYPE not in request.headers):
        _check_type(request)
    body = await read_body(request, limit=limit)
    if not body and optional:
        return validate(model, {})
    _check_type(request)
    value = parse_object(body)
    if len(body) <= DEFAULT_LIMIT:
        return validate(model, value)
    await asyncio.sleep(0)
    result = validate(model, value)
    await asyncio.sleep(0)
    return result


async def read_body(request: web.Request, *, limit: int) -> bytes:
    """Read at most `limit` bytes, at the pace of `BodyPace`; raises as `read_json` does."""
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for block in iter_body(request):
        body += block
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


async def iter_body(request: web.Request) -> AsyncGenerator[bytes, None]:
    """Yield the body in blocks as they arrive; the time that the caller takes is not counted.

    Bytes are those that were sent: a Content-Encoding is refused, not undone, so that a small body
    cannot become a large one. Raises InvalidRequest `request_timeout` for a body that is slower
    than `BodyPace`, `body_truncated` for one that breaks off or is framed wrongly.
    """
    headers = request.headers
    content = headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
    transfer = headers.get(hdrs.TRANSFER_ENCODING, "chunked").strip().lower()
    if (content, transfer) != ("identity", "chunked"):
        raise UnsupportedType(
            "Encoded bodies are not taken.",
            code="unsupported_encoding",
            hint="Send the body as it is, without Content-Encoding or a Transfer-Encoding of gzip.",
        )
    await send_continue(request)
    pace = request.app.get(PACE, BodyPace())
    received, waited = 0, 0.0
    while True:
        left = pace.grace + received / pace.min_rate - waited
        started = time.monotonic()
        try:
            block = request.content.read_nowait()
            # A small body has come together with its head, and needs no timer.
            if not block and not request.content.at_eof():
                async with asyncio.timeout(max(0.0, left)):
                    block = await request.content.readany()
        except TimeoutError:
            raise InvalidRequest(
                "The body arrives too slowly.",
                code="request_timeout",
                hint=f"Send at least {pace.min_rate} bytes a second, and the whole body.",
                retryable=True,
            ) from None
        except ConnectionError as error:
            _unring(error)
            raise ConnectionResetError("The client has gone away.") from None
        except (RequestPayloadError, HttpProcessingError) as error:
            _unring(error)
            raise InvalidRequest(
                "The body breaks off, or its framing is wrong.",
                code="body_truncated",
                hint="Send as many bytes as Content-Length says, or correct chunks.",
                retryable=True,
            ) from error
        waited += time.monotonic() - started
        if not block:
            # Whatever comes now takes as long as the gateway does, not as its client pleases.
            if TURN in request:
                request[TURN].give_back()
            return
        received += len(block)
        yield block


def _unring(error: BaseException) -> None:
    """Let go of the frames that an error of the body's has passed.

    aiohttp keeps the error in the body, which these frames hold: a ring, which would keep all that
    the request had in memory until the next full collection, hundreds of requests later.
    """
    error.__traceback__ = None
    error.__context__ = None


async def send_continue(request: web.Request) -> None:
    """Tell a client that waits with its body (Expect: 100-continue) to send it.

    Only now: whoever is refused by its head alone keeps its body.
    """
    if (
        request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
        and request.version >= (1, 1)
        and request.writer.output_size == 0
    ):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The answer proper has not begun.
        request.writer.output_size = 0


async def expect_later(request: web.Request) -> None:
    """Answer Expect headers when the body is read; to be given to routes as `expect_handler`."""
    if request.headers.get(hdrs.EXPECT, "").lower() != "100-continue":
        raise web.HTTPExpectationFailed


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse a JSON object. NaN, lone surrogates and nesting beyond 1,024 levels are no JSON.

    Raises InvalidRequest `invalid_body`, and TooLarge `body_too_large` beyond MAX_VALUES.
    """
    # A million empty lists fit into a body that is allowed, and would hold the loop for seconds.
    # Each value follows one of these; those inside of texts count along, and are few in ours.
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise TooLarge(
            f"The body holds more than the {MAX_VALUES} values that a call takes.",
            code="body_too_large",
            hint="Send fewer items at a time.",
            details={"max_values": MAX_VALUES},
        )
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # The error holds the document; it must not come along into a log.
        raise InvalidRequest(
            "The body is not JSON.",
            code="invalid_body",
            hint="Send one JSON object in UTF-8.",
            details={"line": error.lineno, "column": error.colno},
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest(
            "The body is JSON, but not an object.",
            code="invalid_body",
            hint='Send a JSON object, such as {"filename": "video.mp4"}.',
        )
    return value


def validate(model: type[M], value: Mapping[str, Any]) -> M:
    """Return the model, or raise InvalidRequest `invalid_body` that names each wrong field.

    Values are not repeated. Unknown fields are ignored, with a warning in the log.
    """
    if unknown := _unknown_fields(model, value):
        shown = [name[:50] for name in unknown[:_MAX_UNKNOWN]]
        _log.warning("unknown_fields", fields=shown, count=len(unknown))
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _invalid(error) from None


def _check_type(request: web.Request) -> None:
    content_type = request.content_type.lower()
    json = content_type == "application/json" or content_type.endswith("+json")
    if not json or hdrs.CONTENT_TYPE not in request.headers:
        raise UnsupportedType(
            "The body must be JSON.",
            code="unsupported_media_type",
            hint="Send Content-Type: application/json.",
        )


def _too_large(limit: int) -> GatewayError:
    return TooLarge(
        f"The body is larger than the {limit} bytes that this call takes.",
        code="body_too_large",
        hint="Send fewer items at a time.",
        details={"max_bytes": limit},
    )


def _invalid(error: ValidationError) -> InvalidRequest:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    problems = [
        {"field": ".".join(str(name)[:50] for name in item["loc"]), "problem": item["msg"]}
        for item in found[:_MAX_ERRORS]
    ]
    first = problems[0]
    named = f"{first['field']}: " if first["field"] else ""
    return InvalidRequest(
        f"The body does not fit this call: {named}{first['problem']}.",
        code="invalid_body",
        hint="Correct the fields listed under details, and send it again.",
        details={"errors": problems, "error_count": error.error_count()},
    )


def _unknown_fields(model: type[BaseModel], value: Mapping[str, Any]) -> list[str]:
    known = {info.alias or name for name, info in model.model_fields.items()}
    return [name for name in value if name not in known]
