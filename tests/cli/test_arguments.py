"""What the commands take and refuse before they do anything."""

import base64
from hashlib import sha256
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli.arguments import declared_checksum, existing_file
from gateway.cli.main import build

EMPTY = sha256()


@pytest.mark.parametrize(
    "value",
    [EMPTY.hexdigest(), EMPTY.hexdigest().upper(), base64.b64encode(EMPTY.digest()).decode()],
)
def test_a_checksum_is_hex_or_base64(value: str) -> None:
    assert declared_checksum(f"SHA256:{value}").digest == EMPTY.digest()


@pytest.mark.parametrize("word", ["", "sha256", "sha256:", "sha256:00", "sha3:00", "crc32:zz"])
def test_what_is_no_checksum_is_refused(word: str) -> None:
    with pytest.raises(typer.BadParameter):
        declared_checksum(word)


def test_words_for_files_are_kept_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "-").touch()
    word = f"{tmp_path}/./-"
    assert existing_file(word) == word
    assert existing_file("-") == "-"
    for bad in (tmp_path, tmp_path / "missing"):
        with pytest.raises(typer.BadParameter):
            existing_file(str(bad))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("upload", "-"), "--name"),
        (("upload", "-", "FILE", "--name", "x"), "together"),
        (("upload", "FILE", "FILE", "--name", "x"), "one file"),
        (("upload", "FILE", "--size", "3"), "standard input"),
        (("upload", "FILE", "--checksum", f"sha256:{EMPTY.hexdigest()}"), "standard input"),
        (("upload", "-", "--name", "x", "--checksum", "sha256:nonsense"), "sha256"),
        (("upload", "-", "--name", "x", "--size", "-1"), "size"),
        (("download", "0" * 32, "-o", "-", "--json"), "--json"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_wrong(
    tmp_path: Path, arguments: tuple[str, ...], word: str
) -> None:
    (tmp_path / "file").touch()
    given = [str(tmp_path / "file") if part == "FILE" else part for part in arguments]
    ended = CliRunner().invoke(build(arguments[0]), given)
    assert ended.exit_code == 2
    assert word in " ".join(ended.output.replace("│", " ").split())
