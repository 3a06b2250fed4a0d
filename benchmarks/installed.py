"""The peers from the npm registry: installed beside this file, into a folder that git ignores.

Versions are exact; what they depend on is what the registry gives today, as for anybody who
installs them. Companion is 6.2.1, not 6.2.2: that one only pins what it depends on, and one of
these could not be installed when this was written.
"""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import orjson

from benchmarks.processes import Server, program, serving

PACKAGES: Final = {
    "@tus/server": "2.4.5",
    "@tus/s3-store": "2.0.7",
    "@uppy/companion": "6.2.1",
}
FOLDER: Final = Path(__file__).with_name(".peers")
SCRIPTS: Final = Path(__file__).with_name("peers")
_INSTALL_SECONDS: Final = 600.0


def install() -> None:
    """Install the packages unless they are there. Ends the program where that fails."""
    node, npm = program("node"), program("npm")
    if all(version(name) == wanted for name, wanted in PACKAGES.items()):
        return
    FOLDER.mkdir(exist_ok=True)
    manifest = {"private": True, "dependencies": PACKAGES}
    (FOLDER / "package.json").write_bytes(orjson.dumps(manifest))
    command = [npm, "install", "--no-audit", "--no-fund", "--no-progress", "--no-package-lock"]
    try:
        done = subprocess.run(
            command, cwd=FOLDER, capture_output=True, timeout=_INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise SystemExit(f"npm took more than {_INSTALL_SECONDS:g} s in {FOLDER}.") from None
    if done.returncode != 0:
        raise SystemExit(
            f"npm ({npm}, for {node}) could not install the peers into {FOLDER}, and there is "
            f"nothing to compare with: {done.stderr[-2000:].decode(errors='replace')}"
        )


def version(package: str) -> str:
    """Return the installed version of a package; empty without one."""
    manifest = FOLDER / "node_modules" / package / "package.json"
    return str(orjson.loads(manifest.read_bytes())["version"]) if manifest.is_file() else ""


@contextmanager
def node_server(script: str, environment: Mapping[str, str]) -> Iterator[Server]:
    """Run a server of `peers/` with the installed packages; it announces its `url`."""
    install()
    # From standard input it finds the packages in the folder where it runs.
    with serving(
        ["node", "--input-type=module", "-"],
        cwd=FOLDER,
        environment={"NODE_ENV": "production", **environment},
        standard_input=(SCRIPTS / script).read_bytes(),
    ) as server:
        yield server
