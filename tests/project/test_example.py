"""The page for web developers: short, and the same in the README as in the file that is tested."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_LINES = 20


def test_the_example_page_is_short_and_is_what_the_readme_shows() -> None:
    example = (ROOT / "deploy" / "example.html").read_text()
    assert len(example.splitlines()) <= MOST_LINES
    assert f"```html\n{example}```\n" in (ROOT / "README.md").read_text()
