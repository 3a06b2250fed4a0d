"""Every error that the gateway raises on purpose, as one tree with no HTTP in it.

A class is a *kind*: what a caller can do about it. A `code` names the exact case, is stable,
and is what clients match on. `web/errors.py` maps kinds to statuses; each door renders the rest.

    GatewayError
    ├── InvalidRequest        malformed, or outside the limits; send something else
    ├── Unauthenticated       no credentials, or bad ones
    ├── Forbidden             known caller, but not allowed
    ├── NotFound              unknown to this caller, whoever else may own it
    │   ├── SessionNotFound
    │   ├── NoSuchUpload      the store does not know the multipart upload
    │   └── NoSuchObject      the store has no object under the key
    ├── Conflict              true in itself, but not in the present state
    ├── Gone                  was there, and never comes back
    ├── TooLarge              the body or the file exceeds a limit
    ├── UnsupportedType       a body or a file of a kind that is not taken
    ├── Corrupt               the bytes stored are not those that were promised
    ├── RateLimited           too many, for now
    ├── Unavailable           a dependency does not answer; the same call may work later
    │   └── Uncertain         it may have happened or not: look before trying again
    ├── StorageFull           the store has no room
    └── Internal              our own mistake
"""

import os
from collections.abc import Mapping
from typing import Any, ClassVar


class GatewayError(Exception):
    """An error with a stable code.

    `message` says what is wrong in a sentence, `hint` what to do about it. `retryable` means that
    the same call, unchanged, may succeed later; `retry_after` is then a suggestion in seconds.
    `details` is JSON-ready and never holds a secret, a presigned URL or bytes of a file.
    """

    kind: ClassVar[str] = "internal"
    default_code: ClassVar[str] = "internal_error"
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str = "",
        retryable: bool | None = None,
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.details: dict[str, Any] = dict(details or {})


class InvalidRequest(GatewayError):
    """The request is malformed or outside the limits."""

    kind = "invalid_request"
    default_code = "invalid_request"


class Unauthenticated(GatewayError):
    """No credentials came with the call, or they are not valid."""

    kind = "unauthenticated"
    default_code = "unauthenticated"


class Forbidden(GatewayError):
    """The caller is known but may not do this."""

    kind = "forbidden"
    default_code = "forbidden"


class NotFound(GatewayError):
    """There is no such thing for this caller."""

    kind = "not_found"
    default_code = "not_found"


class SessionNotFound(NotFound):
    """Unknown, or another principal's session: the same answer to both."""

    default_code = "session_not_found"

    def __init__(self) -> None:
        super().__init__(
            "There is no such upload session.",
            hint="Check the session id; sessions are visible to the principal that made them only.",
        )


class NoSuchUpload(NotFound):
    """The store does not know the multipart upload: completed or aborted, nobody can tell."""

    default_code = "no_such_upload"


class NoSuchObject(NotFound):
    """The store has no object under the key."""

    default_code = "no_such_object"


class Conflict(GatewayError):
    """The request does not fit the present state."""

    kind = "conflict"
    default_code = "conflict"


class Gone(GatewayError):
    """The upload was aborted or expired, or the store has lost it: start again."""

    kind = "gone"
    default_code = "session_gone"


class TooLarge(GatewayError):
    """A body or file over its limit."""

    kind = "too_large"
    default_code = "too_large"


class UnsupportedType(GatewayError):
    """A content type or file type that is not accepted."""

    kind = "unsupported_type"
    default_code = "unsupported_type"


class Corrupt(GatewayError):
    """The stored bytes do not match what the client declared."""

    kind = "corrupt"
    default_code = "corrupt"


class RateLimited(GatewayError):
    """Too many requests for now."""

    kind = "rate_limited"
    default_code = "rate_limited"
    default_retryable = True


class Unavailable(GatewayError):
    """A dependency (the store, Redis) failed or did not answer in time."""

    kind = "unavailable"
    default_code = "unavailable"
    default_retryable = True


class Uncertain(Unavailable):
    """A call that may have taken effect although it failed: look before trying again (law 1)."""

    default_code = "outcome_uncertain"


class StorageFull(GatewayError):
    """The object store has no room left."""

    kind = "storage_full"
    default_code = "storage_full"
    default_retryable = True


class Internal(GatewayError):
    """A mistake of ours; the log has the details under the request id."""


KINDS: tuple[str, ...] = tuple(
    error.kind
    for error in (
        InvalidRequest,
        Unauthenticated,
        Forbidden,
        NotFound,
        Conflict,
        Gone,
        TooLarge,
        UnsupportedType,
        Corrupt,
        RateLimited,
        Unavailable,
        StorageFull,
        Internal,
    )
)


def reason_of(error: BaseException) -> str:
    """Return what the operating system said, somewhere down the causes, or nothing: for admins.

    `Connection refused` and the like, which hold neither addresses nor secrets.
    """
    reason = ""
    cause: BaseException | None = error
    # Libraries wrap a few times; a chain could be a ring.
    for _ in range(10):
        if cause is None:
            break
        if isinstance(cause, TimeoutError):
            reason = "no answer in time"
        elif isinstance(cause, OSError) and cause.errno:
            # Failures to find a name have negative numbers, and words of their own.
            reason = os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return reason
