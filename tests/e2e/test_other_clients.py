"""What aws-cli and the MinIO SDK see and do in the same bucket, beside and behind the gateway."""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import minio
import orjson
import pytest
import pytest_asyncio
from deployment import Deployment, deployment
from servers import S3Target

PART = 8 * 1024 * 1024


class AwsCli:
    """`aws s3api` of the awscli distribution, as a real process with the store's credentials."""

    def __init__(self, s3: S3Target, home: Path) -> None:
        self._s3 = s3
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "AWS_ACCESS_KEY_ID": s3.access_key_id,
            "AWS_SECRET_ACCESS_KEY": s3.secret_access_key,
            "AWS_REGION": s3.region,
            "AWS_PAGER": "",
        }

    async def s3api(self, *arguments: str) -> Any:
        """Run one operation, and return its JSON answer."""
        process = await asyncio.create_subprocess_exec(
            # By the interpreter: the script's own first line is broken by a space in the path.
            *(sys.executable, str(Path(sys.executable).with_name("aws"))),
            *("--endpoint-url", self._s3.endpoint, "s3api", *arguments),
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return orjson.loads(out or b"null")


@pytest.fixture
def aws(s3: S3Target, tmp_path: Path) -> AwsCli:
    return AwsCli(s3, tmp_path)


@pytest_asyncio.fixture
async def deployed(s3: S3Target, bucket: str, tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployment(s3, bucket, tmp_path) as running:
        yield running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shared.bin"
    path.write_bytes(os.urandom(2 * PART + 1))
    return path


async def interrupted(deployed: Deployment, file: Path, parts: int) -> dict[str, Any]:
    """Upload until so many parts are acknowledged, kill the client, and return the session."""
    deployed.proxy.hold_after(parts)
    client = await deployed.start_client("upload", str(file))
    await deployed.acknowledged_parts(at_least=parts)
    await client.kill()
    deployed.proxy.release()
    [session] = (await deployed.call("GET", "/uploads"))["uploads"]
    return dict(session)


async def upload_of(aws: AwsCli, bucket: str, session_id: str) -> tuple[str, str]:
    """Find the session's multipart upload as aws-cli sees it; return key and upload id."""
    listed = await aws.s3api(
        "list-multipart-uploads", "--bucket", bucket, "--prefix", f"uploads/{session_id}/"
    )
    [upload] = listed["Uploads"]
    return upload["Key"], upload["UploadId"]


async def parts_of(aws: AwsCli, bucket: str, key: str, upload_id: str) -> list[dict[str, Any]]:
    listed = await aws.s3api(
        *("list-parts", "--bucket", bucket, "--key", key, "--upload-id", upload_id)
    )
    return list(listed["Parts"])


async def test_aws_cli_and_minio_see_the_same_parts_and_object(
    deployed: Deployment, aws: AwsCli, oracle: minio.Minio, bucket: str, file: Path
) -> None:
    session = await interrupted(deployed, file, 2)
    key, upload_id = await upload_of(aws, bucket, session["session_id"])
    ours = (await deployed.call("GET", f"/uploads/{session['session_id']}/parts"))["parts"]
    theirs = await parts_of(aws, bucket, key, upload_id)
    assert [(p["part_number"], p["size"], p["etag"]) for p in ours] == [
        (p["PartNumber"], p["Size"], p["ETag"].strip('"')) for p in theirs
    ]

    receipt = await (await deployed.start_client("upload", str(file), "--json")).receipt()
    assert receipt["object"]["key"] == key
    head = await aws.s3api("head-object", "--bucket", bucket, "--key", key)
    assert head["ContentLength"] == receipt["size"]
    assert head["ETag"].strip('"') == receipt["object"]["etag"]
    assert head["Metadata"]["gw-session"] == session["session_id"]

    def read() -> str:
        answer = oracle.get_object(bucket, key)
        try:
            return hashlib.sha256(answer.read()).hexdigest()
        finally:
            answer.close()
            answer.release_conn()

    expected = hashlib.sha256(await asyncio.to_thread(file.read_bytes)).hexdigest()
    assert await asyncio.to_thread(read) == expected


async def test_a_complete_behind_the_gateway_s_back_ends_verified(
    deployed: Deployment, aws: AwsCli, bucket: str, file: Path
) -> None:
    deployed.proxy.hold_after(3)
    client = await deployed.start_client("upload", str(file))
    await deployed.proxy.wait_for_parts(3)
    # All parts are stored; the gateway must not have completed them yet.
    await deployed.kill_gateway()
    await client.kill()
    await deployed.start_gateway()
    [session] = (await deployed.call("GET", "/uploads"))["uploads"]
    if session["state"] == "open":
        key, upload_id = await upload_of(aws, bucket, session["session_id"])
        parts = await parts_of(aws, bucket, key, upload_id)
        chosen = [{"PartNumber": p["PartNumber"], "ETag": p["ETag"]} for p in parts]
        await aws.s3api(
            *("complete-multipart-upload", "--bucket", bucket, "--key", key),
            *("--upload-id", upload_id),
            *("--multipart-upload", orjson.dumps({"Parts": chosen}).decode()),
        )
    # The client that comes back finds a finished upload, not a lost one.
    receipt = await (await deployed.start_client("upload", str(file), "--json")).receipt()
    assert receipt["session_id"] == session["session_id"]
    assert receipt["state"] == "completed"
    assert receipt["parts_sent"] == 0


async def test_an_abort_behind_the_gateway_s_back_closes_the_session(
    deployed: Deployment, aws: AwsCli, bucket: str, file: Path
) -> None:
    session = await interrupted(deployed, file, 1)
    key, upload_id = await upload_of(aws, bucket, session["session_id"])
    await aws.s3api(
        *("abort-multipart-upload", "--bucket", bucket, "--key", key, "--upload-id", upload_id)
    )
    # The client starts again by itself, in a new session.
    receipt = await (await deployed.start_client("upload", str(file), "--json")).receipt()
    assert receipt["state"] == "completed"
    assert receipt["session_id"] != session["session_id"]
    closed = await deployed.call("GET", f"/uploads/{session['session_id']}")
    assert (closed["state"], closed["error"]["code"]) == ("aborted", "upload_lost")
