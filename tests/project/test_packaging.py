"""What is shipped, and how it is checked: pyproject.toml, the image, and the script of the CI."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import gateway
from gateway.config import load_settings

PACKAGE = Path(gateway.__file__).parent
ROOT = PACKAGE.parent


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_file_that_the_package_needs_is_shipped(pyproject: dict[str, Any]) -> None:
    patterns = pyproject["tool"]["setuptools"]["package-data"]["gateway"]
    shipped = {path for pattern in patterns for path in PACKAGE.glob(pattern) if path.is_file()}
    # A pattern that ends in ** means what is below it; glob gives the folders alone.
    for pattern in patterns:
        if pattern.endswith("**"):
            shipped |= {p for p in PACKAGE.glob(f"{pattern}/*") if p.is_file()}
    there = {
        path
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and "__pycache__" not in path.parts
    }
    assert there <= shipped


def test_every_package_is_one() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_the_strictness_is_on(pyproject: dict[str, Any]) -> None:
    tools = pyproject["tool"]
    assert tools["mypy"]["strict"] is True
    assert tools["ruff"]["lint"]["select"] == ["ALL"]
    assert tools["pytest"]["ini_options"]["filterwarnings"][0] == "error"
    assert tools["importlinter"]["contracts"][0]["exhaustive"] is True


def test_the_extras_and_the_command_have_their_names(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    assert project["name"] == "multipart-gateway"
    assert project["scripts"] == {"gateway": "gateway.cli.main:main"}
    assert {"embedded", "test"} <= set(project["optional-dependencies"])


def test_the_ci_runs_the_test_command_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    (pattern,) = re.findall(r"grep -E '([^']+)' README\.md", script.read_text())
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len([line for line in lines if re.search(pattern, line)]) == 1


def test_the_example_of_a_settings_file_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("GW_", "AWS_")):
            monkeypatch.delenv(name)
    settings = load_settings({"config": str(ROOT / "deploy" / "gateway.toml")})
    assert settings.s3_bucket == "uploads"


def test_the_image_runs_as_nobody_in_particular_and_checks_its_health() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    user = re.search(r"^USER (\d+)", text, re.MULTILINE)
    assert user is not None
    assert int(user[1]) > 0
    assert 'CMD ["gateway", "health"]' in text


def test_the_composition_reads_each_secret_from_a_file_that_it_is_given() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    composition = yaml.safe_load(text)
    known = set(composition["secrets"])
    for name, service in composition["services"].items():
        given = set(service.get("secrets", ()))
        assert given <= known, name
        assert set(re.findall(r"/run/secrets/(\w+)", str(service))) == given, name
        for variable in service.get("environment", {}):
            assert "TOKEN" not in variable.removesuffix("TOKEN_FILE"), name
            assert not variable.endswith(("PASSWORD", "SECRET_ACCESS_KEY")), name
    # Every variable that is filled in from .env is told about there, and has a default here.
    filled = dict(re.findall(r"\$\{(\w+)(:-)?", text))
    assert set(filled.values()) == {":-"}
    example = (ROOT / "deploy" / "example.env").read_text()
    assert set(re.findall(r"^(\w+)=", example, re.MULTILINE)) == set(filled)


def test_the_composition_s_settings_are_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in list(os.environ):
        if name.startswith(("GW_", "AWS_")):
            monkeypatch.delenv(name)
    composition = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for name in composition["secrets"]:
        (tmp_path / name).write_text(f"hex-of-the-{name}\n")
    for name, value in composition["services"]["gateway"]["environment"].items():
        plain = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
        monkeypatch.setenv(name, plain.replace("/run/secrets", str(tmp_path)))
    settings = load_settings({"host": "0.0.0.0"})  # noqa: S104 - as in the image.
    assert settings.token is not None
    assert settings.token.get_secret_value() == "hex-of-the-token"
    assert settings.redis_password is not None
