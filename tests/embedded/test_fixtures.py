"""The fixtures that all other tests stand on."""

import asyncio
import io
import urllib.request

import minio
import redis.asyncio
from servers import S3Target, remove_bucket


async def test_the_bucket_is_on_the_store_under_test(
    bucket: str, oracle: minio.Minio, s3: S3Target
) -> None:
    assert await asyncio.to_thread(oracle.bucket_exists, bucket)
    assert s3.endpoint.startswith(("http://", "https://"))


def test_a_bucket_is_removed_with_objects_and_unfinished_uploads(oracle: minio.Minio) -> None:
    name = "test-to-be-removed"
    oracle.make_bucket(name)
    for key in ("a", "b/c", "emoji 🙂"):
        oracle.put_object(name, key, io.BytesIO(b"x"), 1)
        upload_id = oracle._create_multipart_upload(name, key + ".big", {})
        oracle._upload_part(name, key + ".big", b"x", None, upload_id, 1)
    remove_bucket(oracle, name)
    assert not oracle.bucket_exists(name)


async def test_redis_answers_and_the_prefix_is_unused(redis_url: str, redis_prefix: str) -> None:
    async with redis.asyncio.from_url(redis_url, protocol=3) as client:
        assert [key async for key in client.scan_iter(match=f"{redis_prefix}*")] == []
        await client.set(f"{redis_prefix}key", "value", ex=60)


def test_moto_answers(moto_server: S3Target) -> None:
    with urllib.request.urlopen(moto_server.endpoint, timeout=10) as answer:  # noqa: S310 - http.
        assert b"ListAllMyBucketsResult" in answer.read()
