"""Looks whether pages of an origin may upload by presigned URLs, by asking as a browser does.

Rules: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import aiohttp
from yarl import URL

from gateway.errors import GatewayError
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.errors import translated
from gateway.storage.s3.findings import Finding, Level
from gateway.storage.s3.presign import QuerySigner

# What the upload page sends with a part, and what it must be able to read of the answer.
_ASKED = "content-type,x-amz-checksum-crc64nvme"
_NEEDED = "etag"


async def check_cors(
    client: S3Client, bucket: str, key: str, origins: Sequence[str]
) -> list[Finding]:
    """Return one finding an origin. The public endpoint is asked, as browsers will ask it."""
    return [await _check(client, bucket, key, origin) for origin in origins]


async def _check(client: S3Client, bucket: str, key: str, origin: str) -> Finding:
    name = f"CORS for {origin}"
    options = client.options
    url = QuerySigner(options.public_endpoint, options.region).presign(
        await client.credentials(),
        "HEAD",
        bucket,
        key,
        expires_in=60,
        now=datetime.now(UTC),
    )
    timeout = aiohttp.ClientTimeout(
        total=options.read_timeout, sock_connect=options.connect_timeout
    )
    target = URL(url.url, encoded=True)
    asking = {
        "origin": origin,
        "access-control-request-method": "PUT",
        "access-control-request-headers": _ASKED,
    }
    try:
        with translated("CORS preflight"):
            async with client.http.options(target, headers=asking, timeout=timeout) as response:
                status, preflight = response.status, response.headers
            # What a script may read is told with the answer itself; a missing object will do.
            async with client.http.head(
                target, headers={"origin": origin}, timeout=timeout
            ) as response:
                actual = response.headers
    except GatewayError as error:
        return Finding(
            name,
            Level.WARN,
            f"The public endpoint could not be asked from here: {error.message}",
            "Look at s3_public_endpoint; browsers must reach it, the gateway need not.",
        )
    allowed = preflight.get("access-control-allow-origin") in {"*", origin}
    methods = _words(preflight.get("access-control-allow-methods", ""))
    headers = _words(preflight.get("access-control-allow-headers", ""))
    fix = (
        "Allow this origin in the bucket's CORS rules: methods PUT, GET, HEAD, headers *, "
        "exposed headers ETag and x-amz-checksum-*."
    )
    if status >= 300 or not allowed:  # noqa: PLR2004 - a preflight must succeed
        return Finding(name, Level.WARN, "Pages of this origin may not upload.", fix)
    if not methods & {"*", "put"}:
        return Finding(name, Level.WARN, "Pages of this origin may not send PUT.", fix)
    if "*" not in headers and not _words(_ASKED) <= headers:
        return Finding(name, Level.WARN, "Pages may not send checksums of parts.", fix)
    if not _words(actual.get("access-control-expose-headers", "")) & {"*", _NEEDED}:
        return Finding(name, Level.WARN, "Pages cannot read the ETag of a part.", fix)
    return Finding(name, Level.OK, "Pages of this origin may upload and read ETags.")


def _words(header: str) -> set[str]:
    return {word.strip().lower() for word in header.split(",") if word.strip()}
