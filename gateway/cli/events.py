"""`gateway events`: what was handed on, as it happens, and what webhooks did not take.

A tool for admins: it reads the settings of `gateway serve` and talks to Redis itself, as
`gateway doctor` does. Following takes nothing away from anybody: consumer groups get all the same.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.text import Text

from gateway.app import redis_options, webhook_endpoints
from gateway.cli.exits import Exit
from gateway.cli.flags import with_settings
from gateway.cli.remote import Json, human_size, print_json, run, say
from gateway.config import Settings
from gateway.core.clock import SystemClock
from gateway.core.outbox import EventStream, Letter, Letters, StreamEntry
from gateway.core.record import time_to_text
from gateway.errors import InvalidRequest, NotFound, Unavailable
from gateway.state.redis.client import connect
from gateway.state.redis.events import RedisEventStream, RedisLetters

_PAGE: Final = 100
# Seconds. Shorter than the deadline of a call to Redis.
_WAIT: Final = 2.0
_AGAIN: Final = 1.0
_GIVE_UP_AFTER: Final = 60.0
_COLOURS: Final = {"upload.completed": "green", "upload.corrupt": "red", "upload.rejected": "red"}
_Page = Callable[..., Awaitable[Sequence[Letter]]]


def _events(
    settings: Settings,
    event_id: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", show_default=False, help="The event to --replay."),
    ] = None,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="POSITION",
            help="Only what comes after this, the last word of a line; 0 is all that is kept, and "
            "without --follow the default.",
        ),
    ] = None,
    dead: Annotated[
        bool, typer.Option("--dead", help="Those that webhooks did not take, and why.")
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Send one of those again, or --all.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="With --replay: all of them.")] = False,
    json: Json = False,
) -> None:
    """Show the events that are handed on, follow them, or send those given up again.

    With --json, an event is a line of JSON.
    """
    if sum((dead, replay, follow or since is not None)) > 1:
        raise typer.BadParameter("Of --dead, --replay and --follow or --since, give one.")
    if replay and (event_id is None) != every:
        raise typer.BadParameter("--replay takes the id of an event, or --all.")
    if not replay and (event_id is not None or every):
        raise typer.BadParameter("An id, or --all, belongs to --replay.")
    if replay:
        run(_replay(settings, event_id))
    if dead:
        run(_list_dead(settings, json=json))
    run(_show(settings, since, follow=follow, json=json))


events = with_settings(_events)


async def _show(settings: Settings, since: str | None, *, follow: bool, json: bool) -> Exit:
    async with _opened(settings) as (stream, _):
        position = since or (await stream.newest() if follow else "0")
        show = _as_json if json else _as_line
        while entries := await stream.read(position, limit=_PAGE):
            for entry in entries:
                show(entry)
            position = entries[-1].position
        while follow:
            for entry in await _next(stream, position):
                show(entry)
                position = entry.position
    return Exit.DONE


async def _next(stream: EventStream, position: str) -> Sequence[StreamEntry]:
    """Wait for more, also while Redis is away for a moment."""
    loop = asyncio.get_running_loop()
    last_success = loop.time()
    while True:
        try:
            return await stream.read(position, limit=_PAGE, wait=_WAIT)
        except Unavailable as error:
            if not error.retryable or loop.time() - last_success > _GIVE_UP_AFTER:
                raise
            if loop.time() - last_success < _AGAIN + _WAIT:
                say(f"{error.message} Waiting for it.")
            await asyncio.sleep(_AGAIN)


def _as_json(entry: StreamEntry) -> None:
    document = orjson.loads(entry.document)
    print_json({**document, "position": entry.position} if document else None)


def _as_line(entry: StreamEntry) -> None:
    document: dict[str, Any] = orjson.loads(entry.document) or {}
    size = document.get("size")
    words = [
        document.get("time", ""),
        Text(document.get("type", "?"), style=_COLOURS.get(document.get("type", ""), "")),
        document.get("session_id", ""),
        document.get("filename", ""),
        "" if size is None else human_size(size),
        (document.get("error") or {}).get("code", ""),
        entry.position,
    ]
    _print([word for word in words if word])


async def _list_dead(settings: Settings, *, json: bool) -> Exit:
    found = False
    async with _opened(settings) as (_, letters):
        async for _, name, letter in _undelivered(_endpoints(settings), letters):
            found = True
            if json:
                print_json(_letter_document(name, letter))
            else:
                event = letter.event
                _print(
                    [
                        _time(letter.at),
                        Text(event.type.value, style=_COLOURS.get(event.type.value, "")),
                        event.event_id,
                        name,
                        f"{letter.attempts} attempts",
                        letter.reason or "no attempt",
                    ]
                )
    if not found:
        say("Webhooks have taken all events, or are still being tried.")
    return Exit.DONE


def _letter_document(name: str, letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.event.event_id,
        "type": letter.event.type.value,
        "session_id": letter.event.session_id,
        "time": time_to_text(letter.event.at),
        "webhook": name,
        "attempts": letter.attempts,
        "reason": letter.reason,
        "since": time_to_text(letter.since),
        "given_up_at": _time(letter.at),
    }


async def _undelivered(
    present: Mapping[str, str], letters: Letters
) -> AsyncIterator[tuple[str, str, Letter]]:
    """Yield what was given up, and what waits for a webhook that is no longer in the settings.

    With each the id and the name of its webhook.
    """
    for endpoint, name in {**await letters.endpoints(), **present}.items():
        lists: list[_Page] = [letters.dead]
        if endpoint not in present:
            lists.append(letters.waiting)
        for page in lists:
            start = 0
            while found := await page(endpoint, start=start, limit=_PAGE):
                for letter in found:
                    yield endpoint, name, letter
                start += _PAGE


async def _replay(settings: Settings, event_id: str | None) -> Exit:
    present = _endpoints(settings)
    if not present:
        raise InvalidRequest(
            "There is no webhook to send anything to.",
            code="no_webhooks",
            hint="Give this command the settings of the gateway: webhook_url is not set.",
        )
    async with _opened(settings) as (_, letters):
        # Collected first: what is sent again may be given up again meanwhile.
        found = [
            (endpoint, letter)
            async for endpoint, _, letter in _undelivered(present, letters)
            if event_id in {None, letter.event.event_id}
        ]
        now = SystemClock().now()
        for endpoint, letter in found:
            if endpoint in present:
                await letters.replay(endpoint, letter.event.event_id, now)
                continue
            for other in present:
                await letters.add(other, letter.event, now)
            await letters.delivered(endpoint, letter.event.event_id)
    if event_id is not None and not found:
        raise NotFound(
            "No webhook has given up such an event.",
            code="no_such_event",
            hint="gateway events --dead lists those that were given up.",
        )
    say(f"{len(found)} given up {'is' if len(found) == 1 else 'are'} sent again.")
    return Exit.DONE


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[EventStream, Letters]]:
    client = connect(redis_options(settings))
    try:
        prefix = settings.redis_prefix
        yield RedisEventStream(client, prefix=prefix), RedisLetters(client, prefix=prefix)
    finally:
        await client.close()


def _endpoints(settings: Settings) -> dict[str, str]:
    return {one.endpoint_id: one.name for one in webhook_endpoints(settings)}


def _time(moment: datetime | None) -> str:
    return "" if moment is None else time_to_text(moment)


def _print(words: Sequence[str | Text]) -> None:
    line = Text("  ").join(Text(word) if isinstance(word, str) else word for word in words)
    if sys.stdout.isatty():
        Console().print(line, soft_wrap=True)
    else:
        print(line.plain, flush=True)
