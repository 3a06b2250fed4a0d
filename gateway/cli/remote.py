"""What the commands that talk to a gateway share: address, token, interruption, errors, logs.

Results go to standard output, everything else to standard error. The first Ctrl-C or SIGTERM lets
a command stop in order; the second one ends the process at once.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, Final, NoReturn

import orjson
import stamina.instrumentation
import typer

from gateway.cli.exits import Exit, exit_for
from gateway.client import RelayChoice
from gateway.errors import GatewayError

DEFAULT_SERVER = "http://127.0.0.1:8000"

ASK_FOR = 10.0
"""Seconds for which commands that only ask something try to reach the gateway."""

# In the words of the command line, where a gateway speaks of HTTP.
_HINTS: Final = {"unauthenticated": "Set GW_TOKEN, or give --token."}

Server = Annotated[
    str, typer.Option("--server", envvar="GW_SERVER", help="Address of the gateway.")
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="GW_TOKEN",
        show_envvar=True,
        show_default=False,
        help="Bearer token. Better given by the environment: others can read command lines.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Relay = Annotated[
    RelayChoice,
    typer.Option(
        help="Whether the bytes go through the gateway: auto where the store cannot be reached "
        "from here, always, never.",
    ),
]
GiveUpAfter = Annotated[
    float,
    typer.Option(min=0, help="Seconds without any success after which to give up."),
]


def run(work: Coroutine[Any, Any, Exit], *, verbose: bool = True) -> NoReturn:
    """Run a command's work to its end, and exit with its code."""
    _prepare_logs(verbose=verbose)
    try:
        code = asyncio.run(_interruptible(work))
    except GatewayError as error:
        tell(error)
        code = exit_for(error)
    raise typer.Exit(code)


async def _interruptible(work: Coroutine[Any, Any, Exit]) -> Exit:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupt() -> None:
        # From now on a further signal has its usual effect.
        for number in signals:
            loop.remove_signal_handler(number)
        task.cancel()

    for number in signals:
        loop.add_signal_handler(number, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        return Exit.INTERRUPTED
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def tell(error: GatewayError) -> None:
    """Print an error and its hint to standard error."""
    say(f"gateway: {error.message}")
    if hint := _HINTS.get(error.code, error.hint):
        say(f"  hint: {hint}")


def say(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print one line of JSON to standard output."""
    print(orjson.dumps(value).decode(), flush=True)


def human_size(count: float) -> str:
    """Return a number of bytes as people read it: 1.5 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:  # noqa: PLR2004 - the binary units' own step
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def human_time(seconds: float) -> str:
    """Return a duration as people read it: 0:42, 1:02:03, 3 d 4 h."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _prepare_logs(*, verbose: bool) -> None:
    # The client says itself that it tries again; the library's own notes would double that, and
    # some of its reporters write to standard output.
    stamina.instrumentation.set_on_retry_hooks([])
    logger = logging.getLogger("gateway.client")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO if verbose else logging.ERROR)
