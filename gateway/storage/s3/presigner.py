"""Presigned URLs of an S3 store: the `Presigner` port. No call to the store is made.

A batch is signed with the credentials of one moment. 1,000 part URLs take some 6 ms of the event
loop; longer batches let others run in between.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from gateway.core.checksums import ALGORITHMS
from gateway.core.model import MultipartUpload, PartToSign, SignedPart
from gateway.core.ports import Presigner
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.endpoint import Endpoint
from gateway.storage.s3.presign import QuerySigner

_AT_ONCE = 500


class S3Presigner(Presigner):
    """Signs URLs that name the store's public endpoint, or another one where given."""

    def __init__(self, client: S3Client, *, endpoint: Endpoint | None = None) -> None:
        self._client = client
        options = client.options
        self._signer = QuerySigner(endpoint or options.public_endpoint, options.region)

    async def sign_parts(
        self,
        upload: MultipartUpload,
        parts: Sequence[PartToSign],
        *,
        algorithm: str,
        expires_in: int,
    ) -> list[SignedPart]:
        """Sign one PUT a part, in the order given; see the port for what is bound."""
        signer = self._signer.parts(
            await self._client.credentials(),
            upload.bucket,
            upload.key,
            upload.upload_id,
            expires_in=expires_in,
            now=datetime.now(UTC),
        )
        header = ALGORITHMS[algorithm].header
        signed: list[SignedPart] = []
        for index, part in enumerate(parts, 1):
            if part.size is None:
                raise ValueError("A part is signed with its size.")
            checksum = (header, part.checksum) if part.checksum is not None else None
            signed.append(signer.sign(part.number, part.size, checksum))
            if index % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return signed

    async def sign_get(
        self, bucket: str, key: str, *, filename: str, content_type: str, expires_in: int
    ) -> str:
        """Sign one GET that downloads as `filename` with `content_type`."""
        signed = self._signer.presign(
            await self._client.credentials(),
            "GET",
            bucket,
            key,
            expires_in=expires_in,
            now=datetime.now(UTC),
            query=[
                ("response-content-disposition", attachment(filename)),
                ("response-content-type", content_type),
            ],
        )
        return signed.url


def attachment(filename: str) -> str:
    """Return a Content-Disposition that saves under this name, whatever is in it.

    By RFC 6266 and RFC 8187: `filename*` carries the true name in UTF-8, percent-encoded, so that
    nothing in it can end the value; `filename` is a plain ASCII likeness for old clients.
    """
    plain = "".join(
        char if char.isascii() and char.isprintable() and char not in '"\\%' else "_"
        for char in filename
    )
    # A lone surrogate has no UTF-8 form.
    encoded = quote(filename.encode("utf-8", "replace"), safe="!#$&+.^`|~")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
