"""Who takes a file to the store in `direct`: each does it once, from a file to a whole object.

Only the gateway's two verify what is stored. Each has the settings that people use: the parts and
how many are sent at a time are the same for all, everything else is the program's default. The tus
client keeps one PATCH going, as tus-js-client does, and its server cuts that into the same parts.
"""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import orjson

from benchmarks import MIB
from benchmarks.deployments import Deployment
from benchmarks.installed import PACKAGES, install, node_server
from benchmarks.processes import Server, finish, program
from benchmarks.store import BareStore, read_at
from gateway.client import GatewayClient, Uploader, UploadOptions

PART_SIZE: Final = 8 * MIB


@dataclass(frozen=True, slots=True)
class Turn:
    """What a contender gets: a new store with a gateway before it, the file, and scratch space.

    `server` is what its `serve` has started.
    """

    target: Deployment
    file: Path
    size: int
    parallel: int
    scratch: Path
    server: Server | None = None

    @property
    def key(self) -> str:
        """Where those put the object who may choose."""
        return "benchmark/file.bin"


@contextmanager
def _nothing(_turn: Turn) -> Iterator[Server | None]:
    yield None


@dataclass(frozen=True, slots=True)
class Contender:
    """`send` is timed; it returns the object's key.

    `require` ends the program where the contender is missing. `serve` runs a server of its own
    meanwhile.
    """

    label: str
    send: Callable[[Turn], Awaitable[str]]
    require: Callable[[], object] = lambda: None
    serve: Callable[[Turn], AbstractContextManager[Server | None]] = _nothing


async def _bare(turn: Turn) -> str:
    async def read(number: int) -> bytes:
        return await asyncio.to_thread(read_at, turn.file, (number - 1) * PART_SIZE, PART_SIZE)

    connector = aiohttp.TCPConnector(limit=turn.parallel)
    async with aiohttp.ClientSession(connector=connector) as http:
        store = BareStore(http, turn.target.s3)
        upload_id = await store.create(turn.key)
        count = -(-turn.size // PART_SIZE)
        etags = await store.send(turn.key, upload_id, count, read, parallel=turn.parallel)
        await store.complete(turn.key, upload_id, etags)
    return turn.key


async def _library(turn: Turn) -> str:
    options = UploadOptions(
        parallel=turn.parallel, part_size=PART_SIZE, state_dir=turn.scratch / "state"
    )
    async with GatewayClient(turn.target.url, token=turn.target.token) as client:
        receipt = await Uploader(client, options).upload(turn.file)
    return _verified(receipt.as_json())


async def _command(turn: Turn) -> str:
    out = await finish(
        [
            "gateway",
            "upload",
            "--json",
            f"--parallel={turn.parallel}",
            f"--part-size={PART_SIZE}",
            str(turn.file),
        ],
        {
            "GW_SERVER": turn.target.url,
            "GW_TOKEN": turn.target.token,
            "GW_STATE_DIR": str(turn.scratch / "state"),
        },
    )
    return _verified(orjson.loads(out))


def _verified(receipt: dict[str, object]) -> str:
    stored = receipt["object"]
    if receipt["verified_by"] != "client_parts" or not isinstance(stored, dict):
        raise SystemExit(
            f"The upload ended as {receipt['state']}, verified by {receipt['verified_by']}."
        )
    return str(stored["key"])


async def _aws(turn: Turn) -> str:
    config = turn.scratch / "aws"
    config.write_text(
        "[default]\ns3 =\n"
        f"  multipart_chunksize = {PART_SIZE // MIB}MB\n"
        f"  max_concurrent_requests = {turn.parallel}\n"
    )
    s3 = turn.target.s3
    await finish(
        [
            "aws",
            "--endpoint-url",
            s3["endpoint"],
            "s3",
            "cp",
            "--no-progress",
            str(turn.file),
            f"s3://{s3['bucket']}/{turn.key}",
        ],
        {
            "AWS_CONFIG_FILE": str(config),
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_ACCESS_KEY_ID": s3["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": s3["secret_access_key"],
            "AWS_DEFAULT_REGION": s3["region"],
            "AWS_EC2_METADATA_DISABLED": "true",
        },
    )
    return turn.key


async def _rclone(turn: Turn) -> str:
    s3 = turn.target.s3
    await finish(
        [
            "rclone",
            "copyto",
            "--config=",
            f"--s3-chunk-size={PART_SIZE // MIB}M",
            f"--s3-upload-concurrency={turn.parallel}",
            str(turn.file),
            f"store:{s3['bucket']}/{turn.key}",
        ],
        {
            "RCLONE_CONFIG_STORE_TYPE": "s3",
            "RCLONE_CONFIG_STORE_PROVIDER": "SeaweedFS",
            "RCLONE_CONFIG_STORE_ENDPOINT": s3["endpoint"],
            "RCLONE_CONFIG_STORE_REGION": s3["region"],
            "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": s3["access_key_id"],
            "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": s3["secret_access_key"],
        },
    )
    return turn.key


def _tus_server(turn: Turn) -> AbstractContextManager[Server]:
    s3 = turn.target.s3
    return node_server(
        "tus.mjs",
        {
            "PART_SIZE": str(PART_SIZE),
            # Its store puts every part into a file before it sends it.
            "TMPDIR": str(turn.scratch),
            "S3_ENDPOINT": s3["endpoint"],
            "S3_REGION": s3["region"],
            "S3_BUCKET": s3["bucket"],
            "S3_ACCESS_KEY_ID": s3["access_key_id"],
            "S3_SECRET_ACCESS_KEY": s3["secret_access_key"],
        },
    )


async def _tus(turn: Turn) -> str:
    if turn.server is None:
        raise SystemExit("The tus server is not there.")

    async def blocks() -> AsyncIterator[bytes]:
        for offset in range(0, turn.size, MIB):
            yield await asyncio.to_thread(read_at, turn.file, offset, MIB)

    headers = {"Tus-Resumable": "1.0.0"}
    name = base64.b64encode(turn.file.name.encode()).decode()
    timeout = aiohttp.ClientTimeout(total=None, sock_read=300)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http:
        async with http.post(
            f"{turn.server.said['url']}/files",
            headers={"Upload-Length": str(turn.size), "Upload-Metadata": f"filename {name}"},
        ) as answer:
            answer.raise_for_status()
            location = answer.headers["Location"]
        async with http.patch(
            location,
            data=blocks(),
            headers={
                "Upload-Offset": "0",
                "Content-Type": "application/offset+octet-stream",
                "Content-Length": str(turn.size),
            },
        ) as answer:
            answer.raise_for_status()
            if answer.headers["Upload-Offset"] != str(turn.size):
                raise SystemExit("The tus upload ended early.")
    return location.rpartition("/")[2]


CONTENDERS: Final = {
    "bare": Contender("bare client, no gateway: the store alone", _bare),
    "library": Contender("gateway, Python client", _library),
    "command": Contender(
        "gateway, `gateway upload`",
        _command,
        require=lambda: program("gateway"),
    ),
    "aws-cli": Contender("`aws s3 cp`", _aws, require=lambda: program("aws")),
    "rclone": Contender(
        "`rclone copyto`",
        _rclone,
        require=lambda: program("rclone"),
    ),
    "tus": Contender(
        f"@tus/server {PACKAGES['@tus/server']} with its S3 store",
        _tus,
        require=install,
        serve=_tus_server,
    ),
}
"""By the name that `--only` takes."""
