"""Servers under test: what the fixtures of `conftest.py` hand out, and ways to look at them."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import minio
import urllib3
from minio.deleteobjects import DeleteObject


@dataclass(frozen=True)
class S3Target:
    """An S3 store to test against, path style."""

    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str = field(repr=False)


@contextlib.contextmanager
def oracle_for(target: S3Target) -> Iterator[minio.Minio]:
    """Give a client by other people, to see independently what is in the store.

    It blocks: call it with `asyncio.to_thread`. It tries once, within bounded time.
    """
    pool = urllib3.PoolManager(
        maxsize=16, retries=False, timeout=urllib3.Timeout(connect=5, read=60)
    )
    url = urllib3.util.parse_url(target.endpoint)
    try:
        yield minio.Minio(
            url.netloc,
            access_key=target.access_key_id,
            secret_key=target.secret_access_key,
            secure=url.scheme == "https",
            region=target.region,
            http_client=pool,
        )
    finally:
        pool.clear()


@contextlib.asynccontextmanager
async def new_bucket(client: minio.Minio) -> AsyncIterator[str]:
    """Make a new bucket, and remove it afterwards with all that is in it."""
    name = f"test-{uuid.uuid4().hex}"
    await asyncio.to_thread(client.make_bucket, name)
    try:
        yield name
    finally:
        await asyncio.to_thread(remove_bucket, client, name)


def remove_bucket(client: minio.Minio, bucket: str) -> None:
    """Remove a bucket with all that is in it, unfinished multipart uploads too."""
    # The public interface of this SDK has no multipart uploads.
    truncated, key_marker, id_marker = True, None, None
    while truncated:
        page = client._list_multipart_uploads(
            bucket, key_marker=key_marker, upload_id_marker=id_marker
        )
        for upload in page.uploads:
            client._abort_multipart_upload(bucket, upload.object_name, upload.upload_id)
        truncated = page.is_truncated
        key_marker, id_marker = page.next_key_marker, page.next_upload_id_marker
    found = client.list_objects(bucket, recursive=True, include_version=True)
    doomed = (DeleteObject(item.object_name, item.version_id) for item in found)
    for error in client.remove_objects(bucket, doomed):
        raise AssertionError(error)
    client.remove_bucket(bucket)


def process_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has reaped yet counts as ended."""
    try:
        # The state is the first word after the name, which is in brackets.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def until(condition: Callable[[], bool], *, seconds: float) -> None:
    """Wait for something outside this process, which sends no event."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what another process does sets no event here.
            await asyncio.sleep(0.02)


def process_file(pid: int, name: str) -> bytes:
    """Read a file of /proc about a process: cmdline, environ..."""
    return Path(f"/proc/{pid}/{name}").read_bytes()


def listening_addresses(pid: int) -> set[str]:
    """Give the IP addresses on which a process listens, as /proc/net/tcp and tcp6 write them.

    127.0.0.1 is "0100007F" on a little-endian machine.
    """
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            inodes.add(descriptor.readlink().name)
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in inodes:
                addresses.add(local.partition(":")[0])
    return addresses
