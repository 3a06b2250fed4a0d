"""Looks at what the store itself does to unfinished uploads, and compares it with a session's life.

Nothing prolongs an unfinished upload (laws.md), so that a session whose life is longer than the
store's patience loses its parts in the middle.
"""

from datetime import timedelta
from typing import Any, Final

import aiohttp

from gateway.errors import GatewayError
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.errors import translated
from gateway.storage.s3.findings import Finding, Level
from gateway.storage.s3.policy import UPLOADS

_NAME: Final = "unfinished uploads"
# What a store may be early, or a clock wrong.
_MARGIN: Final = timedelta(hours=1)
# min.io/docs: api stale_uploads_expiry. It is told to administrators only, in a form of its own.
_MINIO: Final = timedelta(hours=24)
# developers.cloudflare.com/r2/buckets/object-lifecycles: a rule that each bucket begins with.
_R2: Final = timedelta(days=7)


async def check_expiry(
    client: S3Client, bucket: str, *, lifetime: timedelta, grace: timedelta
) -> Finding:
    """Return one finding. Never raises for what a store does or fails to do."""
    try:
        rules = await _rules(client, bucket)
    except GatewayError as error:
        if error.code == "storage_denied":
            return Finding(
                _NAME,
                Level.WARN,
                "The bucket's lifecycle rules may not be read (s3:GetLifecycleConfiguration).",
                f"Allow it, or see yourself that none aborts uploads before {_text(lifetime)} and "
                f"the grace of {_text(grace)} are over.",
            )
        rules = []
    days = [
        timedelta(days=int(rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]))
        for rule in rules
        if _concerns(rule)
    ]
    if days:
        return _compare(min(days), lifetime, grace, "the lifecycle rule of the bucket")
    if await _is_minio(client) and lifetime + grace + _MARGIN > _MINIO:
        return Finding(
            _NAME,
            Level.WARN,
            f"MinIO deletes unfinished uploads after {_text(_MINIO)} unless it is told otherwise, "
            f"which cannot be asked. Sessions live for {_text(lifetime)} and {_text(grace)} more.",
            f"At the store, MINIO_API_STALE_UPLOADS_EXPIRY={_hours(lifetime + grace + _MARGIN)} or "
            "more (where that is done, ignore this); or session_lifetime=22h and grace=1h.",
        )
    if client.options.endpoint.authority.endswith(".r2.cloudflarestorage.com"):
        return _compare(_R2, lifetime, grace, "the rule that R2 begins with")
    return Finding(_NAME, Level.OK, "No rule of the store deletes them before the gateway does.")


async def _rules(client: S3Client, bucket: str) -> list[dict[str, Any]]:
    answer = await client.call("get_bucket_lifecycle_configuration", Bucket=bucket)
    rules: list[dict[str, Any]] = answer.get("Rules", [])
    return rules


def _concerns(rule: dict[str, Any]) -> bool:
    """Tell whether a rule is on, aborts uploads, and reaches some of ours."""
    chosen = rule.get("Filter", {})
    prefix = chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or rule.get("Prefix", "")
    return (
        rule.get("Status") == "Enabled"
        and "DaysAfterInitiation" in rule.get("AbortIncompleteMultipartUpload", {})
        and (UPLOADS.startswith(prefix) or prefix.startswith(UPLOADS))
    )


def _compare(patience: timedelta, lifetime: timedelta, grace: timedelta, who: str) -> Finding:
    needed = lifetime + grace + _MARGIN
    if patience >= needed:
        return Finding(_NAME, Level.OK, f"They are kept for {_text(patience)} by {who}.")
    room = patience - _MARGIN - min(grace, patience / 4)
    when = (
        f"while sessions live for {_text(lifetime)}: parts are lost in the middle"
        if patience < lifetime + _MARGIN
        else f"before the grace of {_text(grace)} after a session's {_text(lifetime)} is over"
    )
    return Finding(
        _NAME,
        Level.WARN,
        f"They are deleted after {_text(patience)} by {who}, {when}.",
        f"Let it wait for {-(-needed // timedelta(days=1))} days, or set "
        f"session_lifetime={_hours(room)} and grace={_hours(min(grace, patience / 4))}.",
    )


async def _is_minio(client: S3Client) -> bool:
    """Ask without a signature: every answer of MinIO names it."""
    options, endpoint = client.options, client.options.endpoint
    timeout = aiohttp.ClientTimeout(
        total=options.read_timeout, sock_connect=options.connect_timeout
    )
    url = f"{endpoint.scheme}://{endpoint.authority}{endpoint.base_path}/"
    try:
        with translated("server"):
            async with client.http.head(url, allow_redirects=False, timeout=timeout) as response:
                headers = response.headers
    except GatewayError:
        return False
    return "minio" in headers.get("server", "").lower() or any(
        name.lower().startswith("x-minio") for name in headers
    )


def _text(time: timedelta) -> str:
    days, rest = divmod(time, timedelta(days=1))
    return f"{days} days" if days > 1 and not rest else _hours(time)


def _hours(time: timedelta) -> str:
    hours = time / timedelta(hours=1)
    return f"{hours:.0f}h" if hours >= 10 else f"{hours:.2g}h"  # noqa: PLR2004 - whole ones will do.
