"""Errors on the wire: which status a kind has, the native form, and what aiohttp raises itself.

Doors render errors in their protocol's own words with `status_of` and `error_headers`; the form
made here is the native one, and serves wherever no door is responsible.
"""

import math
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated, Any

import orjson
from aiohttp import hdrs, web
from pydantic import Field

# pydantic takes it on Python 3.11 from there only.
from typing_extensions import TypedDict

from gateway.errors import (
    Forbidden,
    GatewayError,
    Gone,
    Internal,
    InvalidRequest,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedType,
)

PROBLEM_TYPE = "application/problem+json"


class ProblemDocument(TypedDict):
    """The native form of an error: flat, and a problem of RFC 9457."""

    type: Annotated[str, Field(json_schema_extra={"const": "about:blank"})]
    title: Annotated[str, Field(description="the status in words")]
    status: Annotated[int, Field(ge=400, le=599)]
    code: Annotated[str, Field(description="stable: what programs match on")]
    message: Annotated[str, Field(description="what is wrong, in a sentence")]
    hint: Annotated[str, Field(description="what to do about it; may be empty")]
    retryable: Annotated[bool, Field(description="the same call may succeed later")]
    request_id: Annotated[str, Field(description="names the request in the gateway's logs")]
    details: Annotated[dict[str, Any], Field(description="facts, by the code")]


STATUSES: Mapping[str, int] = MappingProxyType(
    {
        "invalid_request": 400,
        "unauthenticated": 401,
        "forbidden": 403,
        "not_found": 404,
        "conflict": 409,
        "gone": 410,
        "too_large": 413,
        "unsupported_type": 415,
        "corrupt": 422,
        "rate_limited": 429,
        "internal": 500,
        "unavailable": 503,
        "storage_full": 507,
    }
)
"""Kind to status. A kind that is missing here is our mistake, and counts as internal."""

CODE_STATUSES: Mapping[str, int] = MappingProxyType(
    {
        # RFC 9110 has a status of its own for these; to a caller they are all `invalid_request`.
        "method_not_allowed": 405,
        "request_timeout": 408,
        "range_not_satisfiable": 416,
        "expectation_failed": 417,
        "idempotency_mismatch": 422,
        "headers_too_large": 431,
    }
)
"""The few codes whose status is not their kind's."""

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
"""The id of the request, set before anything else happens to it."""

# How long to wait where an error is worth a retry and says no time itself, in seconds.
_RETRY_AFTER = {"rate_limited": 1.0, "unavailable": 2.0, "storage_full": 60.0}

_KIND_OF_STATUS: Mapping[int, type[GatewayError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    410: Gone,
    413: TooLarge,
    415: UnsupportedType,
    429: RateLimited,
    503: Unavailable,
}


def status_of(error: GatewayError) -> int:
    """Return the HTTP status of an error."""
    return CODE_STATUSES.get(error.code) or STATUSES.get(error.kind, 500)


def error_headers(error: GatewayError) -> dict[str, str]:
    """Return the headers that HTTP itself wants beside an error, whatever the protocol's body."""
    headers: dict[str, str] = {}
    retry_after = error.retry_after
    if retry_after is None and error.retryable:
        retry_after = _RETRY_AFTER.get(error.kind)
    if retry_after is not None:
        headers[hdrs.RETRY_AFTER] = str(max(1, math.ceil(retry_after)))
    if error.kind == "unauthenticated":
        bad = ', error="invalid_token"' if error.code == "invalid_token" else ""
        headers[hdrs.WWW_AUTHENTICATE] = f'Bearer realm="gateway"{bad}'
    if error.code == "method_not_allowed":
        headers[hdrs.ALLOW] = ", ".join(error.details.get("allowed", ()))
    if error.code == "range_not_satisfiable" and "size" in error.details:
        headers[hdrs.CONTENT_RANGE] = f"bytes */{error.details['size']}"
    return headers


def problem(error: GatewayError, request_id: str) -> ProblemDocument:
    """Return the native form of an error (RFC 9457), JSON-ready."""
    status = status_of(error)
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "retryable": error.retryable,
        "request_id": request_id,
        "details": error.details,
    }


def problem_response(error: GatewayError, request_id: str) -> web.Response:
    """Render an error in the native form."""
    return web.Response(
        status=status_of(error),
        body=orjson.dumps(problem(error, request_id), default=str),
        headers=error_headers(error),
        content_type=PROBLEM_TYPE,
    )


def translate(error: web.HTTPException) -> GatewayError:
    """Turn what aiohttp raises by itself into an error of ours; redirections are none."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = sorted(error.allowed_methods)
        return InvalidRequest(
            f"This address does not take {error.method[:20]}.",
            code="method_not_allowed",
            hint=f"It takes {', '.join(allowed)}.",
            details={"allowed": allowed},
        )
    if error.status == HTTPStatus.NOT_FOUND:
        return NotFound(
            "There is nothing at this address.",
            code="no_such_route",
            hint="Check the path; the README lists all routes.",
        )
    if error.status == HTTPStatus.EXPECTATION_FAILED:
        return InvalidRequest(
            "This Expect header is not understood.",
            code="expectation_failed",
            hint="Leave it out, or send Expect: 100-continue.",
        )
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _KIND_OF_STATUS.get(error.status, Internal)("The gateway could not do this.")
    return _KIND_OF_STATUS.get(error.status, InvalidRequest)(
        f"The request was refused: {HTTPStatus(error.status).phrase}.",
        hint="Compare the request with the README.",
    )


def unexpected() -> Internal:
    """Return what a caller is told about a mistake of ours: nothing but where to look."""
    return Internal(
        "The gateway made a mistake.",
        hint="Try again; if it stays, give the request id to whoever runs this gateway.",
    )
