"""`gateway download`: a completed upload back into a file, or on to standard output, verified."""

import asyncio
import io
import sys
from typing import Annotated

import typer

from gateway.cli.arguments import STANDARD_STREAM
from gateway.cli.display import shown
from gateway.cli.exits import Exit
from gateway.cli.remote import (
    DEFAULT_SERVER,
    GiveUpAfter,
    Json,
    Relay,
    Server,
    Token,
    human_size,
    human_time,
    print_json,
    run,
    say,
)
from gateway.client import (
    MAX_PARALLEL,
    Downloader,
    DownloadOptions,
    DownloadReceipt,
    GatewayClient,
)


def download(
    session_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", show_default=False, help="Session, as gateway status lists it."
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            show_default=False,
            help="File or folder to write to, or - for standard output; by default the file's own "
            "name, right here.",
        ),
    ] = None,
    *,
    server: Server = DEFAULT_SERVER,
    token: Token = None,
    parallel: Annotated[
        int, typer.Option(min=1, max=MAX_PARALLEL, help="Pieces fetched at the same time.")
    ] = 4,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    relay: Relay = "auto",
    give_up_after: GiveUpAfter = 300.0,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Download a completed upload, verified.

    The file gets its name when its checksum is found right. Interrupted and started again, it
    goes on where it was.

    To standard output (-o -) the bytes go in order, before they can be verified: only exit code 0
    says that they were right, and 3 that they were not.
    """
    if output == STANDARD_STREAM and json:
        raise typer.BadParameter("--json prints to standard output; give the download a file.")
    options = DownloadOptions(
        parallel=parallel, relay=relay, give_up_after=give_up_after, force=force
    )
    work = _download(session_id, output, server, token, options, json=json, quiet=quiet)
    run(work, verbose=not quiet)


async def _download(
    session_id: str,
    output: str | None,
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
                if output == STANDARD_STREAM:
                    receipt = await _to_stdout(downloader, session_id)
                else:
                    receipt = await downloader.download(session_id, output)
        except asyncio.CancelledError:
            say(
                "Interrupted. What was written is not the whole."
                if output == STANDARD_STREAM
                else "Interrupted. The same command goes on where it was."
            )
            raise
    if json:
        print_json(receipt.as_json())
    elif not quiet:
        (print if receipt.path else say)(_summary(receipt))
    return Exit.DONE


async def _to_stdout(downloader: Downloader, session_id: str) -> DownloadReceipt:
    if sys.stdout is None or sys.stdout.closed:
        raise typer.BadParameter("Standard output is closed.")
    # Not sys.stdout: what cannot be written would be tried once more when the process ends.
    with io.FileIO(sys.stdout.fileno(), "wb", closefd=False) as writer:
        return await downloader.download_to(session_id, writer)


def _summary(receipt: DownloadReceipt) -> str:
    line = f"{receipt.path or STANDARD_STREAM}: {human_size(receipt.size)} in {human_time(receipt.seconds)}"
    if receipt.bytes_relayed:
        line += " through the gateway"
    if receipt.checksum is None:
        return f"{line}, of the right size (the session has no checksum to verify by)"
    return f"{line}, verified by {receipt.checksum.algorithm}: {receipt.checksum.value}"
