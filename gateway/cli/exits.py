"""Exit codes of the commands that talk to a gateway, so that scripts can tell what to do next."""

from enum import IntEnum

from gateway.errors import (
    Conflict,
    Corrupt,
    Forbidden,
    GatewayError,
    Gone,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unavailable,
)


class Exit(IntEnum):
    """How a command ended; the description of each stands in `gateway --help`."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CORRUPT = 3
    NOT_FOUND = 4
    DENIED = 5
    UNREACHABLE = 6
    CHANGED = 7
    REFUSED = 8
    INTERRUPTED = 130


MEANINGS: dict[Exit, str] = {
    Exit.DONE: "done",
    Exit.FAILED: "failed; the reason and a hint are on standard error",
    Exit.USAGE: "wrong usage, nothing was done",
    Exit.CORRUPT: "corrupt: the bytes stored or received are not those of the file",
    Exit.NOT_FOUND: "no such session, or it was aborted or has expired",
    Exit.DENIED: "no valid token, or not allowed",
    Exit.UNREACHABLE: "gateway or store unreachable for too long; the same command goes on later "
    "(a stream begins anew)",
    Exit.CHANGED: "the file changed while it was being uploaded",
    Exit.REFUSED: "refused: the gateway does not take a file of this type, content or size",
    Exit.INTERRUPTED: "interrupted; the same command goes on where it was (a stream is aborted)",
}

# Whatever the kind of the error.
_BY_CODE: dict[str, Exit] = {
    "file_changed": Exit.CHANGED,
    "content_not_allowed": Exit.REFUSED,
    "file_too_large": Exit.REFUSED,
    "file_type_not_allowed": Exit.REFUSED,
    "rejected": Exit.REFUSED,
}


def exit_for(error: GatewayError) -> Exit:
    """Return the exit code that an error stands for."""
    by_code = _BY_CODE.get(error.code)
    if by_code is not None:
        return by_code
    match error:
        case Corrupt():
            return Exit.CORRUPT
        case NotFound() | Gone():
            return Exit.NOT_FOUND
        case Unauthenticated() | Forbidden():
            return Exit.DENIED
        case Unavailable() | RateLimited():
            return Exit.UNREACHABLE
        case _:
            # A conflict that passes by itself was waited for until the patience was over.
            passes = isinstance(error, Conflict) and error.retryable
            return Exit.UNREACHABLE if passes else Exit.FAILED
