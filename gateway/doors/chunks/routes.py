"""The door of the older chunk APIs: the routes of all four, and errors in the words of each.

Forms A and B are their own; C and D share `/uploads` with the native API, and its credentials.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from aiohttp import hdrs, web

from gateway.core.access import Principal
from gateway.core.service import UploadService
from gateway.doors.chunks import answers, form_a, form_b, form_d, render
from gateway.doors.chunks.form_a import FormA
from gateway.doors.chunks.form_b import FormB
from gateway.doors.chunks.form_c import FormC
from gateway.doors.chunks.form_d import FormD
from gateway.doors.chunks.openapi import OPERATIONS
from gateway.doors.chunks.wording import detail
from gateway.errors import GatewayError
from gateway.web.digests import DIGEST_HEADERS
from gateway.web.door import Door
from gateway.web.errors import REQUEST_ID, problem_response, status_of
from gateway.web.operations import Operation


@dataclass(frozen=True, slots=True)
class ChunksOptions:
    """What the door needs of the settings.

    `principal` is who calls of forms A and B without credentials are, None: they need some. `wait`
    is how many seconds an answer waits for a completion.
    """

    principal: Principal | None = None
    wait: float = 10.0


class ChunksDoor(Door):
    """Forms A, B, C and D."""

    prefixes: ClassVar[tuple[str, ...]] = (
        *form_a.PREFIXES,
        *form_b.PREFIXES,
        *form_d.PREFIXES,
        # Of form C; where the native door is there, it answers for these, in the same words.
        "/uploads",
    )
    request_headers: ClassVar[tuple[str, ...]] = (
        *Door.request_headers,
        "Idempotency-Key",
        *DIGEST_HEADERS,
    )
    exposed_headers: ClassVar[tuple[str, ...]] = (*Door.exposed_headers, "ETag", "Location")

    def __init__(self, service: UploadService, options: ChunksOptions | None = None) -> None:
        self._options = options or ChunksOptions()
        wait = self._options.wait
        self._forms = (
            FormA(service, wait=wait),
            FormB(service, wait=wait),
            FormC(service),
            FormD(service, wait=wait),
        )

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes of all forms."""
        return [route for form in self._forms for route in form.routes()]

    def operations(self) -> Sequence[Operation]:
        """Describe them."""
        return OPERATIONS

    def anonymous(self, request: web.Request) -> Principal | None:
        """Return who calls of forms A and B are, which know no credentials."""
        return self._options.principal if _has_posts(request) else None

    def render_error(self, request: web.Request, error: GatewayError) -> web.StreamResponse:
        """Render an error in the words of the form that the path belongs to."""
        if not (_has_posts(request) or _lies_under(request, form_d.PREFIXES)):
            return problem_response(error, request[REQUEST_ID])
        status = status_of(error)
        text = detail(error, sending=request.method in {hdrs.METH_POST, hdrs.METH_PUT})
        if _lies_under(request, form_d.PREFIXES):
            return render.json_response(form_d.error_document(error, text), status=status)
        if _lies_under(request, form_b.PREFIXES):
            return render.json_response(form_b.error_document(error, text), status=status)
        document: answers.Detail = {"detail": text}
        return render.json_response(document, status=status)


def _has_posts(request: web.Request) -> bool:
    return _lies_under(request, (*form_a.PREFIXES, *form_b.PREFIXES))


def _lies_under(request: web.Request, prefixes: Sequence[str]) -> bool:
    return any(
        request.path == prefix or request.path.startswith(f"{prefix}/") for prefix in prefixes
    )
