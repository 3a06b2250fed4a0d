"""Where a download is written, under a name that does no harm."""

from pathlib import Path
from typing import Final
from unicodedata import category

_MAX_NAME: Final = 200


def destination(path: Path | None, filename: str) -> Path:
    """Return where to write: a given file, or the session's file name in a given folder or here."""
    if path is None or path.is_dir():
        return (path or Path()) / safe_name(filename)
    return path


def safe_name(filename: str) -> str:
    """Return a name that stays in its folder, whatever the session says its file is called."""
    last = filename.replace("\\", "/").rpartition("/")[2]
    clean = "".join("_" if category(char) in {"Cc", "Cs", "Zl", "Zp"} else char for char in last)
    # A hidden file could be the configuration of something.
    clean = clean.lstrip(".") or "download"
    while len(clean.encode()) > _MAX_NAME:
        clean = clean[:-1]
    return clean
