"""The `gateway` command: a table of commands, and how an error ends one.

Only the module of the command that was asked for is imported, so that `gateway health` in a
container's health check costs milliseconds and not the import of everything.

Exit codes: 0 done, 1 failed (the reason and a hint are on standard error), 2 wrong usage; a
command that has more says so in its own help.
"""

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Final

import typer

from gateway.errors import GatewayError

# Where each command's function is, in the order in which `gateway --help` lists them.
COMMANDS: Final[Mapping[str, str]] = {
    "dev": "gateway.cli.dev:dev",
    "serve": "gateway.cli.serve:serve",
    "health": "gateway.cli.health:health",
    "doctor": "gateway.cli.doctor:doctor",
}


def build(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the application with these commands, importing their modules only."""
    app = typer.Typer(
        name="gateway",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_gateway)
    for name in names:
        module, _, function = COMMANDS[name].partition(":")
        app.command(name)(getattr(import_module(module), function))
    return app


def main() -> None:
    """Run the command that the process's arguments name, and exit with its code."""
    asked = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    app = build([asked] if asked in COMMANDS else COMMANDS)
    try:
        app()
    except GatewayError as error:
        print(f"gateway: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        sys.exit(1)


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
