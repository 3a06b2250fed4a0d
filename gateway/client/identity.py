"""Whether an open file is still the one under its name: another process may have replaced it."""

import os
from pathlib import Path


def is_at(descriptor: int, path: Path) -> bool:
    """Tell whether the path leads to the file that is open; False where nothing is there."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
