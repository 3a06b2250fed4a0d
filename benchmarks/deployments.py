"""A gateway to measure: `gateway dev` as its own processes on a throw-away data directory."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

_TICKS = os.sysconf("SC_CLK_TCK")


class Deployment:
    """What `gateway dev --json` said, and how much processor time each process took so far."""

    def __init__(self, announced: dict[str, Any]) -> None:
        self.url: str = announced["url"]
        self.token: str = announced["token"]
        self.s3: dict[str, str] = announced["s3"]
        self._pids: dict[str, int] = announced["pids"]

    def cpu_seconds(self, process: str) -> float:
        """Return user and system time of `gateway`, `valkey` or `seaweed`; Linux alone has it."""
        text = Path(f"/proc/{self._pids[process]}/stat").read_text("ascii")
        # proc(5): the name may hold anything but ends with the last parenthesis; then state is
        # field 3, utime 14 and stime 15.
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def deployment(folder: Path | None = None) -> Iterator[Deployment]:
    """Start it with its data in a folder below `folder` (None: the system's), and remove both."""
    data_dir = tempfile.mkdtemp(prefix="gateway-benchmark-", dir=folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "dev", "--port=0", f"--data-dir={data_dir}", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        with process:
            if process.stdout is None or not (line := process.stdout.readline()):
                raise SystemExit("`gateway dev` did not start; run it by hand to see why.")
            try:
                yield Deployment(orjson.loads(line))
            finally:
                process.terminate()
    finally:
        shutil.rmtree(data_dir)
