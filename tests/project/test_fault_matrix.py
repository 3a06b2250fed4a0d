"""Every row of the fault matrix that the main job can meet has a test that is named after it.

`pytest -k row_17` runs the tests of a row, whose words say what the row is about. Here are only the
rows' numbers, so that none gets lost.
"""

import ast
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]

# Those that need one store and one kind of door; the others come with what they are about.
ROWS = {*range(1, 29), *range(30, 36), 37, 41, 42, *range(50, 54)}
LAST_ROW = 54


def rows_with_tests() -> Counter[int]:
    rows: Counter[int] = Counter()
    for file in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                start, _, rest = node.name.removeprefix("test_row_").partition("_")
                if node.name.startswith("test_row_"):
                    assert len(start) == 2, node.name
                    assert start.isdecimal(), node.name
                    assert rest, node.name
                    rows[int(start)] += 1
    return rows


def test_every_row_has_a_test_named_after_it() -> None:
    assert not ROWS - rows_with_tests().keys()


def test_no_test_is_named_after_a_row_that_is_not_there() -> None:
    assert not rows_with_tests().keys() - set(range(1, LAST_ROW + 1))
