"""From the core's sessions to the JSON of the older APIs."""

import re
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.core.model import State, UploadSession
from gateway.core.record import time_to_text
from gateway.doors.chunks import answers
from gateway.errors import Corrupt, Internal

FAILED: Final = frozenset({State.CORRUPT, State.REJECTED})
CLOSED: Final = frozenset({State.ABORTED, State.EXPIRED})

_NUMBER: Final = re.compile("[0-9]+")


def json_response(
    value: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Return a JSON answer."""
    return web.Response(
        status=status, body=orjson.dumps(value), headers=headers, content_type="application/json"
    )


def status_word(session: UploadSession) -> str:
    """Return `completed` for a verified file, else `uploading`, which is all that A and B know.

    Raises Corrupt for a file whose bytes failed their check: there is no word for that.
    """
    if session.state in FAILED:
        problem = session.error
        raise Corrupt(
            problem.message if problem else f"The upload ended {session.state.value}.",
            code=session.state.value,
            hint=problem.hint if problem else "Send the file again under a new id.",
        )
    return "completed" if session.state is State.COMPLETED else "uploading"


def total_chunks(session: UploadSession) -> int:
    """Return how many chunks the file has."""
    if session.chunks is None:
        raise Internal("A session of the older APIs is in chunks.")
    return session.chunks.total


def received_chunks(session: UploadSession) -> int:
    """Return how many distinct chunks are stored, all of them once nothing is awaited."""
    return total_chunks(session) if session.has_all_chunks else session.progress.received_chunks


def upload_status(session: UploadSession | None) -> answers.UploadStatus:
    """Return how far a file is; None, and a file that was given up, are `not_found`."""
    if session is None or session.state in CLOSED:
        return {"status": "not_found", "file_exists": False}
    if session.state is State.COMPLETED:
        return {"status": "completed", "file_exists": True}
    if session.state in FAILED:
        said = session.error.message if session.error else f"The upload is {session.state.value}."
        return {"status": "failed", "file_exists": False, "detail": said}
    whole = session.has_all_chunks
    return {
        "status": "uploading",
        "uploaded_chunks": total_chunks(session) if whole else session.progress.unbroken_chunks,
        "file_exists": False,
        "received_chunks": received_chunks(session),
        "missing_chunks": session.missing_chunks,
        "total_chunks": total_chunks(session),
        "phase": session.phase,
        "fraction": session.fraction,
    }


def from_one(ranges: str) -> str:
    """Return ranges of numbers from 0 as ranges of numbers from 1: `0-2,5` as `1-3,6`."""
    return _NUMBER.sub(lambda match: str(int(match[0]) + 1), ranges)


def part_status(session: UploadSession) -> str:
    """Return the state in form D's words."""
    if session.state is not State.OPEN:
        return session.state.value.upper()
    if session.chunks is not None and session.chunks.completes_itself:
        return "COMPLETING"
    return "IN_PROGRESS" if received_parts(session) else "INIT"


def received_parts(session: UploadSession) -> int:
    """Return how many distinct parts are stored, whatever they are to the storage."""
    return received_chunks(session) if session.chunks else session.progress.received_parts


def total_parts(session: UploadSession) -> int | None:
    """Return how many parts the client sends, None where that is not known yet."""
    return session.chunks.total if session.chunks else session.plan.part_count


def part_session(session: UploadSession, session_id: str) -> answers.PartSession:
    """Return the session as form D shows it, under the id that its client knows."""
    chunks, problem = session.chunks, session.error
    return {
        "session_id": session_id,
        "status": part_status(session),
        "filename": session.filename,
        "content_type": session.content_type,
        "size": session.size,
        "part_size": chunks.size if chunks else session.part_size,
        "total_parts": total_parts(session),
        "received_parts_count": received_parts(session),
        "missing_parts": from_one(session.missing_chunks) if chunks else session.missing,
        "created_at": time_to_text(session.created_at),
        "updated_at": time_to_text(session.updated_at),
        "expires_at": time_to_text(session.expires_at),
        "error": (
            {"code": problem.code, "message": problem.message, "hint": problem.hint}
            if problem
            else None
        ),
    }
