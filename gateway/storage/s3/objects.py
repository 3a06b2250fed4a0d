"""The same S3 store, seen as objects: the `ObjectStore` port."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress

import aiohttp

from gateway.core.checksums import ALGORITHMS
from gateway.core.model import MultipartUpload, StoredObject
from gateway.core.ports import ObjectStore
from gateway.errors import NoSuchObject, Unavailable
from gateway.storage.s3.client import BLOCK_BYTES, S3Client, read_body
from gateway.storage.s3.errors import error_of, refusal_of, translated, unexpected_answer
from gateway.storage.s3.xml import parse_error_code, unquote_etag, whole_object_checksums

# aiobotocore parses a page on the event loop: 1,000 entries block it for 90 ms, these for 4.
_LIST_PAGE = 50
_MAX_ERROR_BYTES = 64 * 1024
_METADATA = "x-amz-meta-"


class S3ObjectStore(ObjectStore):
    """Objects in one store; the client is shared."""

    def __init__(self, client: S3Client) -> None:
        self._client = client

    async def head(self, bucket: str, key: str) -> StoredObject:
        """Describe an object; whole-object checksums only, metadata names in small letters."""
        headers = {"x-amz-checksum-mode": "ENABLED"}
        return _described(
            bucket, key, await self._ask("HeadObject", "HEAD", bucket, key, headers=headers)
        )

    async def read(
        self,
        bucket: str,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: str | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Yield bytes [start, stop); what lies beyond the object's end is not there, as in a slice.

        A stall of `read_timeout` seconds raises Unavailable, as does a body that ends early.
        """
        if start < 0 or (stop is not None and stop < start):
            raise ValueError("A range runs from 0 or more, forward.")
        if start == stop:
            return
        headers = {}
        if start or stop is not None:
            headers["range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        if if_match is not None:
            headers["if-match"] = f'"{if_match}"'
        received = 0
        with translated("GetObject"):
            async with self._client.request("GET", bucket, key, headers=headers) as response:
                if response.status == 416:  # noqa: PLR2004 - the range starts beyond the end.
                    return
                await _check_answer(response, start, ranged="range" in headers)
                promised = response.content_length
                async for block in response.content.iter_chunked(BLOCK_BYTES):
                    received += len(block)
                    yield block
        if promised is not None and received != promised:
            raise Unavailable(
                "The object was cut short on its way.",
                code="storage_unavailable",
                hint="Read it again from where it ended.",
            )

    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> None:
        """Store a small object in one request; the store compares what arrives with its MD5."""
        digest = await asyncio.to_thread(ALGORITHMS["md5"].value_of, body)
        headers = {"content-type": content_type, "content-md5": digest}
        await self._ask("PutObject", "PUT", bucket, key, headers=headers, body=body)

    async def delete(self, bucket: str, key: str) -> None:
        """Delete an object, or find it gone."""
        with suppress(NoSuchObject):
            await self._ask("DeleteObject", "DELETE", bucket, key)

    async def list(self, bucket: str, prefix: str) -> AsyncGenerator[StoredObject, None]:
        """Yield the objects under a prefix, page by page, in the store's order.

        That is the order of keys in one folder. Over several, Amazon sorts by the whole key,
        SeaweedFS folder by folder: `a/b` comes before `a-b`.
        """
        more: dict[str, str] = {}
        while True:
            page = await self._client.call(
                "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=_LIST_PAGE, **more
            )
            for entry in page.get("Contents", ()):
                yield StoredObject(
                    bucket, entry["Key"], int(entry["Size"]), unquote_etag(entry.get("ETag", ""))
                )
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated"):
                return
            if not token or token == more.get("ContinuationToken"):
                raise unexpected_answer("ListObjectsV2")
            more = {"ContinuationToken": token}

    async def list_uploads(self, bucket: str, prefix: str) -> AsyncGenerator[MultipartUpload, None]:
        """Yield the unfinished multipart uploads under a prefix, page by page."""
        more: dict[str, str] = {}
        while True:
            page = await self._client.call(
                "list_multipart_uploads",
                Bucket=bucket,
                Prefix=prefix,
                MaxUploads=_LIST_PAGE,
                **more,
            )
            for entry in page.get("Uploads", ()):
                yield MultipartUpload(bucket, entry["Key"], entry["UploadId"])
            if not page.get("IsTruncated"):
                return
            # SeaweedFS lists by upload id, and gives no marker but that.
            after = {
                "KeyMarker": page.get("NextKeyMarker", ""),
                "UploadIdMarker": page.get("NextUploadIdMarker", ""),
            }
            if after == more or not any(after.values()):
                raise unexpected_answer("ListMultipartUploads")
            more = after

    async def _ask(
        self,
        operation: str,
        method: str,
        bucket: str,
        key: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Mapping[str, str]:
        """Make a call whose answer is in its headers, and return them, their names in any case."""
        with translated(operation):
            async with (
                asyncio.timeout(self._client.options.call_timeout),
                self._client.request(method, bucket, key, headers=headers, body=body) as response,
            ):
                document = await read_body(response, limit=_MAX_ERROR_BYTES)
        if response.status < 300:  # noqa: PLR2004 - a success
            return response.headers
        if method == "HEAD":
            # It has no body in which the store could say more.
            raise error_of(response.status, "", operation=operation)
        code = await asyncio.to_thread(parse_error_code, document)
        raise refusal_of(response.status, code, operation=operation)


def _described(bucket: str, key: str, headers: Mapping[str, str]) -> StoredObject:
    """Read the answer to a HEAD."""
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise unexpected_answer("HeadObject")
    checksums = {
        f"Checksum{known.s3_name}": headers[header]
        for known in ALGORITHMS.values()
        if (header := f"x-amz-checksum-{known.name}") in headers
    }
    metadata = {
        name.lower().removeprefix(_METADATA): value
        for name, value in headers.items()
        if name.lower().startswith(_METADATA)
    }
    return StoredObject(
        bucket,
        key,
        int(length),
        unquote_etag(headers.get("etag", "")),
        whole_object_checksums(checksums, headers.get("x-amz-checksum-type")),
        metadata,
    )


async def _check_answer(response: aiohttp.ClientResponse, start: int, *, ranged: bool) -> None:
    """Raise unless the answer holds the bytes that were asked for."""
    if response.status >= 300:  # noqa: PLR2004 - not a success
        document = await read_body(response, limit=_MAX_ERROR_BYTES)
        code = await asyncio.to_thread(parse_error_code, document)
        raise refusal_of(response.status, code, operation="GetObject")
    content_range = response.headers.get("content-range", "")
    if ranged and not content_range.startswith(f"bytes {start}-"):
        # A whole object in the place of a range would be taken for other bytes.
        raise unexpected_answer("GetObject")
