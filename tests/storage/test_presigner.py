"""Presigned URLs in batches: what they name, how long they live, and that signing holds up nobody."""

import asyncio
import gc
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp.multipart import content_disposition_filename, parse_content_disposition
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import MultipartUpload, PartToSign
from gateway.errors import InvalidRequest, Unavailable
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.options import S3Options
from gateway.storage.s3.presigner import S3Presigner, attachment

UPLOAD = MultipartUpload("bucket", "film", "upload")
KEYS = {"access_key_id": "key-id", "secret_access_key": "secret-word"}


def presigner(**options: Any) -> S3Presigner:
    """Make a presigner on a client that is not open: no store is asked."""
    return S3Presigner(S3Client(S3Options(**(KEYS | options))))


async def sign(signer: S3Presigner, *parts: PartToSign, algorithm: str = "crc32") -> Any:
    return await signer.sign_parts(UPLOAD, parts, algorithm=algorithm, expires_in=600)


async def test_urls_name_the_public_endpoint() -> None:
    signer = presigner(
        endpoint_url="http://store:9000", public_endpoint_url="https://files.example.com/s3"
    )
    [signed] = await sign(signer, PartToSign(1, 5))
    assert signed.url.startswith("https://files.example.com/s3/bucket/film?")
    url = await signer.sign_get("bucket", "film", filename="a", content_type="a/b", expires_in=60)
    assert url.startswith("https://files.example.com/s3/bucket/film?")


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({}, "https://bucket.s3.us-east-1.amazonaws.com/film?"),
        ({"region": "cn-north-1"}, "https://bucket.s3.cn-north-1.amazonaws.com.cn/film?"),
        ({"addressing": "path"}, "https://s3.us-east-1.amazonaws.com/bucket/film?"),
        ({"endpoint_url": "http://store:9000"}, "http://store:9000/bucket/film?"),
        (
            {"endpoint_url": "http://store:9000", "addressing": "virtual"},
            "http://bucket.store:9000/film?",
        ),
    ],
)
async def test_the_bucket_is_where_the_addressing_puts_it(
    options: dict[str, Any], start: str
) -> None:
    [signed] = await sign(presigner(**options), PartToSign(1, 5))
    assert signed.url.startswith(start)


async def test_parts_are_signed_in_the_order_given_each_with_size_and_checksum() -> None:
    signed = await sign(
        presigner(), PartToSign(3, 5, "AAAAAA=="), PartToSign(1, 6), algorithm="crc32"
    )
    assert [(part.number, part.size) for part in signed] == [(3, 5), (1, 6)]
    assert [dict(part.headers) for part in signed] == [{"x-amz-checksum-crc32": "AAAAAA=="}, {}]
    names = [parse_qs(urlsplit(part.url).query)["X-Amz-SignedHeaders"] for part in signed]
    assert names == [["content-length;host;x-amz-checksum-crc32"], ["content-length;host"]]


async def test_a_part_without_a_size_is_not_signed() -> None:
    with pytest.raises(ValueError, match="size"):
        await sign(presigner(), PartToSign(1))


class Chain:
    """Credentials as the SDK's chain gives them out."""

    def __init__(self, *lives: timedelta | None) -> None:
        self.lives = list(lives)
        self._expiry_time: datetime | None = None

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        life = self.lives.pop(0)
        self._expiry_time = datetime.now(UTC) + life if life else None
        return ReadOnlyCredentials(f"key-{len(self.lives)}", "secret", "token", None)


def chained(chain: Chain | None) -> S3Presigner:
    client = S3Client(S3Options())

    async def get_credentials() -> Chain | None:
        return chain

    client._session.get_credentials = get_credentials
    return S3Presigner(client)


async def test_urls_end_with_the_credentials_and_new_ones_are_fetched_for_each_batch() -> None:
    signer = chained(Chain(timedelta(seconds=100), None))
    first = await sign(signer, PartToSign(1, 5), PartToSign(2, 5))
    for part in first:
        left = (part.expires_at - datetime.now(UTC)).total_seconds()
        assert 90 < left <= 100
        query = parse_qs(urlsplit(part.url).query)
        assert int(query["X-Amz-Expires"][0]) <= 100
        assert query["X-Amz-Security-Token"] == ["token"]
        assert query["X-Amz-Credential"][0].startswith("key-1/")
    [second] = await sign(signer, PartToSign(1, 5))
    assert (second.expires_at - datetime.now(UTC)).total_seconds() > 500
    assert "key-0" in second.url


async def test_credentials_that_are_over_or_missing_sign_nothing() -> None:
    with pytest.raises(Unavailable):
        await sign(chained(Chain(timedelta(seconds=-5))), PartToSign(1, 5))
    with pytest.raises(Unavailable) as caught:
        await sign(chained(None), PartToSign(1, 5))
    assert caught.value.code == "storage_credentials_missing"


async def test_a_life_beyond_seven_days_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        await presigner().sign_parts(
            UPLOAD, [PartToSign(1, 5)], algorithm="crc32", expires_in=604_801
        )


async def test_ten_thousand_urls_are_signed_without_holding_up_the_loop() -> None:
    signer = presigner()
    parts = [PartToSign(n, 8_388_608, "AAAAAA==") for n in range(1, 10_001)]
    loop = asyncio.get_running_loop()
    gc.collect()
    gc.freeze()
    try:
        pauses = []
        for _ in range(5):
            task = asyncio.create_task(sign(signer, *parts))
            longest, before = 0.0, loop.time()
            while not task.done():
                await asyncio.sleep(0)
                now = loop.time()
                longest, before = max(longest, now - before), now
            assert len(await task) == 10_000
            pauses.append(longest)
    finally:
        gc.unfreeze()
    assert min(pauses) < 0.02


def told(disposition: str) -> tuple[str | None, str | None]:
    """Read a Content-Disposition by somebody else's rules."""
    kind, parameters = parse_content_disposition(disposition)
    return kind, content_disposition_filename(parameters)


@given(st.text(min_size=1, max_size=60))
def test_any_name_travels_whole_and_cannot_end_its_header(name: str) -> None:
    disposition = attachment(name)
    assert disposition.isascii()
    assert disposition.isprintable()
    assert disposition.count('"') == 2
    kind, filename = told(disposition)
    assert kind == "attachment"
    assert filename == name.encode("utf-8", "replace").decode()


def test_old_clients_get_a_likeness_of_the_name() -> None:
    assert attachment('a"b\\c%é.txt') == (
        "attachment; filename=\"a_b_c__.txt\"; filename*=UTF-8''a%22b%5Cc%25%C3%A9.txt"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"secret_access_key": None},
        {"access_key_id": None},
        {"access_key_id": "a b\n"},
        {"endpoint_url": "ftp://store"},
        {"endpoint_url": "http://user:secret-word@store"},
        {"public_endpoint_url": "https://store/?x=1"},
        {"endpoint_url": "http://127.0.0.1:9000", "addressing": "virtual"},
    ],
)
def test_options_that_cannot_work_are_refused_and_not_repeated(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        S3Options(**(KEYS | options))
    assert "secret-word" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("name", ["connect_timeout", "complete_timeout", "max_connections"])
def test_waits_and_connections_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match="positive"):
        S3Options(**{name: 0})


def test_options_do_not_show_their_secret() -> None:
    assert "secret-word" not in repr(S3Options(**KEYS, session_token="secret-word"))
