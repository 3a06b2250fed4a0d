"""The README is complete: each setting, command, route and error code is in it, and nothing else.

What is missing is printed in the form in which it can be pasted.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from project.test_errors import codes

import gateway
from gateway.app import build_app
from gateway.cli.main import COMMANDS, command
from gateway.config import SettingDoc, Settings, document

PACKAGE = Path(gateway.__file__).parent
ROOT = PACKAGE.parent
README = ROOT / "README.md"
# Of the command line and the tests, not of the settings.
OTHER_VARIABLES = {"GW_SERVER", "GW_STATE_DIR"}
# What aiohttp adds by itself, and the files of the page.
UNDOCUMENTED_METHODS = {"HEAD", "OPTIONS"}
# What only whoever starts a program on this machine sees; it never travels over HTTP.
LOCAL = ("cli", "client", "config.py", "embedded")


@pytest.fixture(scope="module")
def readme() -> str:
    return README.read_text()


def setting_row(setting: SettingDoc) -> str:
    variables = ", ".join(f"`{name}`" for name in setting.variables)
    return f"| {variables} | `{setting.default}` | {setting.description} |"


def test_every_setting_is_in_the_readme_with_its_variables_and_default(readme: str) -> None:
    lines = readme.splitlines()
    missing = []
    for setting in document():
        wanted = [f"`{name}`" for name in setting.variables] + [f"`{setting.default}`"]
        if not any(all(words in line for words in wanted) for line in lines):
            missing.append(setting_row(setting))
    assert not missing, "add to README.md:\n" + "\n".join(missing)


def test_the_readme_and_the_deployment_name_no_setting_that_is_not_there() -> None:
    known = {name for setting in document() for name in setting.variables} | OTHER_VARIABLES
    for path in [README, ROOT / "docker-compose.yml", *(ROOT / "deploy").iterdir()]:
        named = set(re.findall(r"\bGW_[A-Z0-9_]+\b", path.read_text()))
        assert named <= known, path


def command_flags(name: str) -> Iterator[str]:
    app = typer.Typer(add_completion=False)
    app.command()(command(name))
    settings = {setting.flag for setting in document()}
    parameters: list[Any] = typer.main.get_command(app).params
    for parameter in parameters:
        for flag in parameter.opts:
            # Those of the settings have a table of their own.
            plain = flag.startswith("--") and flag != "--help"
            if plain and (flag not in settings or name not in {"serve", "doctor", "events"}):
                yield flag


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme_with_its_flags(readme: str, name: str) -> None:
    rows = [line for line in readme.splitlines() if f"gateway {name}" in line]
    assert rows, f"add to README.md: | `gateway {name}` | {COMMANDS[name][1]} |"
    lacking = [flag for flag in command_flags(name) if not any(flag in row for row in rows)]
    assert not lacking, f"add to the row of `gateway {name}` in README.md: {lacking}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_in_the_table_what_its_help_says(name: str) -> None:
    docstring = " ".join((command(name).__doc__ or "").split())
    assert docstring.startswith(COMMANDS[name][1])


def routes() -> set[str]:
    # Every setting that has no default, and nothing is opened.
    app = build_app(Settings(s3_bucket="bucket"))
    return {
        f"{route.method} {re.sub('{session_id}', '{id}', route.resource.canonical)}"
        for route in app.router.routes()
        if route.method not in UNDOCUMENTED_METHODS and route.resource is not None
    }


def test_every_route_is_in_the_readme(readme: str) -> None:
    missing = sorted(route for route in routes() if f"`{route}`" not in readme)
    assert not missing, "add to README.md:\n" + "\n".join(f"| `{route}` | |" for route in missing)


def test_the_readme_names_no_route_that_is_not_there(readme: str) -> None:
    named = set(re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`?\s]*)`", readme))
    assert named <= routes()


def served_codes() -> dict[str, str]:
    """Find the error codes that callers of the API can meet, with their kinds."""
    sources = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    local, served = set[str](), set[str]()
    for path, text in sources.items():
        here = path.relative_to(PACKAGE).parts[0] in LOCAL
        (local if here else served).update(re.findall(r'code="([a-z_]+)"', text))
    return {code: kind for code, kind in codes().items() if code not in local - served}


def test_every_error_code_is_in_the_readme(readme: str) -> None:
    missing = sorted(
        f"| `{code}` | {kind} | |"
        for code, kind in served_codes().items()
        if f"`{code}`" not in readme
    )
    assert not missing, "add to README.md:\n" + "\n".join(missing)
