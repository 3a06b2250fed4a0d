"""Presigned part URLs a second: our signer against botocore's client, both inside this process.

Both sign the same parts of the same upload with the same credentials, Content-Length bound, once
without and once with a CRC32C. Processor time is taken, not wall time, so that a neighbour on the
same machine does not count. Before anything is timed, one URL of each is compared: both must say
the same, signature included.
"""

import argparse
import base64
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import botocore
import botocore.session
from botocore.compat import HAS_CRT
from botocore.config import Config

from benchmarks import Ratio, Report, Row
from gateway.storage.s3.credentials import Credentials
from gateway.storage.s3.endpoint import Endpoint
from gateway.storage.s3.presign import QuerySigner

GOAL: Final = 40
EXPIRES_IN: Final = 900
PART_SIZE: Final = 8 * 1024 * 1024
BATCH: Final = 1_000
"""Parts in one sign request of the native API, at the most; each batch pays for its preparation."""
PEER_SHARE: Final = 25
"""The peer signs one for so many of ours, so that both take about as long."""

_BUCKET = "uploads"
_KEY = "3f2a/holiday film.mp4"
_UPLOAD_ID = base64.b64encode(bytes(range(96))).decode()
_ENDPOINT = "http://127.0.0.1:8333"
_REGION = "us-east-1"
_CREDENTIALS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
_CHECKSUM = ("x-amz-checksum-crc32c", "yZRlqg==")


def run(arguments: Sequence[str]) -> Report:
    """Measure; `--rounds N` (9) says how often both take their turn, `--urls` what a turn signs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks sign")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--urls", type=int, default=5_000, help="of ours; botocore signs a 25th")
    options = parser.parse_args(arguments)
    rounds, urls = max(1, options.rounds), max(BATCH, options.urls)
    client = _peer()
    _require_equal(client)
    rows: list[Row] = []
    ratios: list[Ratio] = []
    for checksum, what in ((None, "size bound"), (_CHECKSUM, "size and CRC32C bound")):
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(rounds):
            few = urls // PEER_SHARE
            theirs.append(_cost(partial(_sign_with_peer, client, checksum, few), few))
            ours.append(_cost(partial(_sign, checksum, urls), urls))
        rows += [
            Row(f"{who}, {what}", {"µs a URL": cost * 1e6, "URLs/s": 1 / cost})
            for who, cost in (("gateway", median(ours)), ("botocore", median(theirs)))
        ]
        times = median(peer / own for peer, own in zip(theirs, ours, strict=True))
        ratios.append(Ratio(f"gateway / botocore, {what}", times, GOAL))
    signer = "its awscrt signer" if HAS_CRT else "its Python signer"
    return Report(
        name="sign",
        compared=f"presigned UploadPart URLs on one core, our signer in batches of {BATCH:,} and "
        f"generate_presigned_url of botocore {botocore.__version__} with {signer}, taking turns; "
        f"processor time, median of {rounds} rounds",
        rows=tuple(rows),
        ratios=tuple(ratios),
    )


def _cost(work: Callable[[], None], count: int) -> float:
    """Return processor seconds for one of `count` URLs."""
    start = time.process_time()
    work()
    return (time.process_time() - start) / count


def _sign(checksum: tuple[str, str] | None, count: int) -> None:
    signer = QuerySigner(Endpoint.parse(_ENDPOINT), _REGION)
    for first in range(0, count, BATCH):
        parts = signer.parts(
            _CREDENTIALS, _BUCKET, _KEY, _UPLOAD_ID, expires_in=EXPIRES_IN, now=datetime.now(UTC)
        )
        for number in range(1, min(BATCH, count - first) + 1):
            parts.sign(number, PART_SIZE, checksum)


def _sign_with_peer(client: Any, checksum: tuple[str, str] | None, count: int) -> None:
    for number in range(1, count + 1):
        _sign_one_with_peer(client, number, checksum)


def _sign_one_with_peer(client: Any, number: int, checksum: tuple[str, str] | None) -> str:
    parameters = {
        "Bucket": _BUCKET,
        "Key": _KEY,
        "UploadId": _UPLOAD_ID,
        "PartNumber": number,
        "ContentLength": PART_SIZE,
    }
    if checksum is not None:
        parameters["ChecksumCRC32C"] = checksum[1]
    url: str = client.generate_presigned_url("upload_part", Params=parameters, ExpiresIn=EXPIRES_IN)
    return url


def _peer() -> Any:
    session = botocore.session.get_session()
    session.set_credentials(_CREDENTIALS.access_key_id, _CREDENTIALS.secret_access_key)
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
    return session.create_client("s3", region_name=_REGION, endpoint_url=_ENDPOINT, config=config)


def _require_equal(client: Any) -> None:
    """Sign one part with both, at the moment that botocore took from its clock."""
    theirs = _parse(_sign_one_with_peer(client, 7, _CHECKSUM))
    signed_at = datetime.fromisoformat(dict(theirs[1])["X-Amz-Date"])
    signer = QuerySigner(Endpoint.parse(_ENDPOINT), _REGION)
    parts = signer.parts(
        _CREDENTIALS,
        _BUCKET,
        _KEY,
        _UPLOAD_ID,
        expires_in=EXPIRES_IN,
        now=signed_at + timedelta(milliseconds=1),
    )
    if _parse(parts.sign(7, PART_SIZE, _CHECKSUM).url) != theirs:
        raise SystemExit("The two signers disagree, so there is nothing to compare.")


def _parse(url: str) -> tuple[str, list[tuple[str, str]]]:
    split = urlsplit(url)
    return split.path, sorted(parse_qsl(split.query, strict_parsing=True))
