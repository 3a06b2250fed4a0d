"""Form C: `PUT /uploads/{id}/part/{idx}`, the native session's parts by their indexes from 0.

Its other calls are the native ones: `/uploads/init`, `/uploads/{id}/complete`, DELETE. So is its
error envelope: code, message, hint and retryable are members of every native problem.
"""

import re
from collections.abc import Iterable
from typing import Final

from aiohttp import hdrs, web

from gateway.core.service import UploadService
from gateway.doors.chunks import answers, render
from gateway.errors import InvalidRequest
from gateway.web.bodies import expect_later, iter_body
from gateway.web.digests import read_digests
from gateway.web.door import PRINCIPAL
from gateway.web.turns import in_turn

_INDEX: Final = re.compile(r"[0-9]{1,5}", re.ASCII)


class FormC:
    """The call of `story-2.1-chunked-upload-pipeline.md` that the native API lacks."""

    def __init__(self, service: UploadService) -> None:
        self._service = service

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the route."""
        return [
            web.put(
                "/uploads/{session_id}/part/{idx}",
                in_turn(self.put_part),
                expect_handler=expect_later,
            )
        ]

    async def put_part(self, request: web.Request) -> web.StreamResponse:
        """Relay one part to the store."""
        text = request.match_info["idx"]
        if not _INDEX.fullmatch(text):
            raise InvalidRequest(
                "The path holds no index of a part.",
                code="part_number_out_of_range",
                hint="Indexes are whole numbers from 0.",
            )
        try:
            session, part, outcome = await self._service.put_part(
                request[PRINCIPAL],
                request.match_info["session_id"],
                int(text) + 1,
                iter_body(request),
                size=request.content_length,
                checksums=read_digests(request),
            )
        except InvalidRequest as error:
            if error.code == "part_number_out_of_range":
                error.hint = f"An index is the number of a part less 1. {error.hint}"
            raise
        document: answers.IndexedPart = {
            "upload_id": session.session_id,
            "idx": part.number - 1,
            "size": part.size,
            "etag": part.etag,
            "checksum": part.checksum,
            "outcome": outcome.value,
            "received_parts": session.progress.received_parts,
            "part_count": session.plan.part_count,
            "received_bytes": session.progress.received_bytes,
            "fraction": session.fraction,
        }
        return render.json_response(document, headers={hdrs.ETAG: f'"{part.etag}"'})
