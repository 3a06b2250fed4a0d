"""Uploads by the project's own clients: the library in this process, and the command line.

Both are interrupted at random and begun again; each try may go to another gateway, and has to find
its session there. When all faults are lifted they have to succeed.
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from faults.chaos.material import MIN_PART, Source
from faults.chaos.processes import Gateway
from faults.chaos.world import TOKEN, World

from gateway.client import GatewayClient, Uploader, UploadOptions
from gateway.errors import Conflict, GatewayError, Gone, StorageFull, Unavailable

_TRIES_IN_CALM = 4
_COMMAND_SECONDS = 90.0
# What the README says of the exit codes: these go away by themselves, or with another session.
_EXITS_BORNE = {4, 6}


@dataclass(frozen=True, slots=True)
class Interruptions:
    """How an upload is sent, and after how many seconds each of its first tries is ended."""

    parallel: int
    part_size: int | None
    ends: tuple[float, ...]


def choose_interruptions(rng: random.Random, source: Source, begins: float) -> Interruptions:
    """Draw them; a try takes `begins` seconds before it does anything."""
    return Interruptions(
        parallel=rng.randint(1, 4),
        part_size=MIN_PART if source.size > MIN_PART else None,
        ends=tuple(begins + rng.uniform(0, 2) for _ in range(rng.choice([0, 0, 1, 2]))),
    )


# One try at a gateway, ended after so many seconds if any: the outcome, or None to try again.
Try = Callable[["OwnClient", Path, Gateway, float | None], Awaitable[str | None]]


@dataclass
class OwnClient:
    """One file by one of our own clients."""

    world: World
    source: Source
    rng: random.Random
    plan: Interruptions

    async def run(self, attempt: Try) -> str:
        """Try until it is done, and return how it ended."""
        path = self.world.home / "files" / self.source.name
        path.parent.mkdir(exist_ok=True)
        await asyncio.to_thread(path.write_bytes, self.world.material.bytes_of(self.source))
        ends = list(self.plan.ends)
        calm_tries = 0
        while calm_tries < _TRIES_IN_CALM:
            calm_tries += self.world.calm.is_set()
            gateway = self.rng.choice(self.world.gateways)
            outcome = await attempt(self, path, gateway, ends.pop(0) if ends else None)
            if outcome is not None:
                await asyncio.to_thread(path.unlink)
                return outcome
            await asyncio.sleep(self.rng.uniform(0.05, 0.5))
        self.world.history.wrong(self.source.name, "Our own client did not get it done.")
        return "failed"

    def note(self, verb: str, gateway: Gateway, began: float, **facts: Any) -> None:
        """Write down what a client has been told."""
        self.world.history.note(
            "call", name=self.source.name, verb=verb, gateway=gateway.number, began=began, **facts
        )


async def library(client: OwnClient, path: Path, gateway: Gateway, end: float | None) -> str | None:
    """Upload with the library, cancelled in the end."""
    history, began = client.world.history, client.world.history.now
    options = UploadOptions(
        parallel=client.plan.parallel,
        part_size=client.plan.part_size,
        give_up_after=10.0,
        stall_timeout=4.0,
        state_dir=client.world.home / "state",
    )
    async with GatewayClient(
        gateway.url, token=TOKEN, retry_for=8.0, request_timeout=6.0
    ) as connection:
        uploader = Uploader(connection, options)
        try:
            async with asyncio.timeout(end):
                receipt = await uploader.upload(path)
        except TimeoutError:
            client.note("library interrupted", gateway, began)
            return None
        except (Unavailable, StorageFull, Gone, Conflict) as error:
            # An expired session makes room for another one.
            session_id = uploader.progress.session_id
            client.note(
                "library", gateway, began, code=error.code, about=session_id, why=error.message
            )
            return None
        except GatewayError as error:
            message = f"The library failed: {error.code} {error.message}"
            history.wrong(client.source.name, message, session_id=uploader.progress.session_id)
            return "failed"
    facts = {"session_id": receipt.session_id, "state": receipt.state}
    client.note("library", gateway, began, status=200, **facts)
    return receipt.state


async def command_line(
    client: OwnClient, path: Path, gateway: Gateway, end: float | None
) -> str | None:
    """Upload with `gateway upload`, killed in the end."""
    history, began = client.world.history, client.world.history.now
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "upload", str(path), "--json", "--quiet"),
        *("--server", gateway.url, "--give-up-after", "10"),
        *("--parallel", str(client.plan.parallel)),
        *(("--part-size", str(client.plan.part_size)) if client.plan.part_size else ()),
        env=client.world.environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    waiting = asyncio.create_task(process.communicate())
    try:
        await asyncio.wait([waiting], timeout=_COMMAND_SECONDS if end is None else end)
    finally:
        killed = not waiting.done()
        if killed:
            process.kill()
        out, err = await waiting
    code = process.returncode
    client.note("gateway upload", gateway, began, code=code, killed=killed)
    if killed and end is None:
        history.wrong(client.source.name, "The command line did not come to an end.")
        return "failed"
    if code == 0:
        receipt = orjson.loads(out.strip().splitlines()[-1])
        facts = {"session_id": receipt["session_id"], "state": receipt["state"]}
        client.note("gateway upload", gateway, began, status=200, **facts)
        return str(receipt["state"])
    if not killed and code not in _EXITS_BORNE:
        message = f"The command line ended with {code}."
        history.wrong(client.source.name, message, out=out.decode(), err=err.decode())
        return "failed"
    return None
