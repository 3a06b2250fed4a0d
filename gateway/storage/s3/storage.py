"""Multipart uploads in an S3 store: the `Storage` port.

Every call is sent once. Which outcome of CompleteMultipartUpload is a success, a refusal or
neither, is decided here and in `errors.py`, and nowhere else.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

import aiohttp

from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.model import MultipartUpload, Part, StorageLimits, StoredObject
from gateway.core.ports import Presigner, Storage
from gateway.errors import Conflict, GatewayError, NoSuchUpload, Unavailable
from gateway.storage.s3.client import S3Client, read_body
from gateway.storage.s3.errors import (
    complete_error_of,
    damaged_part,
    never_sent,
    part_error_of,
    refusal_of,
    translated,
    uncertain,
    unexpected_answer,
)
from gateway.storage.s3.listing import PAGE_PARTS, walk_parts
from gateway.storage.s3.xml import (
    MalformedReply,
    PartsPage,
    Refusal,
    parse_completed,
    parse_error_code,
    parse_parts,
    unquote_etag,
    write_complete,
)

# A page of 1,000 parts takes 160 kB at SeaweedFS, and 400 kB with checksums at Amazon.
_MAX_PAGE_BYTES = 8 * 1024 * 1024
_MAX_REPLY_BYTES = 1024 * 1024
# A part that was on its way when the upload was aborted may arrive after it.
_ABORT_ROUNDS = 6
_ABORT_PAUSE = 0.1


class S3Storage(Storage):
    """Multipart uploads in one store. `limits` come from `probe`; the client is shared."""

    def __init__(
        self,
        client: S3Client,
        *,
        limits: StorageLimits | None = None,
        presigner: Presigner | None = None,
    ) -> None:
        self.limits = limits or StorageLimits()
        self.presigner = presigner
        self._client = client

    async def create(
        self,
        bucket: str,
        key: str,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        algorithm: str,
    ) -> MultipartUpload:
        """Create a multipart upload, declaring the checksums that the store is known to keep.

        Amazon refuses a part with a checksum that was not declared here. It computes a full-object
        checksum even of parts that come without one; a declared SHA-256 (a composite), however,
        makes it refuse parts without.
        """
        answer = await self._client.call(
            "create_multipart_upload",
            Bucket=bucket,
            Key=key,
            ContentType=content_type,
            Metadata=dict(metadata),
            **self._declared(algorithm),
        )
        upload_id = answer.get("UploadId")
        if not upload_id:
            raise unexpected_answer("CreateMultipartUpload")
        return MultipartUpload(bucket, key, upload_id)

    async def put_part(
        self,
        upload: MultipartUpload,
        number: int,
        body: AsyncIterator[bytes],
        *,
        size: int,
        algorithm: str,
        checksum: str | None = None,
    ) -> Part:
        """Stream one part; what comes back of checksums is compared with what was bound."""
        header = ALGORITHMS[algorithm].header
        headers = {"content-length": str(size)}
        bound = checksum is not None and algorithm in self.limits.part_checksums
        if bound and checksum is not None:
            headers[header] = checksum
        sent = _Sent(body, self._client.options.read_timeout)
        try:
            with translated("UploadPart"):
                async with (
                    sent.watched(),
                    self._client.request(
                        "PUT",
                        upload.bucket,
                        upload.key,
                        query=[("uploadId", upload.upload_id), ("partNumber", str(number))],
                        headers=headers,
                        body=sent.blocks() if size else None,
                    ) as response,
                ):
                    status, answered = response.status, response.headers
                    document = await read_body(response, limit=_MAX_REPLY_BYTES)
        except GatewayError:
            # The body's own failure broke the request off, and says why.
            failure = sent.take_failure()
            if failure is None:
                raise
            try:
                raise failure from None
            finally:
                # Its frames, of which this is one, hold what was on its way.
                del failure
        if status != 200:  # noqa: PLR2004 - OK
            raise part_error_of(status, parse_error_code(document))
        etag = unquote_etag(answered.get("etag", ""))
        if not etag:
            raise unexpected_answer("UploadPart")
        computed = answered.get(header)
        if bound and computed not in {None, checksum}:
            raise damaged_part()
        return Part(number, size, etag, computed)

    def list_parts(self, upload: MultipartUpload) -> AsyncGenerator[Part, None]:
        """Yield what the store has, in order of number, several pages being fetched at once."""

        async def fetch(marker: int) -> PartsPage:
            return await self._page(upload, marker)

        return walk_parts(fetch)

    async def complete(
        self,
        upload: MultipartUpload,
        parts: Sequence[Part],
        *,
        algorithm: str,
        checksum: Checksum | None = None,
        if_none_match: bool = False,
    ) -> StoredObject:
        """Send CompleteMultipartUpload exactly once, and believe only an answer with an ETag."""
        declared = self._declared(algorithm)
        headers = {"content-type": "application/xml"}
        if if_none_match:
            headers["if-none-match"] = "*"
        if checksum is not None and declared.get("ChecksumType") == "FULL_OBJECT":
            headers[checksum.header] = checksum.value
            headers["x-amz-checksum-type"] = "FULL_OBJECT"
        # A composite is made of the checksums listed here; for a full-object one they are optional.
        composite = declared.get("ChecksumType") == "COMPOSITE"
        element = f"Checksum{ALGORITHMS[algorithm].s3_name}" if composite else None
        body = await self._client.in_thread(_complete_body, parts, element)
        status, reply = await self._send_complete(upload, headers, body)
        try:
            completed = await self._client.in_thread(parse_completed, reply)
        except MalformedReply as error:
            if status == 200:  # noqa: PLR2004 - OK
                raise uncertain(status) from error
            raise complete_error_of(status, "") from error
        if isinstance(completed, Refusal):
            raise complete_error_of(status, completed.code)
        if status != 200 or not completed.etag:  # noqa: PLR2004 - OK
            raise uncertain(status)
        return StoredObject(
            upload.bucket,
            upload.key,
            sum(part.size for part in parts),
            completed.etag,
            completed.checksums,
        )

    async def abort(self, upload: MultipartUpload) -> None:
        """Abort until nothing is listed; raises Unavailable where parts keep coming."""
        for round_ in range(_ABORT_ROUNDS):
            try:
                await self._client.call(
                    "abort_multipart_upload",
                    Bucket=upload.bucket,
                    Key=upload.key,
                    UploadId=upload.upload_id,
                )
                if not await self._has_parts(upload):
                    return
            except NoSuchUpload:
                return
            await asyncio.sleep(_ABORT_PAUSE * 2**round_)
        raise Unavailable(
            "Parts keep arriving in an upload that was aborted.",
            code="abort_incomplete",
            hint="Abort it again once its clients have stopped.",
        )

    def _declared(self, algorithm: str) -> dict[str, str]:
        """Return what to declare of checksums; the type shapes the completion too."""
        known = ALGORITHMS.get(algorithm)
        if known is None or algorithm not in self.limits.part_checksums:
            return {}
        if known.combinable and algorithm in self.limits.object_checksums:
            return {"ChecksumAlgorithm": known.s3_name, "ChecksumType": "FULL_OBJECT"}
        if known.composite:
            return {"ChecksumAlgorithm": known.s3_name, "ChecksumType": "COMPOSITE"}
        return {"ChecksumAlgorithm": known.s3_name}

    async def _has_parts(self, upload: MultipartUpload) -> bool:
        async with aclosing(walk_parts(lambda marker: self._page(upload, marker))) as parts:
            return await anext(parts, None) is not None

    async def _page(self, upload: MultipartUpload, marker: int) -> PartsPage:
        query = [("uploadId", upload.upload_id), ("max-parts", str(PAGE_PARTS))]
        if marker:
            query.append(("part-number-marker", str(marker)))
        operation = "ListParts"
        with translated(operation):
            async with (
                asyncio.timeout(self._client.options.call_timeout),
                self._client.request("GET", upload.bucket, upload.key, query=query) as response,
            ):
                status = response.status
                document = await read_body(response, limit=_MAX_PAGE_BYTES)
        if status != 200:  # noqa: PLR2004 - OK
            raise refusal_of(status, parse_error_code(document), operation=operation)
        try:
            page = await self._client.in_thread(parse_parts, document)
        except MalformedReply as error:
            raise unexpected_answer(operation) from error
        if isinstance(page, Refusal):
            raise refusal_of(status, page.code, operation=operation)
        return page

    async def _send_complete(
        self, upload: MultipartUpload, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]:
        """Return status and body of the answer; whatever happens on the way is Uncertain."""
        limit = self._client.options.complete_timeout
        try:
            async with (
                asyncio.timeout(limit),
                self._client.request(
                    "POST",
                    upload.bucket,
                    upload.key,
                    query=[("uploadId", upload.upload_id)],
                    headers=headers,
                    body=body,
                    # White space may come while the store works, or nothing at all.
                    read_timeout=limit,
                ) as response,
            ):
                return response.status, await read_body(response, limit=_MAX_REPLY_BYTES)
        except GatewayError:
            # The signer's: nothing was sent.
            raise
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if never_sent(error):
                with translated("CompleteMultipartUpload"):
                    raise
            raise uncertain() from error


class _Sent:
    """A body on its way to the store: what its source raised, and how long the store may stall.

    The source has limits of its own, so that its time is not counted here.
    """

    def __init__(self, source: AsyncIterator[bytes], patience: float) -> None:
        self._failure: Exception | None = None
        self._broken_off: ConnectionAbortedError | None = None
        self._source = source
        self._patience = patience
        self._limit: asyncio.Timeout | None = None

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Raise TimeoutError inside where the store has stalled for too long."""
        async with asyncio.timeout(self._patience) as self._limit:
            yield

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the source's blocks; ConnectionAbortedError stands for what the source raises."""
        while True:
            self._allow(None)
            try:
                block = await anext(self._source, b"")
            except Exception as error:  # noqa: BLE001 - whatever it is, `put_part` raises it.
                self._failure = error
                break
            self._allow(self._patience)
            if not block:
                return
            yield block
        # Behind the handler, so that the source's error is not its context.
        self._broken_off = ConnectionAbortedError("The body has failed.")
        raise self._broken_off

    def take_failure(self) -> Exception | None:
        """Return what the source raised, if it did, and let go of all that its bytes hang on.

        aiohttp keeps the error of a body in the connection, which the error's frames hold: a ring,
        which would keep what was on its way until the next full collection, hundreds of parts later.
        """
        failure, self._failure = self._failure, None
        if self._broken_off is not None:
            self._broken_off.__traceback__ = None
        return failure

    def _allow(self, seconds: float | None) -> None:
        if self._limit is not None and not self._limit.expired():
            now = asyncio.get_running_loop().time()
            self._limit.reschedule(None if seconds is None else now + seconds)


def _complete_body(parts: Sequence[Part], checksum_element: str | None) -> bytes:
    ordered = sorted(parts, key=lambda part: part.number)
    try:
        if not ordered:
            # SeaweedFS answers NoSuchUpload to an empty list, which would be misleading.
            raise ValueError("There are no parts.")  # noqa: TRY301 - one refusal for both.
        return write_complete(ordered, checksum_element=checksum_element)
    except ValueError as error:
        raise Conflict(
            "This list of parts cannot be completed.",
            code="parts_refused",
            hint="Every upload has a part, an empty file an empty one; ETags are the store's.",
        ) from error
