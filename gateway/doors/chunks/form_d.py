"""Form D: `/uploads/sessions`, parts by number from 1, of whatever size the client likes.

Parts that the store takes as they are go straight through. Smaller ones are put together, as the
chunks of forms A and B are; to the client there is no difference.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable
from typing import Annotated, Final

from aiohttp import hdrs, web
from pydantic import Field, WithJsonSchema

from gateway.core.access import Principal
from gateway.core.incoming import Incoming
from gateway.core.model import (
    DEFAULT_CONTENT_TYPE,
    ChunkedFile,
    NewUpload,
    State,
    UploadSession,
    check_session_id,
)
from gateway.core.service import UploadService
from gateway.doors.chunks import answers, render
from gateway.errors import GatewayError, Internal, InvalidRequest, SessionNotFound
from gateway.web.bodies import Wire, expect_later, iter_body, read_json
from gateway.web.digests import read_digests
from gateway.web.door import PRINCIPAL
from gateway.web.forwarding import front_of
from gateway.web.idempotency import idempotency_key
from gateway.web.turns import in_turn

PREFIXES: Final = ("/uploads/sessions",)
FORM: Final = "d"

_CODES: Final = {
    "chunk_conflict": "part_conflict",
    "chunk_size_mismatch": "part_length_mismatch",
    "chunk_too_large": "part_size_out_of_range",
    "chunks_missing": "parts_missing",
    "file_id_taken": "idempotency_mismatch",
    "total_chunks_changed": "idempotency_mismatch",
    "total_chunks_out_of_range": "part_size_out_of_range",
}
# How the ids of sessions begin whose parts are put together; all others are the storage's parts.
_CHUNKED: Final = "d-"

_NUMBER: Final = re.compile(r"[0-9]{1,7}", re.ASCII)
_POLL_AFTER: Final = "1"
_Size = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0})]
_Positive = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1})]


class NewPartSession(Wire):
    """What is to be uploaded, and in which parts."""

    filename: str = Field(description="the file's own name, without a path")
    size: _Size = Field(description="bytes of the file")
    part_size: _Positive | None = Field(
        None, description="bytes of every part but the last; small ones are put together"
    )
    total_parts: _Positive | None = Field(
        None, description="in how many parts of one size, instead of part_size"
    )
    content_type: str | None = Field(None, description=f"{DEFAULT_CONTENT_TYPE} if left out")

    def chosen_part_size(self) -> int | None:
        """Return the size of parts that was asked for, None where the gateway may choose.

        Raises InvalidRequest `invalid_total_parts` where no size of parts makes so many of them, or
        where one of the two is not positive.
        """
        if any(number is not None and number < 1 for number in (self.total_parts, self.part_size)):
            raise _invalid_total("total_parts and part_size must be positive.")
        if self.total_parts is None:
            return self.part_size
        part_size = self.part_size or max(1, _ceil_div(self.size, self.total_parts))
        if max(1, _ceil_div(self.size, part_size)) != self.total_parts:
            raise _invalid_total(
                f"{self.size} bytes do not make {self.total_parts} parts of one size."
            )
        return part_size


class FormD:
    """The calls of `pep-0012-chunk-upload-endpoint.md`. `wait` bounds a completion's answer."""

    def __init__(self, service: UploadService, *, wait: float) -> None:
        self._service = service
        self._wait = wait

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes."""
        session = "/uploads/sessions/{session_id}"
        later = expect_later
        return [
            web.post("/uploads/sessions", self.create, expect_handler=later),
            web.get(session, self.get, allow_head=True, expect_handler=later),
            web.delete(session, self.abort, expect_handler=later),
            web.put(
                f"{session}/parts/{{part_number}}", in_turn(self.put_part), expect_handler=later
            ),
            web.post(f"{session}/complete", self.complete, expect_handler=later),
        ]

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Create a session."""
        principal = request[PRINCIPAL]
        body = await read_json(request, NewPartSession)
        part_size = body.chosen_part_size()
        session, session_id = (
            await self._open_relayed(principal, body, part_size, idempotency_key(request))
            if self._fits_storage(body.size, part_size)
            else await self._open_chunked(principal, body, part_size, idempotency_key(request))
        )
        location = front_of(request).absolute(request, f"/uploads/sessions/{session_id}")
        return render.json_response(
            render.part_session(session, session_id), status=201, headers={hdrs.LOCATION: location}
        )

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Tell the status."""
        session = await self._find(request)
        return render.json_response(render.part_session(session, _session_id(request)))

    async def put_part(self, request: web.Request) -> web.StreamResponse:
        """Take one part."""
        principal = request[PRINCIPAL]
        number = _part_number(request)
        session = await self._find(request)
        if session.chunks is None:
            session, part, outcome = await self._service.put_part(
                principal,
                session.session_id,
                number,
                iter_body(request),
                size=request.content_length,
                checksums=read_digests(request),
            )
            size = part.size
        else:
            size = _chunk_length(session, number)
            # It counts the bytes, and holds the last of them back until they were right.
            incoming = Incoming(session, iter_body(request), size, read_digests(request))
            file = ChunkedFile(
                form=FORM,
                file_id=_session_id(request),
                total_chunks=session.chunks.total,
                filename=session.filename,
                content_type=session.content_type,
            )
            session, outcome = await self._service.put_chunk(
                principal, file, number - 1, incoming.blocks(), size=size, wait=self._wait
            )
        document: answers.NumberedPart = {
            "session_id": _session_id(request),
            "part_number": number,
            "size": size,
            "outcome": outcome.value,
            "status": render.part_status(session),
            "received_parts_count": render.received_parts(session),
            "total_parts": render.total_parts(session),
        }
        return render.json_response(document)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Complete and verify: 200 when it is through, 202 while it is under way."""
        session = await self._find(request)
        session = await self._service.complete(
            request[PRINCIPAL], session.session_id, wait=self._wait
        )
        render.status_word(session)
        document = render.part_session(session, _session_id(request))
        if session.state is State.COMPLETED:
            return render.json_response(document)
        return render.json_response(document, status=202, headers={hdrs.RETRY_AFTER: _POLL_AFTER})

    async def abort(self, request: web.Request) -> web.StreamResponse:
        """Abort; also the second time."""
        session = await self._find(request)
        await self._service.abort(request[PRINCIPAL], session.session_id)
        return web.Response(status=204)

    def _fits_storage(self, size: int, part_size: int | None) -> bool:
        """Tell whether parts of this size are parts of the storage as they are."""
        limits = self._service.limits.parts
        if part_size is None or part_size >= size:
            return True
        return part_size >= limits.min_part_size and _ceil_div(size, part_size) <= limits.max_parts

    async def _open_relayed(
        self, principal: Principal, body: NewPartSession, part_size: int | None, key: str | None
    ) -> tuple[UploadSession, str]:
        if part_size is not None:
            # A single part may be smaller than the least that a plan is made with.
            part_size = max(part_size, self._service.limits.parts.min_part_size)
        session, _ = await self._service.create(
            principal,
            NewUpload(
                filename=body.filename,
                size=body.size,
                part_size=part_size,
                content_type=body.content_type or DEFAULT_CONTENT_TYPE,
                idempotency_key=key,
            ),
        )
        return session, session.session_id

    async def _open_chunked(
        self, principal: Principal, body: NewPartSession, part_size: int | None, key: str | None
    ) -> tuple[UploadSession, str]:
        part_size = part_size or body.size
        name = hashlib.sha256(key.encode()).hexdigest()[:32] if key else secrets.token_hex(16)
        session_id = _CHUNKED + name
        file = ChunkedFile(
            form=FORM,
            file_id=session_id,
            total_chunks=_ceil_div(body.size, part_size),
            filename=body.filename,
            content_type=body.content_type or DEFAULT_CONTENT_TYPE,
        )
        session = await self._service.open_chunked(
            principal, file, chunk_size=part_size, size=body.size
        )
        return session, session_id

    async def _find(self, request: web.Request) -> UploadSession:
        session_id = _session_id(request)
        if session_id.startswith(_CHUNKED):
            return await self._service.find_chunked(request[PRINCIPAL], FORM, session_id)
        session = await self._service.get(request[PRINCIPAL], check_session_id(session_id))
        if session.chunks is not None:
            # One whose client knows it by another name: a part sent here would begin a new file.
            raise SessionNotFound
        return session


def error_document(error: GatewayError, text: str) -> answers.Refusal:
    """Return an error with this form's own names: to its clients small parts are parts too."""
    document: answers.Refusal = {
        "detail": text.replace("chunk", "part"),
        "code": _CODES.get(error.code, error.code),
    }
    if document["code"] == "parts_missing" and "missing" in error.details:
        missing = error.details["missing"]
        if error.code == "chunks_missing":
            missing = render.from_one(missing)
        document["missing_parts"] = missing
        document["detail"] = f"Parts are missing: {missing}. Send them, then complete again."
    return document


def _session_id(request: web.Request) -> str:
    return request.match_info["session_id"]


def _part_number(request: web.Request) -> int:
    text = request.match_info["part_number"]
    if not _NUMBER.fullmatch(text):
        raise _no_such_part("Part numbers are whole numbers from 1.")
    return int(text)


def _chunk_length(session: UploadSession, number: int) -> int:
    chunks, size = session.chunks, session.size
    if chunks is None or chunks.size is None or size is None:
        raise Internal("A session of this form has a plan from its beginning.")
    if not 1 <= number <= chunks.total:
        raise _no_such_part(f"Its parts are numbered from 1 to {chunks.total}.")
    return min(chunks.size, size - (number - 1) * chunks.size)


def _no_such_part(hint: str) -> InvalidRequest:
    return InvalidRequest(
        "The session has no such part.", code="part_number_out_of_range", hint=hint
    )


def _invalid_total(message: str) -> InvalidRequest:
    return InvalidRequest(
        message,
        code="invalid_total_parts",
        hint="Send part_size, or a total_parts that makes parts of one size, the last one smaller.",
    )


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
