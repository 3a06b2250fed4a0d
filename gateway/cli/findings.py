"""What the doctor found, as rows: for people in the width that their terminal has, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.core.model import StorageLimits

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True, slots=True)
class Row:
    """One finding: `level` is ok, warn or fail, and only fail makes the exit code 1."""

    area: str
    name: str
    level: str
    detail: str
    fix: str = ""


def document(rows: Sequence[Row], limits: StorageLimits | None) -> dict[str, Any]:
    """Return what scripts read."""
    return {
        "ok": all(row.level != "fail" for row in rows),
        "findings": [asdict(row) for row in rows],
        "limits": None
        if limits is None
        else {
            **asdict(limits),
            "part_checksums": sorted(limits.part_checksums),
            "object_checksums": sorted(limits.object_checksums),
        },
    }


def print_rows(rows: Sequence[Row]) -> None:
    """Print a table in which a fix stands below what it mends, and at its end what is to be done.

    Whoever reads it at night looks at the end first, which has scrolled by least.
    """
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=22)
    table.add_column(overflow="fold", ratio=1)
    area = ""
    for row in rows:
        if row.area != area:
            table.add_row("", "", "") if area else None
            area = row.area
            table.add_row("", Text(area, style="bold underline"), "")
        # What stores and settings say is text, whatever brackets are in it.
        found = Text(row.detail)
        if row.fix and row.level != "ok":
            found.append(f"\n-> {row.fix}", style="cyan")
        table.add_row(Text(row.level, style=_STYLES[row.level]), Text(row.name), found)
    console.print(table)
    console.print()
    for level, words in (("fail", "To repair"), ("warn", "To consider")):
        names = [_name(row) for row in rows if row.level == level]
        if names:
            console.print(Text(f"{words}: {', '.join(names)}.", style=_STYLES[level]))
    if all(row.level == "ok" for row in rows):
        console.print(Text("All is well.", style="bold green"))


def _name(row: Row) -> str:
    return row.name if row.name == row.area else f"{row.area} {row.name}"
