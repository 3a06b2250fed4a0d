"""Form B: chunks posted to `/administration/upload/chunk/`, assembled when the client says so.

What can be assembled is assembled before that. Paths end in a slash, as Django's do; without it
they are the same.
"""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final

from aiohttp import hdrs, web

from gateway.core.model import UploadSession
from gateway.core.service import UploadService
from gateway.doors.chunks import answers, render
from gateway.doors.chunks.posts import PostForm, receive_chunk
from gateway.doors.chunks.wording import missing_parameter
from gateway.errors import GatewayError, SessionNotFound
from gateway.web.bodies import expect_later
from gateway.web.door import PRINCIPAL
from gateway.web.forms import read_fields
from gateway.web.turns import in_turn

PREFIXES: Final = ("/administration/upload",)
NAMES: Final = PostForm("b", "upload_id", "file_name", ("chunk", "file"), completes_itself=False)

_POLL_AFTER: Final = "1"
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FormB:
    """The calls of `spec-009-chunked-uploads.fr.md`. `wait` bounds a completion's answer, in s."""

    def __init__(self, service: UploadService, *, wait: float) -> None:
        self._service = service
        self._wait = wait

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes, each with and without its last slash."""
        calls: list[tuple[str, str, _Handler]] = [
            ("POST", "/administration/upload/chunk", in_turn(self.upload_chunk)),
            ("POST", "/administration/upload/complete", self.complete),
            ("GET", "/administration/upload/status/{upload_id}", self.status),
        ]
        for method, path, handler in calls:
            for address in (f"{path}/", path):
                if method == hdrs.METH_GET:
                    yield web.get(address, handler, allow_head=True, expect_handler=expect_later)
                else:
                    yield web.route(method, address, handler, expect_handler=expect_later)

    async def upload_chunk(self, request: web.Request) -> web.StreamResponse:
        """Take one chunk."""
        file, session = await receive_chunk(
            request, self._service, request[PRINCIPAL], NAMES, wait=self._wait
        )
        return render.json_response(_document(session, file.file_id))

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Complete and verify: 200 when it is through, 202 while it is under way."""
        fields = await read_fields(request)
        upload_id = fields.get(NAMES.file_id)
        if not upload_id:
            raise missing_parameter(NAMES.file_id)
        principal = request[PRINCIPAL]
        found = await self._service.find_chunked(principal, NAMES.form, upload_id)
        session = await self._service.complete(principal, found.session_id, wait=self._wait)
        document = _document(session, upload_id)
        if document["status"] == "completed":
            return render.json_response(document)
        return render.json_response(document, status=202, headers={hdrs.RETRY_AFTER: _POLL_AFTER})

    async def status(self, request: web.Request) -> web.StreamResponse:
        """Tell how far a file is; an unknown one is no error."""
        upload_id = request.match_info["upload_id"]
        session: UploadSession | None = None
        with suppress(SessionNotFound):
            session = await self._service.find_chunked(request[PRINCIPAL], NAMES.form, upload_id)
        document: answers.AdministeredStatus = {
            "upload_id": upload_id,
            "file_name": session.filename if session else None,
            **render.upload_status(session),
        }
        return render.json_response(document)


def _document(session: UploadSession, upload_id: str) -> answers.AdministeredChunk:
    return {
        "upload_id": upload_id,
        "file_name": session.filename,
        "status": render.status_word(session),
        "uploaded_chunks": render.received_chunks(session),
        "total_chunks": render.total_chunks(session),
        "phase": session.phase,
        "fraction": session.fraction,
    }


def error_document(error: GatewayError, text: str) -> answers.Detail:
    """Return an error with the names that this form has for the same things."""
    document: answers.Detail = {
        "detail": text.replace("file_id", "upload_id").replace("filename", "file_name")
    }
    # What a client has to send before it may complete.
    if error.code == "chunks_missing" and "missing" in error.details:
        document["missing_chunks"] = error.details["missing"]
    return document
