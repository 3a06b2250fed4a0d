"""What the modules of page and library import: the page uses the library, and nothing beside it."""

import re
from pathlib import Path

import pytest

import gateway.dashboard

STATIC = Path(gateway.dashboard.__file__).parent / "static"
PAGE = [STATIC / "app.js", *sorted((STATIC / "page").glob("*.js"))]
LIBRARY = [STATIC / "uploader.js", *sorted((STATIC / "uploader").glob("*.js"))]


def imports(path: Path) -> set[Path]:
    """Return the modules that a module names, statically, as workers or for types."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    named = re.findall(r'(?:from |import |import\(|new URL\()"(\.[^"]+\.js)"', text)
    return {(path.parent / name).resolve() for name in named}


@pytest.mark.parametrize("path", PAGE, ids=lambda path: path.stem)
def test_the_page_sends_nothing_but_by_the_library(path: Path) -> None:
    assert imports(path) <= {*PAGE, STATIC / "uploader.js"}
    assert not re.search(r"\b(fetch|XMLHttpRequest|sendBeacon|WebSocket)\b", path.read_text())


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_the_library_needs_nothing_of_the_page(path: Path) -> None:
    assert imports(path) <= set(LIBRARY)


def test_every_module_is_used() -> None:
    used = {STATIC / "app.js"}
    while more := set[Path]().union(*map(imports, used)) - used:
        used |= more
    assert used == {*PAGE, *LIBRARY}
