"""A file to a verified object: our client and gateway against a bare client with no gateway.

Both take the same file, cut it into the same parts, and send as many at a time to the same store,
taking turns. The bare client does nothing but that: it signs in its own process, computes no
checksum, asks nobody, remembers nothing, and ends with CompleteMultipartUpload. Ours hashes every
part, binds it to its URL, records it, and ends when the gateway has verified the object.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

import aiohttp
from lxml import etree
from yarl import URL

from benchmarks import Ratio, Report, Row
from benchmarks.deployments import Deployment, deployment
from gateway.client.api import GatewayClient
from gateway.client.uploader import Uploader, UploadOptions
from gateway.storage.s3.credentials import Credentials
from gateway.storage.s3.endpoint import Endpoint
from gateway.storage.s3.presign import QuerySigner

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB
PART_SIZE: Final = 8 * MIB
GOAL: Final = 0.97
CPU_GOAL: Final = 0.05
EXPIRES_IN: Final = 3600


def run(arguments: Sequence[str]) -> Report:
    """Measure; `--mib` (1024), `--rounds` (5), `--parallel` (4), `--folder` for file and store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks direct")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        file = Path(folder) / "file.bin"
        with file.open("wb") as out:
            for _ in range(options.mib):
                out.write(os.urandom(MIB))
        return asyncio.run(
            _measure(file, options.rounds, options.parallel, options.mib, options.folder)
        )


async def _measure(file: Path, rounds: int, parallel: int, mib: int, folder: Path | None) -> Report:
    bare: list[float] = []
    ours: list[float] = []
    cpu: list[float] = []
    for _ in range(rounds):
        # A store that has just taken one file is not the store of the next: each pair of turns
        # gets a new one, and who goes first alternates.
        with deployment(folder) as target:
            for is_ours in (len(ours) % 2 == 0, len(ours) % 2 == 1):
                before = target.cpu_seconds("gateway")
                start = time.perf_counter()
                await (_upload if is_ours else _upload_bare)(target, file, mib * MIB, parallel)
                (ours if is_ours else bare).append(time.perf_counter() - start)
                if is_ours:
                    cpu.append(target.cpu_seconds("gateway") - before)
    gib = mib / 1024
    return Report(
        name="direct",
        compared=f"{mib:,} MiB from file to verified object in {PART_SIZE // MIB} MiB parts, "
        f"{parallel} at a time, against a bare client PUTting the same parts with no gateway and "
        f"no checksums; SeaweedFS on this machine; median of {rounds} rounds, taking turns",
        rows=(
            Row("bare client", mib / median(bare), "MiB/s"),
            Row("gateway and client, verified", mib / median(ours), "MiB/s"),
            Row("processor time of the gateway", median(cpu) / gib * 1000, "ms/GiB"),
        ),
        ratios=(
            Ratio(
                "gateway / bare, speed",
                median(b / o for b, o in zip(bare, ours, strict=True)),
                GOAL,
            ),
            Ratio("gateway CPU seconds per GiB", median(cpu) / gib, CPU_GOAL, at_most=True),
        ),
    )


async def _upload(target: Deployment, file: Path, size: int, parallel: int) -> None:
    async with GatewayClient(target.url, token=target.token) as client:
        receipt = await Uploader(client, UploadOptions(parallel=parallel)).upload(file)
        if receipt.size != size or receipt.verified_by != "client_parts":
            raise SystemExit(f"The upload ended as {receipt.state}, by {receipt.verified_by}.")


async def _upload_bare(target: Deployment, file: Path, size: int, parallel: int) -> None:
    signer = QuerySigner(Endpoint.parse(target.s3["endpoint"]), target.s3["region"])
    credentials = Credentials(target.s3["access_key_id"], target.s3["secret_access_key"])
    bucket, key = target.s3["bucket"], f"bare/{time.time_ns()}"

    def presign(method: str, query: Sequence[tuple[str, str]]) -> str:
        return signer.presign(
            credentials,
            method,
            bucket,
            key,
            query=query,
            expires_in=EXPIRES_IN,
            now=datetime.now(UTC),
        ).url

    count = -(-size // PART_SIZE)
    etags: dict[int, str] = {}
    numbers = iter(range(1, count + 1))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=parallel)) as http:
        async with http.post(_exact(presign("POST", [("uploads", "")]))) as answer:
            answer.raise_for_status()
            upload_id = str(etree.fromstring(await answer.read()).findtext("{*}UploadId"))
        parts = signer.parts(
            credentials, bucket, key, upload_id, expires_in=EXPIRES_IN, now=datetime.now(UTC)
        )

        async def send() -> None:
            for number in numbers:
                body = await asyncio.to_thread(_read, file, (number - 1) * PART_SIZE)
                async with http.put(
                    _exact(parts.sign(number, len(body), None).url), data=body
                ) as answer:
                    answer.raise_for_status()
                    etags[number] = answer.headers["ETag"]

        await asyncio.gather(*(send() for _ in range(parallel)))
        listed = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{etags[n]}</ETag></Part>"
            for n in sorted(etags)
        )
        url = _exact(presign("POST", [("uploadId", upload_id)]))
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        async with http.post(url, data=body) as answer:
            answer.raise_for_status()
            if b"<ETag>" not in await answer.read():
                raise SystemExit("The bare client's upload was not completed.")


def _read(file: Path, offset: int) -> bytes:
    with file.open("rb") as opened:
        return os.pread(opened.fileno(), PART_SIZE, offset)


def _exact(url: str) -> URL:
    # The signature covers the URL as it is; yarl would otherwise quote it anew.
    return URL(url, encoded=True)
