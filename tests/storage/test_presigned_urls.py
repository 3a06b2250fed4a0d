"""Presigned URLs used against a real store: what is bound is refused when it differs."""

import base64
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree as ET

import aiohttp
import pytest
from multidict import CIMultiDictProxy
from yarl import URL

from gateway.storage.s3.credentials import Credentials
from gateway.storage.s3.endpoint import Endpoint
from gateway.storage.s3.presign import QuerySigner, SignedURL

BODY = b"the first part, which is also the last"
OTHER = bytes(reversed(BODY))
CRC32 = ("x-amz-checksum-crc32", base64.b64encode(zlib.crc32(BODY).to_bytes(4)).decode())


class Store:
    """A bucket of a real store that is reached through presigned URLs alone."""

    def __init__(self, target: Any, bucket: str, http: aiohttp.ClientSession) -> None:
        self.bucket = bucket
        self.credentials = Credentials(target.access_key_id, target.secret_access_key)
        self.signer = QuerySigner(Endpoint.parse(target.endpoint), target.region)
        self._http = http

    def sign(self, method: str, key: str, **options: Any) -> SignedURL:
        options = {"expires_in": 60, "now": datetime.now(UTC)} | options
        return self.signer.presign(self.credentials, method, self.bucket, key, **options)

    async def send(
        self, method: str, url: str, headers: Any = None, body: bytes = b""
    ) -> tuple[int, CIMultiDictProxy[str], bytes]:
        # The URL is signed as it is written: a client that re-encodes it breaks the signature.
        async with self._http.request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=body or None,
            skip_auto_headers=["Content-Type"],
            timeout=aiohttp.ClientTimeout(total=30),
        ) as response:
            return response.status, response.headers, await response.read()

    async def create(self, key: str) -> str:
        signed = self.sign("POST", key, query=[("uploads", "")])
        status, _, answer = await self.send("POST", signed.url)
        assert status == 200, answer
        upload_id = ET.fromstring(answer).findtext("{*}UploadId")  # noqa: S314 - our own store.
        assert upload_id
        return upload_id

    async def complete(self, key: str, upload_id: str, etag: str) -> None:
        signed = self.sign("POST", key, query=[("uploadId", upload_id)])
        document = (
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
            f"<ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        )
        status, _, answer = await self.send("POST", signed.url, body=document.encode())
        assert status == 200, answer


@pytest.fixture
async def store(s3: Any, bucket: str) -> AsyncIterator[Store]:
    async with aiohttp.ClientSession() as http:
        yield Store(s3, bucket, http)


def code_of(answer: bytes) -> str | None:
    return ET.fromstring(answer).findtext("Code")  # noqa: S314 - our own store.


@pytest.mark.parametrize("checksum", [None, CRC32])
async def test_a_part_url_takes_the_size_it_was_signed_for_and_no_other(
    store: Store, checksum: tuple[str, str] | None
) -> None:
    upload_id = await store.create("film")
    parts = store.signer.parts(
        store.credentials, store.bucket, "film", upload_id, expires_in=60, now=datetime.now(UTC)
    )
    part = parts.sign(1, len(BODY), checksum)
    for wrong in (BODY[:-1], BODY + b"!", b""):
        status, _, answer = await store.send("PUT", part.url, part.headers, wrong)
        assert (status, code_of(answer)) == (403, "SignatureDoesNotMatch")
    status, headers, answer = await store.send("PUT", part.url, part.headers, BODY)
    assert status == 200, answer
    await store.complete("film", upload_id, headers["ETag"])
    status, _, content = await store.send("GET", store.sign("GET", "film").url)
    assert (status, content) == (200, BODY)


async def test_a_part_url_with_a_checksum_takes_no_other_bytes(store: Store) -> None:
    upload_id = await store.create("film")
    parts = store.signer.parts(
        store.credentials, store.bucket, "film", upload_id, expires_in=60, now=datetime.now(UTC)
    )
    part = parts.sign(1, len(BODY), CRC32)
    status, _, answer = await store.send("PUT", part.url, part.headers, OTHER)
    assert (status, code_of(answer)) == (400, "BadDigest")
    # The checksum is signed too: to leave it out, or to claim another, is no way around it.
    other = base64.b64encode(zlib.crc32(OTHER).to_bytes(4)).decode()
    for headers in ({}, {CRC32[0]: other}):
        status, _, answer = await store.send("PUT", part.url, headers, OTHER)
        assert (status, code_of(answer)) == (403, "SignatureDoesNotMatch")
    status, _, answer = await store.send("PUT", part.url, part.headers, BODY)
    assert status == 200, answer


async def test_a_part_url_is_good_for_its_own_part_of_its_own_upload(store: Store) -> None:
    upload_id, another = await store.create("film"), await store.create("film")
    parts = store.signer.parts(
        store.credentials, store.bucket, "film", upload_id, expires_in=60, now=datetime.now(UTC)
    )
    url = parts.sign(1, len(BODY)).url
    for changed in (
        url.replace("partNumber=1", "partNumber=2"),
        url.replace(f"uploadId={upload_id}", f"uploadId={another}"),
        url.replace("/film?", "/song?"),
        url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"),
    ):
        assert changed != url
        status, _, answer = await store.send("PUT", changed, body=BODY)
        assert (status, code_of(answer)) == (403, "SignatureDoesNotMatch")


async def test_an_expired_url_is_refused(store: Store) -> None:
    then = datetime.now(UTC) - timedelta(hours=1)
    signed = store.sign("PUT", "film", now=then, headers={"content-length": str(len(BODY))})
    status, _, _ = await store.send("PUT", signed.url, signed.headers, BODY)
    assert status == 403
    parts = store.signer.parts(
        store.credentials, store.bucket, "film", "u", expires_in=60, now=then
    )
    status, _, _ = await store.send("PUT", parts.sign(1, len(BODY)).url, body=BODY)
    assert status == 403


async def test_a_download_url_decides_the_name_and_the_type(store: Store) -> None:
    put = store.sign("PUT", "film", headers={"content-type": "application/octet-stream"})
    status, _, answer = await store.send("PUT", put.url, put.headers, BODY)
    assert status == 200, answer
    name = "attachment; filename=\"a b.mp4\"; filename*=UTF-8''a%20%C3%A9%20%F0%9F%98%80.mp4"
    get = store.sign(
        "GET",
        "film",
        query=[("response-content-disposition", name), ("response-content-type", "video/mp4")],
    )
    status, headers, content = await store.send("GET", get.url)
    assert (status, content) == (200, BODY)
    assert headers["Content-Disposition"] == name
    assert headers["Content-Type"] == "video/mp4"


@pytest.mark.parametrize(
    "key",
    [
        "a b+c&d=e?f#g%20h%2Fi~.txt",
        "日本語/é/e\u0301/😀👩‍👩‍👧.mov",
        "quote\"'<>[]{}|\\^`;,:@!$*()",
    ],
)
async def test_an_odd_key_is_put_found_and_deleted(store: Store, key: str, oracle: Any) -> None:
    put = store.sign("PUT", key, headers={"content-length": str(len(BODY)), "x-amz-meta-a": "b"})
    status, _, answer = await store.send("PUT", put.url, put.headers, BODY)
    assert status == 200, answer
    found = oracle.stat_object(store.bucket, key)
    assert (found.size, found.metadata["x-amz-meta-a"]) == (len(BODY), "b")
    status, headers, _ = await store.send("HEAD", store.sign("HEAD", key).url)
    assert (status, headers["Content-Length"]) == (200, str(len(BODY)))
    status, _, _ = await store.send("DELETE", store.sign("DELETE", key).url)
    assert status == 204
    status, _, _ = await store.send("HEAD", store.sign("HEAD", key).url)
    assert status == 404


async def test_a_url_is_good_for_its_own_method_only(store: Store) -> None:
    url = store.sign("GET", "film").url
    for method in ("PUT", "DELETE"):
        status, _, _ = await store.send(method, url, body=BODY if method == "PUT" else b"")
        assert status == 403
