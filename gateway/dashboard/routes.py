"""Serves the upload page at `/`, the API's page at `/docs`, and their modules under `/static/`.

The modules may be read from any origin, so that a page elsewhere can import the browser library;
the pages may not be framed, and may talk to the gateway and to the named stores only. All
files are read once, when the routes are made: what is not among them does not exist, so no path
can lead out of the folder. Nothing here knows sessions; the page uses the native API like any
other client, and whether it may is decided there.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from gateway.errors import NotFound
from gateway.web.operations import Answer, Operation, Parameter, Tag

_CONTENT_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".ts": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class DashboardOptions:
    """What the page needs to know of the deployment.

    `connect_origins`: the origins (`https://s3.example`, `http://127.0.0.1:8333`) besides the
    gateway's own that the page may send to: those of the presigned part URLs, as browsers see
    them. Raises ValueError for anything that is not a bare http(s) origin.
    """

    connect_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for origin in self.connect_origins:
            parts = urlsplit(origin)
            bare = f"{parts.scheme}://{parts.netloc}"
            # Checked, because it is copied into a header: a blank or a semicolon would change it.
            odd = any(char in origin for char in " ;,\r\n\t'\"*") or "@" in parts.netloc
            if parts.scheme not in {"http", "https"} or not parts.netloc or odd or origin != bare:
                raise ValueError(f"Not an origin: {origin!r}; write it like https://s3.example.")


@dataclass(frozen=True, slots=True)
class _StaticFile:
    """One file as it is sent."""

    body: bytes
    content_type: str
    etag: str


def routes(options: DashboardOptions) -> list[web.RouteDef]:
    """Make the routes of the page and the static files, ready to be added to the application.

    A path that is not there raises NotFound, for the application's middleware to render.
    """
    files = dict(_read(resources.files(__package__) / "static"))
    page_headers = {
        "Content-Security-Policy": _policy(options),
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    # The library is public and is imported from other origins, by workers too.
    static_headers = {
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }

    async def get_page(request: web.Request) -> web.Response:
        return _respond(request, files["index.html"], page_headers)

    async def get_docs(request: web.Request) -> web.Response:
        return _respond(request, files["docs.html"], page_headers)

    async def get_static(request: web.Request) -> web.Response:
        file = files.get(request.match_info["path"])
        if file is None:
            raise NotFound(
                "There is no such file.", hint="The browser library is /static/uploader.js."
            )
        return _respond(request, file, static_headers)

    return [
        _get("/", get_page, name="upload-page"),
        _get("/docs", get_docs, name="docs"),
        _get("/static/{path:(?s:.+)}", get_static, name="static"),
    ]


_PAGES: Final = Tag("Pages", "For people, and for pages of your own. Nothing here needs a token.")
_FILE_HEADERS: Final = ("ETag", "Cache-Control")
_SAME: Final = Answer(304, "Not changed.", headers=_FILE_HEADERS)
_HTML: Final = {"text/html": {"type": "string"}}

PAGE_OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/",
        operation_id="page",
        tag=_PAGES,
        summary="The upload page",
        answers=[Answer(200, "HTML.", _HTML, _FILE_HEADERS), _SAME],
        public=True,
    ),
    Operation(
        method="GET",
        path="/docs",
        operation_id="docs",
        tag=_PAGES,
        summary="The page of this document",
        answers=[Answer(200, "HTML.", _HTML, _FILE_HEADERS), _SAME],
        public=True,
    ),
    Operation(
        method="GET",
        path="/static/{path}",
        operation_id="static",
        tag=_PAGES,
        summary="A file of the pages, or the browser library",
        description="The library is `/static/uploader.js`, its types `/static/uploader.d.ts`; any"
        " page may import it.",
        parameters=[
            Parameter(
                "path", "path", "The file, slashes as they are.", {"type": "string"}, required=True
            )
        ],
        answers=[
            Answer(200, "The file.", {"*/*": {"type": "string"}}, _FILE_HEADERS),
            _SAME,
        ],
        errors=frozenset({"not_found"}),
        public=True,
    ),
)


def _get(
    path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]], *, name: str
) -> web.RouteDef:
    return web.get(path, handler, name=name, allow_head=True)


def _read(folder: Traversable, prefix: str = "") -> list[tuple[str, _StaticFile]]:
    found: list[tuple[str, _StaticFile]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _read(entry, f"{prefix}{entry.name}/")
            continue
        content_type = _CONTENT_TYPES.get(f".{entry.name.rpartition('.')[2]}")
        if content_type is None:
            continue
        body = entry.read_bytes()
        etag = hashlib.sha256(body).hexdigest()[:32]
        found.append((prefix + entry.name, _StaticFile(body, content_type, etag)))
    return found


def _policy(options: DashboardOptions) -> str:
    connect = " ".join(("'self'", *options.connect_origins))
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            f"connect-src {connect}",
            # The checksum worker; a blob where the library is served from another origin.
            "worker-src 'self' blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _respond(request: web.Request, file: _StaticFile, extra: Mapping[str, str]) -> web.Response:
    headers: dict[str, str] = {
        # Asked again each time, and answered with 304: modules of two versions must never mix.
        hdrs.CACHE_CONTROL: "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        **extra,
    }
    known = request.if_none_match or ()
    if any(etag.value in {file.etag, "*"} for etag in known):
        response = web.Response(status=304, headers=headers)
    else:
        response = web.Response(
            body=file.body, headers={**headers, hdrs.CONTENT_TYPE: file.content_type}
        )
    response.etag = file.etag
    return response
