"""The `gateway` command: a table of commands, and how an error ends one.

Only the module of the command that was asked for is imported, so that `gateway health` in a
container's health check, or `gateway --help`, costs milliseconds and not the import of everything.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer

from gateway.cli.exits import MEANINGS
from gateway.errors import GatewayError

# Where each command's function is and what it does, in the order of `gateway --help`. The summary
# is the first sentence of the function's docstring, written twice so as not to import it.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "upload": (
        "gateway.cli.upload:upload",
        "Upload files, resuming what an earlier try has left unfinished.",
    ),
    "status": ("gateway.cli.status:status", "Show upload sessions, or one of them."),
    "download": ("gateway.cli.download:download", "Download a completed upload, verified."),
    "abort": ("gateway.cli.abort:abort", "Abort an upload and delete the parts it has stored."),
    "events": (
        "gateway.cli.events:events",
        "Show the events that are handed on, follow them, or send those given up again.",
    ),
    "dev": (
        "gateway.cli.dev:dev",
        "Start the gateway with a Valkey and an S3 store of its own; Ctrl-C ends them all.",
    ),
    "serve": (
        "gateway.cli.serve:serve",
        "Serve until told to stop.",
    ),
    "health": (
        "gateway.cli.health:health",
        "Exit with 0 if the gateway is ready (Redis and the store answer), else with 1.",
    ),
    "doctor": (
        "gateway.cli.doctor:doctor",
        "Check settings, Redis and the store; print a fix for each gap.",
    ),
}

_EXIT_CODES: Final = "Exit codes: " + "; ".join(
    f"{code.value} {meaning}" for code, meaning in MEANINGS.items()
)


def build(asked: str = "") -> typer.Typer:
    """Return the application: the command that was asked for as it is, the others by name only."""
    app = typer.Typer(
        name="gateway",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=f"{_EXIT_CODES}.",
    )
    app.callback()(_gateway)
    for name, (_, summary) in COMMANDS.items():
        if name == asked:
            app.command(name)(command(name))
        else:
            app.command(name, help=summary)(_nothing)
    return app


def command(name: str) -> Callable[..., Any]:
    """Import the function of a command."""
    module, _, function = COMMANDS[name][0].partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def main() -> None:
    """Run the command that the process's arguments name, and exit with its code."""
    asked = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    try:
        build(asked)(prog_name="gateway")
    except GatewayError as error:
        print(f"gateway: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        sys.exit(1)


def _nothing() -> None:
    """Stand in for a command that is not run."""


def _print_version(asked: bool) -> None:
    if asked:
        print(f"gateway {version('multipart-gateway')}")
        raise typer.Exit


def _gateway(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Resumable, verified uploads of large files straight into S3-compatible storage."""
