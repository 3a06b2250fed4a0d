"""What the README says of the client library is true, complete, and all that the commands use."""

import ast
import asyncio
import inspect
import os
import re
import sys
from pathlib import Path

import pytest
from client.gate import TOKEN, Gate, Uploading, write_file

import gateway
from gateway import client as library

ROOT = Path(gateway.__file__).parent.parent
SECTION = re.search(
    r"^### From Python$(.*?)^### ", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
)
TEXT = SECTION[1] if SECTION else ""
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def about(example: str) -> str:
    """Name an example by what it calls."""
    return "-".join(
        re.findall(r"(?:client|uploader|downloader|Uploader\(client\))\.(\w+)", example)
    )


def test_there_are_examples_of_what_people_come_for() -> None:
    calls = " ".join(map(about, EXAMPLES))
    for name in ("upload", "upload_stream", "follow", "download", "create", "complete"):
        assert re.search(rf"\b{name}\b", calls), name


@pytest.mark.parametrize("example", EXAMPLES, ids=about)
async def test_an_example_runs_as_it_stands(
    gate: Gate, uploading: Uploading, tmp_path: Path, example: str
) -> None:
    data = write_file(tmp_path / "film.mkv", 100_000)
    (tmp_path / "folder").mkdir()
    write_file(tmp_path / "folder" / "file", 1000)
    receipt = await uploading.run(tmp_path / "film.mkv")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", example, receipt.session_id),
        cwd=tmp_path,
        env={
            **os.environ,
            "GW_SERVER": gate.api.url,
            "GW_TOKEN": TOKEN,
            "GW_STATE_DIR": str(tmp_path / "state"),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert out
    assert err == b""
    if "copy.mkv" in example:
        assert (tmp_path / "copy.mkv").read_bytes() == data
    newest = (await uploading.sessions())[0]
    assert newest.state == "completed"


def test_every_exported_name_is_in_the_readme() -> None:
    missing = [name for name in library.__all__ if f"`{name}`" not in TEXT]
    assert not missing


def test_the_readme_names_every_verb_and_none_that_is_not_there() -> None:
    (row,) = re.findall(r"^\| `GatewayClient` \|(.*)\|$", TEXT, re.MULTILINE)
    verbs = {
        name
        for name, value in vars(library.GatewayClient).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }
    assert set(re.findall(r"`(\w+)`", row)) == verbs


@pytest.mark.parametrize("name", library.__all__)
def test_every_public_thing_is_explained(name: str) -> None:
    thing = getattr(library, name)
    if not inspect.isclass(thing):
        return
    assert inspect.getdoc(thing), name
    for attribute, value in vars(thing).items():
        if inspect.isfunction(value) and not attribute.startswith("_"):
            assert inspect.getdoc(value), f"{name}.{attribute}"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "gateway" / "cli").glob("*.py")), ids=lambda path: path.stem
)
def test_commands_use_what_everybody_may(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(name.name.startswith("gateway.client") for name in node.names)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gateway.client"):
            assert node.module == "gateway.client"
            assert {name.name for name in node.names} <= set(library.__all__)
