"""`gateway status`: the caller's sessions as a table, or one of them in full, followed on demand."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.cli.display import Speed
from gateway.cli.exits import Exit
from gateway.cli.remote import (
    ASK_FOR,
    DEFAULT_SERVER,
    Json,
    Server,
    Token,
    human_size,
    human_time,
    print_json,
    run,
    say,
)
from gateway.client import SETTLED, GatewayClient, Session

POLL: Final = 2.0
_WIDE: Final = 200
_ENDS: Final = {"corrupt": Exit.CORRUPT, "rejected": Exit.REFUSED}
_COLOURS: Final = {
    "completed": "green",
    "open": "cyan",
    "completing": "yellow",
    "verifying": "yellow",
    "corrupt": "bold red",
    "rejected": "bold red",
}


def status(
    session_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", show_default=False, help="One session only.")
    ] = None,
    *,
    server: Server = DEFAULT_SERVER,
    token: Token = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow until it is settled, or Ctrl-C.")
    ] = False,
    state: Annotated[
        str | None, typer.Option(metavar="STATES", help="Only these, such as open,verifying.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    json: Json = False,
) -> None:
    """Show upload sessions, or one of them.

    With --json, one session is one line of JSON; followed, it is a line for every change.
    """
    states = tuple(part.strip() for part in state.split(",")) if state else ()
    if session_id is None:
        run(_list(server, token, states, limit, watch=watch, json=json))
    run(_one(server, token, session_id, watch=watch, json=json))


async def _one(server: str, token: str | None, session_id: str, *, watch: bool, json: bool) -> Exit:
    async with GatewayClient(server, token=token, retry_for=ASK_FOR) as client:
        if watch:
            session = await _follow(client, session_id, json=json)
        else:
            session = await client.get(session_id)
            if json:
                print_json(session.raw)
            else:
                Console().print(_details(session))
    return _ENDS.get(session.state, Exit.DONE)


async def _follow(client: GatewayClient, session_id: str, *, json: bool) -> Session:
    async with aclosing(client.follow(session_id)) as changes:
        with _View(json=json) as view:
            async for session in changes:
                view.show(session)
    return session


class _View:
    """Shows one session again and again: live on a terminal, else a line for each change."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._speed = Speed()
        self._last: Any = None
        live = not json and sys.stdout.isatty()
        self._live = Live(console=Console(), auto_refresh=False) if live else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, session: Session) -> None:
        moved = session.received_bytes + int(session.raw.get("in_flight_bytes") or 0)
        speed = self._speed.add(moved)
        if self._live is not None:
            self._live.update(_details(session, speed), refresh=True)
        elif session.raw != self._last:
            self._last = session.raw
            if self._json:
                print_json(session.raw)
            else:
                print(f"{session.state}  {_progress(session)}  {session.filename}", flush=True)


async def _list(
    server: str,
    token: str | None,
    states: tuple[str, ...],
    limit: int,
    *,
    watch: bool,
    json: bool,
) -> Exit:
    async with GatewayClient(server, token=token, retry_for=ASK_FOR) as client:
        sessions = await _sessions(client, states, limit)
        if not watch:
            if json:
                print_json({"uploads": [session.raw for session in sessions]})
            else:
                _print_table(sessions)
            return Exit.DONE
        await _follow_list(client, states, limit, json=json)
    return Exit.DONE


async def _follow_list(
    client: GatewayClient, states: tuple[str, ...], limit: int, *, json: bool
) -> None:
    """Show the list every two seconds, until interrupted."""
    live = not json and sys.stdout.isatty()
    speeds: dict[str, Speed] = {}
    last: Any = None
    with Live(console=Console(quiet=not live), auto_refresh=False, screen=live) as view:
        while True:
            sessions = await _sessions(client, states, limit)
            told = [session.raw for session in sessions]
            if live:
                view.update(_table(sessions, speeds), refresh=True)
            elif told != last:
                if json:
                    print_json({"uploads": told})
                else:
                    _print_table(sessions)
            last = told
            await asyncio.sleep(POLL)


async def _sessions(client: GatewayClient, states: tuple[str, ...], limit: int) -> list[Session]:
    found: list[Session] = []
    async for session in client.find(states=states, page_size=min(limit, 200)):
        found.append(session)
        if len(found) == limit:
            break
    return found


def _print_table(sessions: Sequence[Session]) -> None:
    if sessions:
        # Into a file or a pipe, lines must not be cut to the width of no terminal.
        console = Console() if sys.stdout.isatty() else Console(width=_WIDE)
        console.print(_table(sessions))
    else:
        say("There are no sessions.")


def _table(sessions: Sequence[Session], speeds: dict[str, Speed] | None = None) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("SESSION", no_wrap=True)
    table.add_column("STATE", no_wrap=True)
    table.add_column("NAME", overflow="ellipsis", no_wrap=True, ratio=1)
    table.add_column("SIZE", justify="right", no_wrap=True)
    table.add_column("PROGRESS", justify="right", no_wrap=True)
    table.add_column("SPEED", justify="right", no_wrap=True)
    table.add_column("AGE", justify="right", no_wrap=True)
    for session in sessions:
        table.add_row(
            session.session_id,
            Text(session.state, style=_COLOURS.get(session.state, "")),
            Text(session.filename),
            "?" if session.size is None else human_size(session.size),
            _progress(session),
            _speed(session, speeds),
            _age(session),
        )
    return table


def _speed(session: Session, speeds: dict[str, Speed] | None) -> str:
    if speeds is None or session.state in SETTLED:
        return ""
    moved = session.received_bytes + int(session.raw.get("in_flight_bytes") or 0)
    speed = speeds.setdefault(session.session_id, Speed()).add(moved)
    return f"{human_size(speed)}/s" if speed > 0 else ""


def _details(session: Session, speed: float = 0.0) -> Group:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rows: list[tuple[str, str | Text]] = [
        ("session", session.session_id),
        ("state", Text(session.state, style=_COLOURS.get(session.state, ""))),
        ("name", Text(session.filename)),
        ("size", "not known yet" if session.size is None else human_size(session.size)),
        ("progress", _progress(session)),
    ]
    if speed > 0 and session.state not in SETTLED:
        rows.append(("speed", f"{human_size(speed)}/s"))
    if session.raw.get("missing"):
        rows.append(("missing parts", str(session.raw["missing"])))
    if session.verified_by:
        rows.append(("verified by", session.verified_by))
    if session.object is not None:
        rows.append(("object", Text(f"{session.object.bucket}/{session.object.key}")))
        rows += [(name, value) for name, value in session.object.checksums.items()]
    if session.error:
        rows.append(("error", Text(session.error.get("message", ""), style="red")))
        if session.error.get("hint"):
            rows.append(("", Text(session.error["hint"])))
    rows += [("age", _age(session)), ("expires", str(session.raw.get("expires_at", "")))]
    for row in rows:
        table.add_row(*row)
    return Group(table)


def _progress(session: Session) -> str:
    if session.state == "completed":
        return "100%"
    if session.fraction is not None:
        return f"{session.fraction:.0%}"
    return human_size(session.received_bytes)


def _age(session: Session) -> str:
    try:
        created = datetime.fromisoformat(str(session.raw.get("created_at")))
    except ValueError:
        return ""
    return human_time(max(0.0, (datetime.now(UTC) - created).total_seconds()))
