"""The example clients of `chunked-file-upload.md`, written anew from its description.

curl, Python and JavaScript against form A of a real gateway, which is killed in the middle of each
upload and started again. What they resume by is the answer of `/upload-status`, and nothing else.
"""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import minio
import pytest
import pytest_asyncio
from deployment import Deployment
from older import MIB, Older, older_gateway, some_bytes
from playwright.async_api import async_playwright
from servers import S3Target

CHROMIUM = "/usr/bin/chromium"
SIZE = 7 * MIB + 12_345
CHUNKS = 8
CUT = 3

CURL = r"""
set -eu
file_id=$1; dir=$2
total=$(ls "$dir" | wc -l)
# Where to begin: the length of the unbroken run, or nothing where the file is not known.
start=$(curl -sS "$SERVER/upload-status/$file_id" | sed -n 's/.*"uploaded_chunks":\([0-9]*\).*/\1/p')
index=0
for chunk in "$dir"/*; do
  if [ "$index" -ge "${start:-0}" ]; then
    curl -sS --fail-with-body -X POST "$SERVER/upload-chunk" \
      -F "file_id=$file_id" \
      -F "chunk_index=$index" \
      -F "total_chunks=$total" \
      -F "filename=large_file.pdf" \
      -F "chunk=@$chunk"
    echo
  fi
  index=$((index + 1))
done
"""

PYTHON = r"""
import os, sys
import requests

server, file_id, path = sys.argv[1:]
chunk_size = 1024 * 1024
size = os.path.getsize(path)
total = (size + chunk_size - 1) // chunk_size
start = requests.get(f"{server}/upload-status/{file_id}", timeout=30).json().get("uploaded_chunks", 0)
with open(path, "rb") as file:
    file.seek(start * chunk_size)
    for index in range(start, total):
        answer = requests.post(
            f"{server}/upload-chunk",
            files={"chunk": ("chunk", file.read(chunk_size), "application/octet-stream")},
            data={
                "file_id": file_id,
                "chunk_index": index,
                "total_chunks": total,
                "filename": os.path.basename(path),
            },
            timeout=60,
        )
        answer.raise_for_status()
        print(answer.json(), flush=True)
        if answer.json()["status"] == "completed":
            break
"""

JAVASCRIPT = r"""
class ChunkedUploader {
  constructor(server = "") {
    this.server = server;
    this.chunkSize = 1024 * 1024;
  }
  createChunks(file) {
    const chunks = [];
    for (let start = 0; start < file.size; start += this.chunkSize)
      chunks.push(file.slice(start, Math.min(start + this.chunkSize, file.size)));
    return chunks;
  }
  async uploadChunk(fileId, index, chunk, filename, total) {
    const form = new FormData();
    form.append("file_id", fileId);
    form.append("chunk_index", index.toString());
    form.append("total_chunks", total.toString());
    form.append("filename", filename);
    form.append("chunk", chunk);
    const response = await fetch(`${this.server}/upload-chunk`, {method: "POST", body: form});
    return await response.json();
  }
  async uploadFile(file, fileId, onProgress) {
    const chunks = this.createChunks(file);
    for (let i = 0; i < chunks.length; i++)
      onProgress(await this.uploadChunk(fileId, i, chunks[i], file.name, chunks.length));
  }
  async resumeUpload(fileId, file, onProgress) {
    const status = await (await fetch(`${this.server}/upload-status/${fileId}`)).json();
    if (status.status !== "uploading") return status;
    const chunks = this.createChunks(file);
    for (let i = status.uploaded_chunks; i < chunks.length; i++)
      onProgress(await this.uploadChunk(fileId, i, chunks[i], file.name, chunks.length));
    return await (await fetch(`${this.server}/upload-status/${fileId}`)).json();
  }
}
window.makeFile = () => {
  // Rows of 1,000 bytes, each with its number: no two places are alike.
  const bytes = new Uint8Array(SIZE), view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += 1000) {
    bytes.fill((at / 1000) % 251, at, at + 1000);
    if (at + 4 <= bytes.length) view.setUint32(at, at / 1000);
  }
  return new File([bytes], "large_file.pdf");
};
window.uploader = new ChunkedUploader();
"""


@pytest_asyncio.fixture(scope="module")
async def running(
    s3: S3Target, oracle: minio.Minio, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Older, Deployment]]:
    async with older_gateway(s3, oracle, tmp_path_factory.mktemp("gateway")) as both:
        yield both


async def lines(stream: asyncio.StreamReader, count: int) -> list[str]:
    return [(await stream.readline()).decode() for _ in range(count)]


async def run_and_cut(
    older: Older, deployed: Deployment, command: list[str], file_id: str, data: bytes
) -> None:
    """Run the client, kill the gateway behind its back, start both again, and compare the file."""
    environment = {"PATH": "/usr/bin:/bin", "SERVER": older.url}
    pipe = asyncio.subprocess.PIPE
    first = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=pipe, stderr=pipe
    )
    assert first.stdout is not None
    for line in await lines(first.stdout, CUT):
        assert "uploading" in line
    await deployed.kill_gateway()
    await first.communicate()
    assert first.returncode != 0
    await deployed.start_gateway()
    status = await older.status_a(file_id)
    assert status["status"] == "uploading"
    assert CUT <= status["uploaded_chunks"] < CHUNKS
    second = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=pipe, stderr=pipe
    )
    out, err = await second.communicate()
    assert second.returncode == 0, err.decode()
    answers = out.decode().strip().splitlines()
    assert len(answers) == CHUNKS - status["uploaded_chunks"]
    assert "completed" in answers[-1]
    assert await older.status_a(file_id) == {"status": "completed", "file_exists": True}
    await older.assert_verified(data)


async def test_curl_goes_on_where_it_was(running: tuple[Older, Deployment], tmp_path: Path) -> None:
    older, deployed = running
    data, file_id = some_bytes(SIZE), str(uuid.uuid4())
    folder = tmp_path / "chunks"
    folder.mkdir()
    for index in range(CHUNKS):
        (folder / f"chunk_{index:03}.bin").write_bytes(data[index * MIB : (index + 1) * MIB])
    command = ["bash", "-c", CURL, "upload", file_id, str(folder)]
    await run_and_cut(older, deployed, command, file_id, data)


async def test_python_goes_on_where_it_was(
    running: tuple[Older, Deployment], tmp_path: Path
) -> None:
    older, deployed = running
    data, file_id = some_bytes(SIZE, seed=2), str(uuid.uuid4())
    path = tmp_path / "large_file.pdf"
    path.write_bytes(data)
    command = [sys.executable, "-c", PYTHON, older.url, file_id, str(path)]
    await run_and_cut(older, deployed, command, file_id, data)


def rows(size: int) -> bytes:
    """Return the bytes of the page's file."""
    made = (row.to_bytes(4) + bytes([row % 251]) * 996 for row in range(-(-size // 1000)))
    return b"".join(made)[:size]


async def test_javascript_resumes_where_it_was(running: tuple[Older, Deployment]) -> None:
    older, deployed = running
    data, file_id = rows(SIZE), str(uuid.uuid4())
    seen: list[Any] = []
    enough = asyncio.Event()

    def progress(answer: Any) -> None:
        seen.append(answer)
        if len(seen) == CUT:
            enough.set()

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page()
        await page.expose_function("progress", progress)
        # Any page of the gateway: the uploader calls its own origin.
        await page.goto(f"{older.url}/healthz")
        await page.evaluate(JAVASCRIPT.replace("SIZE", str(SIZE)))
        upload = (
            "id => { window.file = makeFile(); return uploader.uploadFile(file, id, progress) }"
        )
        first = asyncio.create_task(page.evaluate(upload, file_id))
        await enough.wait()
        await deployed.kill_gateway()
        with pytest.raises(Exception, match="fetch"):
            await first
        await deployed.start_gateway()
        before = len(seen)
        assert CUT <= before < CHUNKS
        resume = "id => uploader.resumeUpload(id, file, progress)"
        status = await page.evaluate(resume, file_id)
        await browser.close()
    assert status == {"status": "completed", "file_exists": True}
    # One may have been stored whose answer was lost with the gateway.
    assert len(seen) + 1 >= CHUNKS
    assert seen[-1]["uploaded_chunks"] == CHUNKS
    await older.assert_verified(data)
