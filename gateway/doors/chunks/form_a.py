"""Form A: `POST /upload-chunk` and `GET /upload-status/{file_id}`.

The last chunk to arrive completes the file; whoever asks earlier than that is told `uploading`.
"""

from collections.abc import Iterable
from typing import Final

from aiohttp import web

from gateway.core.service import UploadService
from gateway.doors.chunks import answers, render
from gateway.doors.chunks.posts import PostForm, receive_chunk
from gateway.errors import SessionNotFound
from gateway.web.bodies import expect_later
from gateway.web.door import PRINCIPAL
from gateway.web.turns import in_turn

PREFIXES: Final = ("/upload-chunk", "/upload-status")
NAMES: Final = PostForm("a", "file_id", "filename", ("chunk",), completes_itself=True)


class FormA:
    """The calls of `chunked-file-upload.md`. `wait` bounds a last chunk's answer, in seconds."""

    def __init__(self, service: UploadService, *, wait: float) -> None:
        self._service = service
        self._wait = wait

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes."""
        return [
            web.post("/upload-chunk", in_turn(self.upload_chunk), expect_handler=expect_later),
            web.get(
                "/upload-status/{file_id}",
                self.upload_status,
                allow_head=True,
                expect_handler=expect_later,
            ),
        ]

    async def upload_chunk(self, request: web.Request) -> web.StreamResponse:
        """Take one chunk."""
        file, session = await receive_chunk(
            request, self._service, request[PRINCIPAL], NAMES, wait=self._wait
        )
        document: answers.UploadedChunk = {
            "file_id": file.file_id,
            "filename": file.filename,
            "type": "file",
            "status": render.status_word(session),
            "uploaded_chunks": render.received_chunks(session),
            "total_chunks": file.total_chunks,
        }
        return render.json_response(document)

    async def upload_status(self, request: web.Request) -> web.StreamResponse:
        """Tell how far a file is; an unknown one is no error."""
        file_id = request.match_info["file_id"]
        try:
            session = await self._service.find_chunked(request[PRINCIPAL], NAMES.form, file_id)
        except SessionNotFound:
            return render.json_response(render.upload_status(None))
        return render.json_response(render.upload_status(session))
