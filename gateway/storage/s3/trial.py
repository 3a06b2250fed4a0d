"""Throw-away uploads for the probe: made and used like real ones, and cleared away afterwards."""

import io
import uuid
from contextlib import suppress

import aiohttp
from yarl import URL

from gateway.core.checksums import Checksum
from gateway.core.model import MultipartUpload, Part, PartToSign, StorageLimits, StoredObject
from gateway.errors import GatewayError, NoSuchObject
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.errors import error_of, translated
from gateway.storage.s3.objects import S3ObjectStore
from gateway.storage.s3.presigner import S3Presigner
from gateway.storage.s3.storage import S3Storage
from gateway.storage.s3.xml import unquote_etag

PREFIX = ".gateway/probe/"
_EXPIRES_IN = 300


class Trial:
    """Uploads below one random key, with the algorithms of one `StorageLimits` declared."""

    def __init__(self, client: S3Client, bucket: str, limits: StorageLimits) -> None:
        self.storage = S3Storage(client, limits=limits)
        self.objects = S3ObjectStore(client)
        self.bucket = bucket
        self.key = f"{PREFIX}{uuid.uuid4().hex}"
        self._client = client
        # The gateway may not reach the public endpoint, so parts go by its own.
        self._presigner = S3Presigner(client, endpoint=client.options.endpoint)
        self._open: list[MultipartUpload] = []

    async def create(self, algorithm: str) -> MultipartUpload:
        """Create an upload."""
        upload = await self.storage.create(
            self.bucket,
            self.key,
            content_type="application/octet-stream",
            metadata={"gw-probe": "1"},
            algorithm=algorithm,
        )
        self._open.append(upload)
        return upload

    async def put_part(
        self,
        upload: MultipartUpload,
        number: int,
        body: bytes,
        *,
        checksum: Checksum | None = None,
        signed_size: int | None = None,
    ) -> Part | None:
        """Send a part by a presigned URL; None where the store refuses it."""
        algorithm, value = (checksum.algorithm, checksum.value) if checksum else ("crc32", None)
        [signed] = await self._presigner.sign_parts(
            upload,
            [PartToSign(number, len(body) if signed_size is None else signed_size, value)],
            algorithm=algorithm,
            expires_in=_EXPIRES_IN,
        )
        options = self._client.options
        timeout = aiohttp.ClientTimeout(
            total=options.call_timeout, sock_connect=options.connect_timeout
        )
        with translated("UploadPart"):
            async with self._client.http.put(
                URL(signed.url, encoded=True),
                data=io.BytesIO(body),
                headers=dict(signed.headers),
                skip_auto_headers=["content-type"],
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                status = response.status
                etag = unquote_etag(response.headers.get("etag", ""))
        if status >= 500:  # noqa: PLR2004 - trouble in the store is no refusal
            raise error_of(status, "", operation="UploadPart")
        stored = status == 200 and etag  # noqa: PLR2004 - OK
        return Part(number, len(body), etag, value) if stored else None

    async def complete(
        self,
        upload: MultipartUpload,
        parts: list[Part],
        algorithm: str,
        *,
        if_none_match: bool = False,
    ) -> StoredObject:
        """Complete an upload and describe the object."""
        await self.storage.complete(upload, parts, algorithm=algorithm, if_none_match=if_none_match)
        self._open.remove(upload)
        return await self.objects.head(self.bucket, self.key)

    async def clear(self) -> str | None:
        """Remove all that was made; return why something may be left, or None."""
        problem: str | None = None
        for upload in self._open:
            try:
                await self.storage.abort(upload)
            except GatewayError as error:
                problem = error.message
        try:
            with suppress(NoSuchObject):
                await self.objects.delete(self.bucket, self.key)
        except GatewayError as error:
            problem = error.message
        return problem
