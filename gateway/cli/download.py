"""`gateway download`: a completed upload back into a file, verified."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.display import shown
from gateway.cli.exits import Exit
from gateway.cli.remote import (
    DEFAULT_SERVER,
    GiveUpAfter,
    Json,
    Server,
    Token,
    human_size,
    human_time,
    print_json,
    run,
    say,
)
from gateway.client import Downloader, DownloadOptions, DownloadReceipt, GatewayClient


def download(
    session_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            show_default=False,
            help="File or folder to write to; by default the file's own name, right here.",
        ),
    ] = None,
    *,
    server: Server = DEFAULT_SERVER,
    token: Token = None,
    parallel: Annotated[
        int, typer.Option(min=1, max=64, help="Pieces fetched at the same time.")
    ] = 4,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    give_up_after: GiveUpAfter = 300.0,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Download a completed upload, verified.

    The file gets its name when its checksum is found right. Interrupted and started again, it
    goes on where it was.
    """
    options = DownloadOptions(parallel=parallel, give_up_after=give_up_after, force=force)
    work = _download(session_id, output, server, token, options, json=json, quiet=quiet)
    run(work, verbose=not quiet)


async def _download(
    session_id: str,
    output: Path | None,
    server: str,
    token: str | None,
    options: DownloadOptions,
    *,
    json: bool,
    quiet: bool,
) -> Exit:
    async with GatewayClient(server, token=token, retry_for=options.give_up_after) as client:
        downloader = Downloader(client, options)
        try:
            async with shown(lambda: downloader.progress, quiet=quiet):
                receipt = await downloader.download(session_id, output)
        except asyncio.CancelledError:
            say("Interrupted. The same command goes on where it was.")
            raise
    if json:
        print_json(receipt.as_json())
    elif not quiet:
        print(_summary(receipt))
    return Exit.DONE


def _summary(receipt: DownloadReceipt) -> str:
    line = f"{receipt.path}: {human_size(receipt.size)} in {human_time(receipt.seconds)}"
    if receipt.checksum is None:
        return f"{line}, of the right size (the session has no checksum to verify by)"
    return f"{line}, verified by {receipt.checksum.algorithm}: {receipt.checksum.value}"
