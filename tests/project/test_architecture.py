"""The architecture as it is drawn, proved on the code."""

import ast
import re
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import gateway

PACKAGE = Path(gateway.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# Names that say nothing about what is inside.
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "shared", "tools"}
MAX_LINES = 400


def test_every_import_contract_is_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    # It configures logging for a process of its own, and would switch off every logger of ours.
    monkeypatch.setattr("logging.config.dictConfig", lambda _: None)
    code = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True)
    assert code == 0, capsys.readouterr().out


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [path for path in MODULES if path.stem in EMPTY_NAMES]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_long_module_says_why_it_is_one(path: Path) -> None:
    text = path.read_text()
    if len(text.splitlines()) > MAX_LINES:
        docstring = ast.get_docstring(ast.parse(text)) or ""
        assert "The module is longer than others:" in docstring, (
            f"{path} has more than {MAX_LINES} lines; split it, or say at the top why not"
        )


def test_nothing_names_the_machine_it_was_written_on() -> None:
    private = re.compile(r"/(?:work|root|home)/[a-z]")
    sources = [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "deploy").iterdir()]
    named = [
        f"{path}: {line}"
        for path in sources
        if path != Path(__file__)
        for line in path.read_text().splitlines()
        if private.search(line)
    ]
    assert not named
