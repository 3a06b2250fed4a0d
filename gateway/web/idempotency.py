"""Reads the key by which a client makes a creation repeatable."""

from aiohttp import web

from gateway.errors import InvalidRequest


def idempotency_key(request: web.Request) -> str | None:
    """Return the Idempotency-Key header, or None; two of them are one too many."""
    values = request.headers.getall("Idempotency-Key", [])
    if len(values) > 1:
        raise InvalidRequest(
            "Idempotency-Key comes more than once.",
            code="invalid_idempotency_key",
            hint="Send it once.",
        )
    return values[0] if values else None
