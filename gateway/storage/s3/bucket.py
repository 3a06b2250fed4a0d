"""The bucket itself: whether it is there, making it, and its CORS rules (for `gateway dev`)."""

from collections.abc import Sequence
from contextlib import suppress

from gateway.core.checksums import ALGORITHMS
from gateway.errors import GatewayError, NotFound
from gateway.storage.s3.client import S3Client

EXPOSED_HEADERS = (
    "ETag",
    *(a.header for a in ALGORITHMS.values() if a.header.startswith("x-amz-checksum-")),
)
"""What a page's script reads from the store's answer to a part."""

_PREFLIGHT_SECONDS = 3600
# Regions whose name CreateBucket must not repeat (.../API/API_CreateBucket.html); R2's is auto.
_NAMELESS_REGIONS = frozenset({"us-east-1", "auto"})
_OURS_ALREADY = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})


async def bucket_exists(client: S3Client, bucket: str) -> bool:
    """Tell whether the bucket is there. Raises Unavailable where the credentials may not see it."""
    try:
        await client.call("head_bucket", Bucket=bucket)
    except NotFound:
        return False
    return True


async def ensure_bucket(client: S3Client, bucket: str) -> bool:
    """Make the bucket unless it is there, and tell whether it was made."""
    if await bucket_exists(client, bucket):
        return False
    region = client.options.region
    place = (
        {}
        if region in _NAMELESS_REGIONS
        else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    )
    try:
        await client.call("create_bucket", Bucket=bucket, **place)
    except GatewayError as error:
        # Another process may have been quicker; whether we may use it, HEAD tells.
        if error.details.get("store_code") not in _OURS_ALREADY:
            raise
        with suppress(NotFound):
            await client.call("head_bucket", Bucket=bucket)
            return False
        raise
    return True


async def put_cors(client: S3Client, bucket: str, origins: Sequence[str]) -> None:
    """Let pages of these origins upload and download by presigned URLs, replacing other rules.

    Raises Unavailable `storage_unsupported` where a store has no rules per bucket, as MinIO.
    """
    await client.call(
        "put_bucket_cors",
        Bucket=bucket,
        CORSConfiguration={
            "CORSRules": [
                {
                    "AllowedOrigins": list(origins),
                    "AllowedMethods": ["PUT", "GET", "HEAD"],
                    "AllowedHeaders": ["*"],
                    "ExposeHeaders": list(EXPOSED_HEADERS),
                    "MaxAgeSeconds": _PREFLIGHT_SECONDS,
                }
            ]
        },
    )
