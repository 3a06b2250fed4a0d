"""Who calls, and what they may do. Pure: credentials are turned into principals elsewhere."""

from dataclasses import dataclass

from gateway.core.model import UploadSession
from gateway.errors import Forbidden, SessionNotFound

READ = "uploads:read"
WRITE = "uploads:write"
ALL_SCOPES = frozenset({READ, WRITE})


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: its id owns sessions, its scopes say what it may do with them."""

    principal_id: str
    scopes: frozenset[str] = ALL_SCOPES


def authorize(principal: Principal, scope: str, session: UploadSession | None = None) -> None:
    """Raise unless the principal has the scope and owns the session.

    A foreign session raises SessionNotFound, so that ids of others cannot be told from unknown
    ones; that check comes first, or a missing scope would tell them apart.
    """
    if session is not None and session.owner != principal.principal_id:
        raise SessionNotFound
    if scope not in principal.scopes:
        raise Forbidden(
            f"This token lacks the scope {scope}.",
            code="scope_missing",
            hint="Use a token that carries this scope.",
            details={"scope": scope},
        )
