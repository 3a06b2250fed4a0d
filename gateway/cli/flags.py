"""Command-line flags made out of the settings, so that the two cannot drift apart.

Every field of `Settings` becomes one option in kebab-case; nothing is interpreted here, the text
goes to `load_settings` as it is, and is validated there together with all other sources.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from gateway.config import Settings, document, load_settings


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a typer command, which takes `settings` first, a flag for each setting instead.

    The command raises what `load_settings` raises.
    """

    def load_and_run(flags: dict[str, Any], **own: Any) -> None:
        command(load_settings(flags), **own)

    return with_flags(command, load_and_run)


def with_flags(
    command: Callable[..., None], run: Callable[..., None] | None = None
) -> Callable[..., None]:
    """Give a typer command a flag for each setting, and hand it their values as its first argument.

    The values are for `load_settings`: by name, None where a flag was not given. With `run`, that
    is called in the place of the command, which lends its name, help and own parameters.
    """
    target = run or command
    offered = document()
    own = list(inspect.signature(command).parameters.values())[1:]

    @functools.wraps(command)
    def flagged(**given: Any) -> None:
        flags = {setting.name: given.pop(setting.name) for setting in offered}
        target(flags, **given)

    parameters = [
        inspect.Parameter(
            setting.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                bool | None if setting.switch else str | None,
                typer.Option(
                    f"{setting.flag}/--no-{setting.flag[2:]}" if setting.switch else setting.flag,
                    help=f"{setting.description} [{', '.join(setting.variables)}; "
                    f"default: {setting.default}]",
                    show_default=False,
                    rich_help_panel="Settings",
                    metavar=None if setting.switch else _metavar(setting.name),
                ),
            ],
        )
        for setting in offered
    ]
    keywords = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in own]
    signature = inspect.Signature([*keywords, *parameters])
    # typer reads both, and `wraps` has left the command's own in their place.
    flagged.__signature__ = signature  # type: ignore[attr-defined]
    flagged.__annotations__ = {item.name: item.annotation for item in [*keywords, *parameters]}
    del flagged.__wrapped__
    return flagged


def _metavar(name: str) -> str:
    kind = Settings.model_fields[name].annotation
    return (
        {int: "NUMBER", float: "DURATION"}.get(kind, "TEXT") if isinstance(kind, type) else "TEXT"
    )
