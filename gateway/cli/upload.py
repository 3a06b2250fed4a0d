"""`gateway upload`: files, or what comes in on standard input, into the store."""

import asyncio
import fcntl
import io
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.cli.arguments import STANDARD_STREAM, declared_checksum, existing_file
from gateway.cli.display import shown
from gateway.cli.exits import Exit, exit_for
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
    tell,
)
from gateway.client import (
    MAX_PARALLEL,
    Checksum,
    GatewayClient,
    Uploader,
    UploadOptions,
    UploadReceipt,
)
from gateway.errors import GatewayError

_PIPE_BYTES: Final = 1 << 20
"""What Linux lets everybody have; a pipe's usual 64 KiB are emptied in too many small reads."""

# After these, the next file would fare no better.
_HOPELESS = frozenset({Exit.DENIED, Exit.UNREACHABLE})


def upload(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            show_default=False,
            help="Files, or - alone for standard input, which needs --name.",
            parser=existing_file,
        ),
    ],
    *,
    server: Server = DEFAULT_SERVER,
    token: Token = None,
    name: Annotated[
        str | None,
        typer.Option(show_default=False, help="Name for the upload, of one file or of a stream."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="BYTES",
            show_default=False,
            help="Exact size of a stream; another one is not completed.",
        ),
    ] = None,
    checksum: Annotated[
        Checksum | None,
        typer.Option(
            parser=declared_checksum,
            metavar="ALGORITHM:VALUE",
            show_default=False,
            help="Checksum of a stream, in hex or base64; another one is not completed.",
        ),
    ] = None,
    parallel: Annotated[
        int, typer.Option(min=1, max=MAX_PARALLEL, help="Parts of a file sent at the same time.")
    ] = 4,
    part_size: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="BYTES", help="Size of the parts; the gateway's choice by default."
        ),
    ] = None,
    relay: Relay = "auto",
    give_up_after: GiveUpAfter = 300.0,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Upload files, resuming what an earlier try has left unfinished.

    Killed at any point and started again with the same file, it sends only what is missing.

    producer | gateway upload - --name NAME uploads a stream. That cannot be resumed: interrupted,
    or when reading fails, its session is aborted. A producer that dies looks like one that is
    done; --size or --checksum tell them apart.
    """
    options = UploadOptions(
        parallel=parallel, part_size=part_size, relay=relay, give_up_after=give_up_after
    )
    if STANDARD_STREAM in files:
        _check_stream(files, name)
        work = [
            _Work(name or STANDARD_STREAM, _from_stdin(name or "", size, checksum), resumes=False)
        ]
    else:
        _check_files(files, name, declared=size is not None or checksum is not None)
        work = [_Work(file, _from_file(Path(file), name), resumes=True) for file in files]
    run(_upload(work, server, token, options, json=json, quiet=quiet), verbose=not quiet)


@dataclass(frozen=True)
class _Work:
    """One upload: what people know it by, how to do it, and whether another try goes on with it."""

    label: str
    start: Callable[[Uploader], Awaitable[UploadReceipt]]
    resumes: bool


def _from_file(file: Path, name: str | None) -> Callable[[Uploader], Awaitable[UploadReceipt]]:
    return lambda uploader: uploader.upload(file, name=name)


def _from_stdin(
    name: str, size: int | None, checksum: Checksum | None
) -> Callable[[Uploader], Awaitable[UploadReceipt]]:
    async def upload_stdin(uploader: Uploader) -> UploadReceipt:
        # Not sys.stdin: a read that blocks in its buffer would hold up the end of the process.
        with io.FileIO(sys.stdin.fileno(), closefd=False) as stream:
            with suppress(OSError, AttributeError):
                fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            return await uploader.upload_stream(stream, name=name, size=size, checksum=checksum)

    return upload_stdin


def _check_stream(files: list[str], name: str | None) -> None:
    if len(files) > 1:
        raise typer.BadParameter("Standard input (-) cannot be uploaded together with files.")
    if not name:
        raise typer.BadParameter("Standard input has no name: give one with --name.")
    # Without standard input the descriptor may be another file's by now.
    if sys.stdin is None or sys.stdin.closed:
        raise typer.BadParameter("Standard input is closed.")
    if sys.stdin.isatty():
        say("Reading from the terminal; Ctrl-D ends it. Usually: producer | gateway upload - ...")


def _check_files(files: list[str], name: str | None, *, declared: bool) -> None:
    if name is not None and len(files) > 1:
        raise typer.BadParameter("--name is for one file, or for standard input.")
    if declared:
        raise typer.BadParameter("--size and --checksum are for standard input (-) only.")


async def _upload(
    work: list[_Work],
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
        for one in work:
            code = await _upload_one(uploader, one, json=json, quiet=quiet)
            worst = worst or code
            if code in _HOPELESS:
                break
    return worst


async def _upload_one(uploader: Uploader, work: _Work, *, json: bool, quiet: bool) -> Exit:
    try:
        async with shown(lambda: uploader.progress, quiet=quiet):
            receipt = await work.start(uploader)
    except asyncio.CancelledError:
        say(_interrupted(uploader, resumes=work.resumes))
        if json:
            problem = {"code": "interrupted", "message": "Interrupted.", "hint": ""}
            print_json(_unfinished(uploader, _state_left(uploader), problem))
        raise
    except GatewayError as error:
        tell(error)
        if not work.resumes and uploader.progress.phase == "aborted":
            say(f"  Session {uploader.progress.session_id} was aborted; nothing of it is kept.")
        if json:
            problem = {"code": error.code, "message": error.message, "hint": error.hint}
            print_json(_unfinished(uploader, _state_after(uploader, error), problem))
        return exit_for(error)
    if json:
        print_json(receipt.as_json())
    elif not quiet:
        print(_summary(work.label, receipt))
    return Exit.DONE


def _interrupted(uploader: Uploader, *, resumes: bool) -> str:
    session_id = uploader.progress.session_id
    if not session_id:
        return "Interrupted before anything was sent."
    if resumes:
        return f"Interrupted. The same command goes on with session {session_id}."
    if uploader.progress.phase == "aborted":
        return f"Interrupted. A stream cannot be resumed: session {session_id} was aborted."
    return f"Interrupted. Look at what became of it: gateway status {session_id}"


def _state_left(uploader: Uploader) -> str | None:
    if uploader.progress.phase == "aborted":
        return "aborted"
    return "open" if uploader.progress.session_id else None


def _summary(label: str, receipt: UploadReceipt) -> str:
    how = {
        "client_parts": "the checksums of its parts",
        "client_file": "its own checksum",
        "gateway": "the gateway's checksums of what arrived",
    }.get(receipt.verified_by or "", "the store's checksum")
    line = (
        f"{label}: {human_size(receipt.size)} uploaded and verified by {how} in "
        f"{human_time(receipt.seconds)} ({receipt.parts_sent} of {receipt.parts} parts sent"
        f"{', through the gateway' if receipt.bytes_relayed else ''})"
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
        "relayed": uploader.progress.relayed,
        "bytes_relayed": uploader.sent.relayed_bytes,
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
    return _state_left(uploader)
