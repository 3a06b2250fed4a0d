"""Uploads by curl, as the documents tell people to make them: their very text is run."""

import asyncio
import io
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import minio
import pytest
import pytest_asyncio
from deployment import TOKEN, Deployment, deployment
from servers import S3Target, new_bucket
from yarl import URL

README = Path(__file__).parents[2] / "README.md"
MIB = 1024 * 1024
SHELLS = {"bash": ("bash", "-euo", "pipefail", "-c"), "sh": ("sh", "-eu", "-c")}


@pytest_asyncio.fixture(scope="module")
async def deployed(
    s3: S3Target, oracle: minio.Minio, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Deployment]:
    home = tmp_path_factory.mktemp("gateway")
    async with new_bucket(oracle) as bucket, deployment(s3, bucket, home) as running:
        yield running


def walk_through() -> str:
    """Cut the section's one block of code out of the README."""
    section = README.read_text().partition("### An upload by hand\n")[2].partition("\n### ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    return str(blocks[0])


async def run(deployed: Deployment, shell: str, script: str, folder: Path, **given: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *SHELLS[shell],
        script,
        cwd=folder,
        env={**os.environ, "GW_SERVER": deployed.url, "GW_TOKEN": TOKEN, **given},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, (out + err).decode()
    return out.decode()


@pytest.mark.parametrize("shell", SHELLS)
async def test_the_readmes_upload_by_hand_brings_the_file_back(
    deployed: Deployment, tmp_path: Path, shell: str
) -> None:
    content = os.urandom(2 * 8 * MIB + 12_345)
    file = tmp_path / 'a "film" of ours 🎬.mkv'
    file.write_bytes(content)
    out = await run(deployed, shell, walk_through(), tmp_path, file=file.name)
    assert out.splitlines() == [
        "part 1 is stored; missing now: 2-3",
        "part 2 is stored; missing now: 3",
        "part 3 is stored; missing now: ",
        "completed",
        "the same bytes",
    ]
    assert (tmp_path / "copy").read_bytes() == content


# What differs from one upload to the next.
VARYING = {
    "session_id",
    "url",
    "key",
    "bucket",
    "created_at",
    "updated_at",
    "expires_at",
    "server_time",
    "version",
}


def masked(value: Any) -> Any:
    if isinstance(value, list):
        return [masked(item) for item in value]
    if isinstance(value, dict):
        return {k: "..." if k in VARYING else masked(v) for k, v in value.items()}
    return value


async def test_the_examples_of_the_document_are_what_the_gateway_answers(
    deployed: Deployment, tmp_path: Path
) -> None:
    """The curl lines of the document, in the order of one upload, with its examples for answers."""
    content = bytes(range(256)) * 49152
    document = await deployed.call("GET", "/openapi.json")
    calls = {
        found["operationId"]: found
        for item in document["paths"].values()
        for found in calls_of(item)
    }
    given: dict[str, str] = {}

    async def curl(operation_id: str) -> str:
        call = calls[operation_id]
        command = call["x-codeSamples"][0]["source"].replace("curl ", "curl -sS --fail ", 1)
        return await run(deployed, "bash", command, tmp_path, **given)

    async def compare(operation_id: str, status: str = "200") -> Any:
        answer = json.loads(await curl(operation_id))
        shown = calls[operation_id]["responses"][status]["content"]["application/json"]["example"]
        assert masked(answer) == masked(shown)
        return answer

    given["SESSION_ID"] = (await compare("create", "201"))["session_id"]
    etags = []
    async with aiohttp.ClientSession() as store:
        for part in (await compare("sign"))["parts"]:
            start = (part["part_number"] - 1) * 8 * MIB
            body = io.BytesIO(content[start : start + part["size"]])
            url = URL(part["url"], encoded=True)
            async with store.put(url, data=body, headers=part["headers"]) as answer:
                assert answer.ok
                etags.append(answer.headers["ETag"])
    assert len(etags) == 2
    await compare("acknowledge")
    assert await curl("progress") == ""
    await compare("get")
    await compare("parts")
    await compare("complete")
    assert "event: end" in await curl("events")
    await compare("version")
    listed = json.loads(await curl("find"))["uploads"]
    assert given["SESSION_ID"] in [session["session_id"] for session in listed]
    assert json.loads(await curl("readiness"))["status"] == "ready"
    await curl("content")
    assert (tmp_path / "film.mp4").read_bytes() == content
    assert "Content-Length: 12582912" in await curl("describeContent")
    # The others that need no more than a session: each line runs, and is answered with a success.
    given["SESSION_ID"] = json.loads(await curl("createInit"))["session_id"]
    for operation_id in ("abort", "health", "metrics", "openapi", "page", "docs", "static"):
        await curl(operation_id)


def calls_of(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for name, value in item.items() if name != "parameters"]
