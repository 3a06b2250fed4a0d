"""The native door: its routes, and one short handler each that parses, calls a verb, renders."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from aiohttp import hdrs, web

from gateway.core.lifecycle import UNSETTLED
from gateway.core.model import State, StoredObject, UploadSession
from gateway.core.record import time_to_text
from gateway.core.service import UploadService
from gateway.doors.native import answers, content, parse, query, render
from gateway.doors.native.events import EventStreams, StreamOptions
from gateway.doors.native.openapi import OPERATIONS
from gateway.errors import Corrupt, GatewayError, Internal, Unavailable
from gateway.web.bodies import PARTS_LIMIT, expect_later, iter_body, read_json
from gateway.web.digests import DIGEST_HEADERS, read_digests
from gateway.web.door import PRINCIPAL, Door
from gateway.web.errors import REQUEST_ID, problem_response
from gateway.web.forwarding import front_of
from gateway.web.idempotency import idempotency_key
from gateway.web.operations import Operation
from gateway.web.turns import in_turn

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# How soon a client should ask again whether a completion is through, in seconds.
_POLL_AFTER = "1"


@dataclass(frozen=True, slots=True)
class NativeOptions:
    """What the native door needs of the settings.

    `relays` is how many files are relayed at once in this process. Each holds a connection to the
    store for as long as its client pleases, and completions need some of these too.
    """

    version: str
    streams: StreamOptions = field(default_factory=StreamOptions)
    relays: int = 32


class NativeDoor(Door):
    """`/uploads` and `/version`."""

    prefixes: ClassVar[tuple[str, ...]] = ("/uploads", "/version")
    request_headers: ClassVar[tuple[str, ...]] = (
        *Door.request_headers,
        "Idempotency-Key",
        "Last-Event-ID",
        "Range",
        "If-Range",
        *DIGEST_HEADERS,
    )
    exposed_headers: ClassVar[tuple[str, ...]] = (
        *Door.exposed_headers,
        "ETag",
        "Location",
        "Link",
        "Content-Range",
        "Content-Disposition",
    )

    def __init__(self, service: UploadService, options: NativeOptions) -> None:
        self._service = service
        self._options = options
        self._streams = EventStreams(options.streams)
        self._relays = 0

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes."""
        session = "/uploads/{session_id}"
        return [
            _route("POST", "/uploads", self.create),
            _route("POST", "/uploads/init", self.create),
            _route("GET", "/uploads", self.find, allow_head=True),
            _route("GET", session, self.get, allow_head=True),
            _route("DELETE", session, self.abort),
            _route("POST", f"{session}/parts/sign", self.sign),
            _route("POST", f"{session}/parts", self.acknowledge),
            _route("GET", f"{session}/parts", self.parts, allow_head=True),
            _route("PUT", f"{session}/parts/{{part_number}}", in_turn(self.put_part)),
            _route("POST", f"{session}/progress", self.report_in_flight),
            _route("POST", f"{session}/complete", self.complete),
            _route("GET", f"{session}/events", self.events),
            _route("GET", f"{session}/content", self.content, allow_head=True),
            _route("GET", "/version", self.version, allow_head=True),
        ]

    def operations(self) -> Sequence[Operation]:
        """Describe them."""
        return OPERATIONS

    def render_error(self, request: web.Request, error: GatewayError) -> web.StreamResponse:
        """Render an error as problem+json."""
        return problem_response(error, request[REQUEST_ID])

    def is_public(self, request: web.Request) -> bool:
        """Tell that anybody may ask for the version."""
        return request.path == "/version"

    def stop(self) -> None:
        """End the event streams."""
        self._streams.stop()

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Create a session, or find it again by its idempotency key."""
        principal = request[PRINCIPAL]
        body = await read_json(request, parse.CreateBody)
        session, created = await self._service.create(
            principal, body.to_core(idempotency_key(request))
        )
        document: answers.Session = self._document(session)
        if body.sign is not None:
            signed = await self._service.sign_first(principal, session, body.sign)
            with_parts: answers.CreatedSession = {
                **document,
                "parts": render.signed_documents(signed),
                "server_time": time_to_text(self._service.now()),
            }
            document = with_parts
        return render.json_response(
            document,
            status=201 if created else 200,
            headers={
                hdrs.LOCATION: front_of(request).absolute(request, f"/uploads/{session.session_id}")
            },
        )

    async def find(self, request: web.Request) -> web.StreamResponse:
        """List the caller's sessions, newest first."""
        page = await self._service.find(
            request[PRINCIPAL],
            states=query.STATE.read(request),
            fingerprint=query.FINGERPRINT.read(request),
            cursor=query.SESSION_CURSOR.read(request),
            limit=query.SESSION_LIMIT.read(request),
        )
        document: answers.SessionPage = {
            "uploads": [self._document(session) for session in page.sessions],
            "next_cursor": page.cursor,
        }
        return render.json_response(document, headers=_next_link(request, page.cursor))

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Tell the status."""
        session = await self._service.get(request[PRINCIPAL], parse.session_id(request))
        return render.json_response(self._document(session))

    async def sign(self, request: web.Request) -> web.StreamResponse:
        """Presign PUTs of parts."""
        session_id = parse.session_id(request)
        body = await read_json(request, parse.SignBody, limit=PARTS_LIMIT)
        parts = await self._service.sign(
            request[PRINCIPAL], session_id, body.to_core(), expires_in=body.expires_in
        )
        document: answers.SignedParts = {
            "parts": render.signed_documents(parts),
            "server_time": time_to_text(self._service.now()),
        }
        return render.json_response(document)

    async def acknowledge(self, request: web.Request) -> web.StreamResponse:
        """Record stored parts."""
        session_id = parse.session_id(request)
        body = await read_json(request, parse.AcknowledgeBody, limit=PARTS_LIMIT)
        parts = [part.to_core() for part in body.parts]
        session, outcomes = await self._service.acknowledge(request[PRINCIPAL], session_id, parts)
        document: answers.AcknowledgedParts = {
            "session": self._document(session),
            "outcomes": [
                {"part_number": part.number, "outcome": outcome.value}
                for part, outcome in zip(parts, outcomes, strict=True)
            ],
        }
        return render.json_response(document)

    async def parts(self, request: web.Request) -> web.StreamResponse:
        """List the stored parts by number; the cursor is the last number of the page before."""
        session_id = parse.session_id(request)
        after = query.PART_CURSOR.read(request)
        limit = query.PART_LIMIT.read(request)
        known = await self._service.parts(request[PRINCIPAL], session_id)
        rest = [part for part in known if part.number > after]
        page = rest[:limit]
        cursor = page[-1].number if len(rest) > limit else None
        document: answers.PartPage = {
            "parts": [render.part_document(part) for part in page],
            "next_cursor": cursor,
        }
        return render.json_response(document, headers=_next_link(request, cursor))

    async def put_part(self, request: web.Request) -> web.StreamResponse:
        """Relay one part to the store."""
        session, part, outcome = await self._service.put_part(
            request[PRINCIPAL],
            parse.session_id(request),
            parse.part_number(request),
            iter_body(request),
            size=request.content_length,
            checksums=read_digests(request),
            replace=query.REPLACE.read(request),
        )
        document: answers.RelayedPart = {
            "session": self._document(session),
            "part": render.part_document(part),
            "outcome": outcome.value,
        }
        return render.json_response(document, headers={hdrs.ETAG: f'"{part.etag}"'})

    async def report_in_flight(self, request: web.Request) -> web.StreamResponse:
        """Take a client's count of bytes on the way."""
        session_id = parse.session_id(request)
        body = await read_json(request, parse.ProgressBody)
        await self._service.report_in_flight(request[PRINCIPAL], session_id, body.to_core())
        return web.Response(status=204)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Complete and verify: 200 when it is through, 202 while it is under way."""
        session_id = parse.session_id(request)
        wait = query.WAIT.read(request)
        body = await read_json(request, parse.CompleteBody, limit=PARTS_LIMIT, optional=True)
        session = await self._service.complete(
            request[PRINCIPAL],
            session_id,
            parts=[part.to_core() for part in body.parts or ()],
            size=body.size,
            checksum=body.checksum.to_core() if body.checksum else None,
            wait=wait,
        )
        return self._completion(session)

    async def abort(self, request: web.Request) -> web.StreamResponse:
        """Abort; also the second time."""
        await self._service.abort(request[PRINCIPAL], parse.session_id(request))
        return web.Response(status=204)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Stream status and progress until the session is settled."""
        sessions = self._service.watch(request[PRINCIPAL], parse.session_id(request))
        return await self._streams.serve(request, sessions, self._document)

    async def content(self, request: web.Request) -> web.StreamResponse:
        """Lead to the bytes: by redirection, as JSON, or relayed. HEAD describes them itself."""
        principal, session_id = request[PRINCIPAL], parse.session_id(request)
        relayed = query.RELAY.read(request)
        found = await self._service.content_url(principal, session_id)
        stored = found.session.object
        if stored is None:
            raise Internal("A completed session has no object.")
        # A presigned GET does not answer HEAD, so a redirection would lead to a refusal.
        if request.method == hdrs.METH_HEAD:
            return content.describe(found.session, stored, content.byte_range(request, stored))
        if relayed:
            return await self._relay(request, found.session, stored)
        headers: dict[str, str] = {hdrs.VARY: hdrs.ACCEPT}
        if parse.wants_json(request):
            document: answers.ContentAddress = {
                "url": found.url,
                "expires_at": time_to_text(found.expires_at),
                "filename": found.session.filename,
                "size": stored.size,
                "content_type": found.session.content_type,
                "checksums": dict(stored.checksums),
            }
            return render.json_response(document, headers=headers)
        return web.Response(status=302, headers={**headers, hdrs.LOCATION: found.url})

    async def version(self, _request: web.Request) -> web.StreamResponse:
        """Tell what runs here and what its store can do."""
        document: answers.Version = {
            "name": "multipart-gateway",
            "version": self._options.version,
            "server_time": time_to_text(self._service.now()),
            "store": render.store_document(self._service.limits),
        }
        return render.json_response(document)

    async def _relay(
        self, request: web.Request, session: UploadSession, stored: StoredObject
    ) -> web.StreamResponse:
        if self._relays >= self._options.relays:
            raise Unavailable(
                "No more files can be relayed now.",
                code="too_many_relays",
                hint="Leave relay=1 out, so that the store itself sends the bytes, or try again.",
                retry_after=5,
            )
        wanted = content.byte_range(request, stored)
        blocks = self._service.read_content(
            request[PRINCIPAL], session.session_id, wanted.start, wanted.stop
        )
        self._relays += 1
        try:
            return await content.relay(request, session, stored, wanted, blocks)
        finally:
            self._relays -= 1

    def _document(self, session: UploadSession) -> answers.Session:
        return render.session_document(session, self._service.limits)

    def _completion(self, session: UploadSession) -> web.StreamResponse:
        document = self._document(session)
        if session.state is State.COMPLETED:
            return render.json_response(document)
        if session.state in UNSETTLED:
            return render.json_response(
                document, status=202, headers={hdrs.RETRY_AFTER: _POLL_AFTER}
            )
        problem = session.error
        raise Corrupt(
            problem.message if problem else f"The upload ended {session.state.value}.",
            code=session.state.value,
            hint=problem.hint if problem else "Send the file again in a new session.",
            details={"session": document},
        )


def _route(method: str, path: str, handler: _Handler, *, allow_head: bool = False) -> web.RouteDef:
    if method == hdrs.METH_GET:
        return web.get(path, handler, allow_head=allow_head, expect_handler=expect_later)
    return web.route(method, path, handler, expect_handler=expect_later)


def _next_link(request: web.Request, cursor: str | int | None) -> dict[str, str] | None:
    if cursor is None:
        return None
    address = request.rel_url.update_query(cursor=str(cursor))
    return {hdrs.LINK: f'<{address}>; rel="next"'}
