"""Uploads by curl, as the documents tell people to make them: their very text is run."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import minio
import pytest
import pytest_asyncio
from deployment import TOKEN, Deployment, deployment
from servers import S3Target, new_bucket

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
