"""`gateway abort`: gives an upload up for good."""

from typing import Annotated

import typer

from gateway.cli.exits import Exit
from gateway.cli.remote import ASK_FOR, DEFAULT_SERVER, Server, Token, run, say
from gateway.client import GatewayClient


def abort(
    session_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", show_default=False, help="Session, as gateway status lists it."
        ),
    ],
    server: Server = DEFAULT_SERVER,
    token: Token = None,
) -> None:
    """Abort an upload and delete the parts it has stored.

    A completed upload is left alone.
    """
    run(_abort(session_id, server, token))


async def _abort(session_id: str, server: str, token: str | None) -> Exit:
    async with GatewayClient(server, token=token, retry_for=ASK_FOR) as client:
        await client.abort(session_id)
    say(f"Session {session_id} is aborted.")
    return Exit.DONE
