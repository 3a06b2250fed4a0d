"""What a front door is, and how the one application finds the door that a request belongs to.

A door speaks one wire protocol: it parses, calls one verb, renders. It does not authenticate,
set CORS headers or turn errors into answers; the pipeline does that for all doors alike, and asks
the door only for the words.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

from aiohttp import web

from gateway.core.access import Principal
from gateway.errors import GatewayError
from gateway.web.operations import Operation

PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)
"""The caller of a door, set before the door's handler runs, unless the route is public."""


class Door(ABC):
    """One wire protocol. `prefixes` are the paths that it owns, for what no route matches.

    `request_headers` are those that a page elsewhere may send, `exposed_headers` those that it may
    read, beyond the few that browsers always allow.
    """

    prefixes: ClassVar[tuple[str, ...]] = ()
    request_headers: ClassVar[tuple[str, ...]] = ("Authorization", "Content-Type", "X-Request-Id")
    exposed_headers: ClassVar[tuple[str, ...]] = ("X-Request-Id", "Retry-After", "Date")

    @abstractmethod
    def routes(self) -> Iterable[web.RouteDef]:
        """Return the door's routes, with full paths."""

    def operations(self) -> Sequence[Operation]:
        """Describe the routes for the OpenAPI document, unless their protocol is another's."""
        return ()

    @abstractmethod
    def render_error(self, request: web.Request, error: GatewayError) -> web.StreamResponse:
        """Render any error in the protocol's own form; never raises.

        A code that the door does not know falls back by kind. Headers that HTTP wants beside an
        error (Retry-After, Allow...) are added by the pipeline.
        """

    def is_public(self, request: web.Request) -> bool:  # noqa: ARG002 - doors override it.
        """Tell whether this request needs no credentials; it then has no principal either."""
        return False

    def anonymous(self, request: web.Request) -> Principal | None:  # noqa: ARG002 - the same.
        """Return who it is that sends this request without credentials, or None: it needs them."""
        return None

    def stop(self) -> None:  # noqa: B027 - most doors have no long answers.
        """End answers that would go on for long; called, perhaps twice, when the server shuts down.

        Must return at once: it makes long handlers end soon, it does not wait for them.
        """


class DoorTable:
    """All doors of one application: which one a request belongs to."""

    def __init__(self, doors: Sequence[Door]) -> None:
        self.doors = tuple(doors)
        self._by_route: dict[web.AbstractRoute, Door] = {}
        self._by_prefix = sorted(
            ((prefix, door) for door in doors for prefix in door.prefixes),
            # Stable, so that of two doors with one prefix the first one answers.
            key=lambda item: len(item[0]),
            reverse=True,
        )

    def mount(self, app: web.Application) -> None:
        """Add every door's routes to the application, and end long answers at its shutdown."""
        known = set(app.router.routes())
        for door in self.doors:
            app.router.add_routes(door.routes())
            # What add_routes returns lacks the HEAD routes that come along with GET; a route that
            # is missing here would be nobody's, and need no credentials.
            added = set(app.router.routes()) - known
            self._by_route.update(dict.fromkeys(added, door))
            known |= added

        async def stop(_app: web.Application) -> None:
            for door in self.doors:
                door.stop()

        app.on_shutdown.append(stop)

    def find(self, request: web.Request) -> Door | None:
        """Return the door of the matched route, or the one with the longest prefix, or None.

        A route of nobody's (health, the upload page) belongs to no door.
        """
        info = request.match_info
        door = self._by_route.get(info.route)
        if door is not None or info.http_exception is None:
            return door
        path = request.path
        for prefix, owner in self._by_prefix:
            if path == prefix or path.startswith(prefix.rstrip("/") + "/"):
                return owner
        return None
