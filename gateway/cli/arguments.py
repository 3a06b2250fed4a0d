"""What the commands read out of words on a command line; all raise typer.BadParameter."""

import base64
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import typer

from gateway.client import Checksum
from gateway.errors import InvalidRequest

STANDARD_STREAM: Final = "-"
"""Standard input or output. A file of that name is `./-`, so words are kept as they are."""


def existing_file(word: str) -> str:
    """Read the name of a file that exists and may be read, or `-`."""
    if word == STANDARD_STREAM:
        return word
    path = Path(word)
    if not path.exists():
        raise typer.BadParameter(f"File '{word}' does not exist.")
    if path.is_dir():
        raise typer.BadParameter(f"File '{word}' is a directory.")
    if not os.access(path, os.R_OK):
        raise typer.BadParameter(f"File '{word}' is not readable.")
    return word


def declared_checksum(word: str) -> Checksum:
    """Read `ALGORITHM:VALUE`; the value in hex, as sha256sum prints it, or base64, as S3 has it.

    The two cannot be mixed up: for all these algorithms base64 ends in a sign that hex lacks.
    """
    algorithm, _, value = word.partition(":")
    with suppress(ValueError):
        value = base64.b64encode(bytes.fromhex(value)).decode()
    try:
        return Checksum(algorithm.lower(), value)
    except InvalidRequest as error:
        raise typer.BadParameter(f"{error.message} {error.hint}") from error
