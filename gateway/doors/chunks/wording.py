"""How the older APIs say what went wrong: `{"detail": "..."}`, in the words of their documents.

C has the envelope code, message, hint, retryable; the native form has these four too, and serves.
"""

from typing import Final

from gateway.errors import GatewayError, InvalidRequest

_NOT_THERE: Final = frozenset({"session_not_found", "not_found", "no_such_object"})
_FAILED: Final = frozenset({"internal", "unavailable"})


def detail(error: GatewayError, *, sending: bool) -> str:
    """Return the text for a person; `sending` says that a chunk was on its way."""
    if error.kind == "storage_full":
        return "Chunk upload failed: disk space full"
    if error.code in _NOT_THERE:
        return "File not found"
    # The hint of this one leads to the details, which only the native form and C have.
    hint = "" if error.code == "invalid_body" else error.hint
    text = f"{error.message} {hint}".strip()
    if sending and error.kind in _FAILED:
        return f"Chunk upload failed: {text}"
    return text


def missing_parameter(name: str) -> InvalidRequest:
    """Return the error for a field that did not come, or came empty."""
    return InvalidRequest(f"Missing required parameter: {name}", code="missing_parameter")


def invalid_parameter(name: str, wanted: str) -> InvalidRequest:
    """Return the error for a field that holds something else than is `wanted`."""
    return InvalidRequest(f"Invalid parameter: {name} must be {wanted}.", code="invalid_parameter")
