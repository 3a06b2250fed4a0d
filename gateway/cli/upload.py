"""`gateway upload`: files into the store, whatever happens on the way."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.display import shown
from gateway.cli.exits import Exit, exit_for
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
    tell,
)
from gateway.client import GatewayClient, Uploader, UploadOptions, UploadReceipt
from gateway.client.options import MAX_PARALLEL
from gateway.errors import GatewayError

# After these, the next file would fare no better.
_HOPELESS = frozenset({Exit.DENIED, Exit.UNREACHABLE})


def upload(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, readable=True, show_default=False
        ),
    ],
    *,
    server: Server = DEFAULT_SERVER,
    token: Token = None,
    parallel: Annotated[
        int, typer.Option(min=1, max=MAX_PARALLEL, help="Parts of a file sent at the same time.")
    ] = 4,
    part_size: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="BYTES", help="Size of the parts; the gateway's choice by default."
        ),
    ] = None,
    give_up_after: GiveUpAfter = 300.0,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Upload files, resuming what an earlier try has left unfinished.

    Killed at any point and started again with the same file, it sends only what is missing.
    """
    options = UploadOptions(parallel=parallel, part_size=part_size, give_up_after=give_up_after)
    run(_upload(files, server, token, options, json=json, quiet=quiet), verbose=not quiet)


async def _upload(
    files: list[Path],
    server: str,
    token: str | None,
    options: UploadOptions,
    *,
    json: bool,
    quiet: bool,
) -> Exit:
    worst = Exit.DONE
    async with GatewayClient(server, token=token, retry_for=options.give_up_after) as client:
        uploader = Uploader(client, options)
        for file in files:
            code = await _upload_one(uploader, file, json=json, quiet=quiet)
            worst = worst or code
            if code in _HOPELESS:
                break
    return worst


async def _upload_one(uploader: Uploader, file: Path, *, json: bool, quiet: bool) -> Exit:
    try:
        async with shown(lambda: uploader.progress, quiet=quiet):
            receipt = await uploader.upload(file)
    except asyncio.CancelledError:
        session_id = uploader.progress.session_id
        say(
            f"Interrupted. The same command goes on with session {session_id}."
            if session_id
            else "Interrupted before anything was sent."
        )
        if json:
            problem = {"code": "interrupted", "message": "Interrupted.", "hint": ""}
            print_json(_unfinished(uploader, "open" if session_id else None, problem))
        raise
    except GatewayError as error:
        tell(error)
        if json:
            problem = {"code": error.code, "message": error.message, "hint": error.hint}
            print_json(_unfinished(uploader, _state_after(uploader, error), problem))
        return exit_for(error)
    if json:
        print_json(receipt.as_json())
    elif not quiet:
        print(_summary(file, receipt))
    return Exit.DONE


def _summary(file: Path, receipt: UploadReceipt) -> str:
    how = {"client_parts": "the checksums of its parts", "client_file": "its own checksum"}.get(
        receipt.verified_by or "", "the store's checksum"
    )
    line = (
        f"{file}: {human_size(receipt.size)} uploaded and verified by {how} in "
        f"{human_time(receipt.seconds)} ({receipt.parts_sent} of {receipt.parts} parts sent)"
    )
    if receipt.checksum is not None:
        line += f"\n  {receipt.checksum.algorithm}: {receipt.checksum.value}"
    return f"{line}\n  session: {receipt.session_id}"


def _unfinished(uploader: Uploader, state: str | None, problem: dict[str, str]) -> dict[str, Any]:
    """Return the line for an upload without a receipt: the same fields, and the error."""
    return {
        "session_id": uploader.progress.session_id or None,
        "state": state,
        "verified_by": None,
        "size": uploader.progress.size,
        "parts": None,
        "parts_sent": uploader.sent.parts,
        "bytes_sent": uploader.sent.bytes,
        "seconds": None,
        "checksum": None,
        "object": None,
        "error": problem,
    }


def _state_after(uploader: Uploader, error: GatewayError) -> str | None:
    session = error.details.get("session")
    if isinstance(session, dict):
        return str(session.get("state"))
    if "state" in error.details:
        return str(error.details["state"])
    return "open" if uploader.progress.session_id else None
