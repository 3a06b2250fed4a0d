"""Command-line flags made out of the settings, so that the two cannot drift apart.

Every field of `Settings` becomes one option in kebab-case; nothing is interpreted here, the text
goes to `load_settings` as it is, and is validated there together with all other sources.
"""

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any

import typer

from gateway.config import Settings, document, load_settings


def with_settings(
    command: Callable[..., None], *, leave_out: Collection[str] = ()
) -> Callable[..., None]:
    """Give a typer command, which takes `settings` first, a flag for each setting instead.

    `leave_out` names settings that the command decides by itself. The command raises what
    `load_settings` raises.
    """
    offered = [setting for setting in document() if setting.name not in leave_out]
    own = list(inspect.signature(command).parameters.values())[1:]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        flags = {setting.name: given.pop(setting.name) for setting in offered}
        command(load_settings(flags), **given)

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
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {item.name: item.annotation for item in [*keywords, *parameters]}
    del run.__wrapped__
    return run


def _metavar(name: str) -> str:
    kind = Settings.model_fields[name].annotation
    return (
        {int: "NUMBER", float: "DURATION"}.get(kind, "TEXT") if isinstance(kind, type) else "TEXT"
    )
