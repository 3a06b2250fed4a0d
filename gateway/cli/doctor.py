"""`gateway doctor`: looks at the settings, at Redis and at the store, and says what to do.

It reads the same settings as `gateway serve`, and tries the store with the gateway's own code on
throw-away keys. It sees this machine's way to the store, not that of the clients: a public
endpoint that only they can reach is not tried.
"""

import asyncio
import json as jsons
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.app import s3_options
from gateway.cli.flags import with_flags
from gateway.config import Settings, is_loopback, load_settings
from gateway.core.model import StorageLimits
from gateway.errors import GatewayError
from gateway.state.redis.client import connect
from gateway.state.redis.examine import examine
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.probe import probe
from gateway.telemetry import LogOptions, configure_logging

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}
# The probe's own steps are bounded; this bounds their sum with a store that stalls each of them.
_LONGEST_SECONDS: Final = 300.0
_LONG_TOKEN: Final = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One finding: `level` is ok, warn or fail, and only fail makes the exit code 1."""

    area: str
    name: str
    level: str
    detail: str
    fix: str = ""


def _doctor(
    flags: dict[str, Any],
    json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Check settings, Redis and the store; print a fix for each gap. Exits with 1 on a failure."""
    configure_logging(LogOptions("error"))
    limits: StorageLimits | None = None
    try:
        settings = load_settings(flags)
    except GatewayError as error:
        rows = [Row("settings", "settings", "fail", error.message, error.hint)]
    else:
        rows, limits = asyncio.run(_examine(settings))
    if json:
        print(jsons.dumps(_document(rows, limits)))
    else:
        _print_table(rows)
    if any(row.level == "fail" for row in rows):
        raise typer.Exit(1)


doctor = with_flags(_doctor)


async def _examine(settings: Settings) -> tuple[list[Row], StorageLimits | None]:
    (redis, (store, limits)) = await asyncio.gather(
        _look_at_redis(settings), _look_at_store(settings)
    )
    return [*_look_at(settings), *redis, *store], limits


def _look_at(settings: Settings) -> list[Row]:
    if settings.token is None:
        token = Row(
            "settings",
            "token",
            "warn",
            "No token: everybody on this machine may use the gateway.",
            "Set one, such as the output of: openssl rand -hex 32 (GW_TOKEN).",
        )
    elif len(settings.token.get_secret_value()) < _LONG_TOKEN:
        token = Row(
            "settings",
            "token",
            "warn",
            "The token is short enough to be guessed.",
            "Use a random one, such as the output of: openssl rand -hex 32 (GW_TOKEN).",
        )
    else:
        token = Row("settings", "token", "ok", "Callers need a token.")
    return [token, _look_at_public_endpoint(settings)]


def _look_at_public_endpoint(settings: Settings) -> Row:
    public = s3_options(settings).public_endpoint
    name = public.authority.rpartition(":")[0] or public.authority
    if is_loopback(name) and not is_loopback(settings.host):
        return Row(
            "settings",
            "public endpoint",
            "warn",
            f"Part URLs name {public.authority}, which other machines cannot reach.",
            "Set s3_public_endpoint to the store's address as clients see it.",
        )
    return Row("settings", "public endpoint", "ok", f"Part URLs name {public.authority}.")


async def _look_at_redis(settings: Settings) -> list[Row]:
    client = connect(settings.redis_url.get_secret_value())
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            found = await examine(client, prefix=settings.redis_prefix)
    finally:
        await client.close()
    return [Row("redis", item.name, item.level, item.detail, item.fix) for item in found]


async def _look_at_store(settings: Settings) -> tuple[list[Row], StorageLimits | None]:
    try:
        async with asyncio.timeout(_LONGEST_SECONDS), S3Client(s3_options(settings)) as client:
            report = await probe(client, settings.s3_bucket, origins=_origins(settings))
    except TimeoutError:
        return [
            Row(
                "store",
                "store",
                "fail",
                f"It was not through after {_LONGEST_SECONDS:.0f} s.",
                "Look at the store's load and log.",
            )
        ], None
    except GatewayError as error:
        return [Row("store", "store", "fail", error.message, error.hint)], None
    rows = [Row("store", f.name, str(f.level), f.detail, f.fix) for f in report.findings]
    return rows, report.limits if report.usable else None


def _origins(settings: Settings) -> list[str]:
    """Name the pages that send parts: the gateway's own, where it is known, and the allowed ones."""
    known = is_loopback(settings.host) and settings.port != 0
    own = [f"http://{settings.host}:{settings.port}"] if known else []
    return [*own, *settings.cors_origins]


def _document(rows: list[Row], limits: StorageLimits | None) -> dict[str, Any]:
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


def _print_table(rows: list[Row]) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in ("", "What", "Found", "What to do"):
        table.add_column(column, overflow="fold")
    area = ""
    for row in rows:
        if row.area != area:
            area = row.area
            table.add_row("", Text(area, style="bold"), "", "")
        # What stores and settings say is text, whatever brackets are in it.
        words = [Text(word) for word in (row.name, row.detail, row.fix)]
        table.add_row(Text(row.level, style=_STYLES[row.level]), *words)
    console.print(table)
    bad = sum(row.level == "fail" for row in rows)
    odd = sum(row.level == "warn" for row in rows)
    console.print(
        f"\n{bad} to repair, {odd} to consider." if bad or odd else "\nAll is well.", style="bold"
    )
