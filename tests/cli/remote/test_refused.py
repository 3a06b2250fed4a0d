"""Files that the gateway does not take: what the commands say, and how they exit."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import minio
import pytest
import pytest_asyncio
from cli.remote.commands import Shell
from client.gate import PART, Gate, running_gate
from samples import PNG, mrc_header
from servers import S3Target

REFUSED = 8
LIMIT = PART + 1000


@pytest_asyncio.fixture(scope="session")
async def strict_gate(s3: S3Target, oracle: minio.Minio, redis_url: str) -> AsyncIterator[Gate]:
    """Start a gateway that takes maps and pictures, and none that is large."""
    settings = {"allowed_types": (".mrc", "image/*"), "max_file_size": LIMIT}
    async with running_gate(s3, oracle, redis_url, **settings) as running:
        yield running


@pytest.fixture
def shell(strict_gate: Gate, tmp_path: Path) -> Shell:
    return Shell(strict_gate, tmp_path)


async def test_a_picture_named_as_a_map_ends_rejected_with_the_reason(
    shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "volume.mrc").write_bytes(PNG + bytes(2000))
    (tmp_path / "right.mrc").write_bytes(mrc_header() + bytes(96))
    ended = await shell.run("upload", tmp_path / "volume.mrc", tmp_path / "right.mrc", "--json")
    assert ended.code == REFUSED
    refused, taken = ended.json
    assert (refused["state"], refused["error"]["code"]) == ("rejected", "rejected")
    assert "MRC2014 map" in refused["error"]["message"]
    assert "PNG image" in refused["error"]["hint"]
    assert refused["error"]["message"] in ended.err
    # The other file is not held up by it.
    assert taken["state"] == "completed"

    status = await shell.run("status", refused["session_id"])
    assert status.code == REFUSED
    assert "rejected" in status.out
    assert "PNG image" in status.out
    download = await shell.run("download", refused["session_id"], "-o", tmp_path / "back")
    assert download.code == 1
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("file", "code", "word"),
    [
        (("notes.txt", 5), "file_type_not_allowed", "image/*"),
        (("large.mrc", LIMIT + 1), "file_too_large", str(LIMIT)),
        (("empty.mrc", 0), "content_not_allowed", "empty"),
    ],
)
async def test_what_is_not_taken_is_refused_before_a_byte_is_sent(
    shell: Shell, tmp_path: Path, file: tuple[str, int], code: str, word: str
) -> None:
    name, size = file
    (tmp_path / name).write_bytes(b"x" * size)
    ended = await shell.run("upload", tmp_path / name, "--json")
    assert ended.code == REFUSED
    [told] = ended.json
    assert told["session_id"] is None
    assert told["error"]["code"] == code
    assert word in ended.err
    assert "hint" in ended.err


async def test_a_stream_that_becomes_too_large_is_aborted(shell: Shell) -> None:
    process = await shell.start(
        "upload",
        "-",
        "--name",
        "a.mrc",
        "--part-size",
        str(PART),
        "--json",
        stdin=asyncio.subprocess.PIPE,
    )
    await process.feed((mrc_header() + bytes(LIMIT))[: LIMIT + 1])
    ended = await process.end()
    assert ended.code == REFUSED
    [told] = ended.json
    assert (told["state"], told["error"]["code"]) == ("aborted", "file_too_large")
