"""The command itself: its help, its table and its exit codes."""

import inspect
import subprocess
import sys

import pytest

from gateway.cli.exits import MEANINGS, Exit, exit_for
from gateway.cli.main import COMMANDS, command
from gateway.errors import (
    Conflict,
    Corrupt,
    Forbidden,
    GatewayError,
    Gone,
    Internal,
    InvalidRequest,
    NotFound,
    RateLimited,
    SessionNotFound,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Uncertain,
    UnsupportedType,
)


def gateway(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_help_lists_every_command_and_every_exit_code() -> None:
    shown = gateway("--help")
    assert shown.returncode == 0
    words = " ".join(shown.stdout.split())
    for name in COMMANDS:
        assert name in words
    for code, meaning in MEANINGS.items():
        assert f"{code.value} {meaning}" in words
    assert set(MEANINGS) == set(Exit)


def test_the_help_does_not_import_what_it_does_not_need() -> None:
    code = (
        "import sys; sys.argv = ['gateway', '--help']\n"
        "from gateway.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not {'aiohttp', 'aiobotocore', 'redis', 'stamina'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_in_the_table_is_the_commands_own(name: str) -> None:
    first = (inspect.getdoc(command(name)) or "").partition("\n\n")[0]
    assert " ".join(first.split()).startswith(COMMANDS[name][1])
    assert COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(name: str) -> None:
    shown = gateway(name, "--help")
    assert shown.returncode == 0, shown.stderr
    assert f"Usage: gateway {name}" in shown.stdout


def test_a_command_that_does_not_exist_is_wrong_usage() -> None:
    ended = gateway("uplod")
    assert ended.returncode == 2
    assert "upload" in ended.stderr


def test_the_version_is_told() -> None:
    ended = gateway("--version")
    assert ended.returncode == 0
    assert ended.stdout.startswith("gateway ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("x"), 1),
        (Conflict("x"), 1),
        (Conflict("x", code="file_changed"), 7),
        (Corrupt("x"), 3),
        (Corrupt("x", code="rejected"), 8),
        (UnsupportedType("x", code="file_type_not_allowed"), 8),
        (TooLarge("x", code="file_too_large"), 8),
        (TooLarge("x"), 1),
        (NotFound("x"), 4),
        (SessionNotFound(), 4),
        (Gone("x"), 4),
        (Unauthenticated("x"), 5),
        (Forbidden("x"), 5),
        (Unavailable("x"), 6),
        (Uncertain("x"), 6),
        (RateLimited("x"), 6),
        (Conflict("x", code="creation_in_flight", retryable=True), 6),
        (StorageFull("x"), 1),
        (Internal("x"), 1),
    ],
)
def test_every_kind_of_error_has_its_exit_code(error: GatewayError, code: int) -> None:
    assert exit_for(error) == code
