"""docs/paper.md names tests and settings: they must exist, and every difference shown must be in the table."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs/paper.md").read_text(encoding="utf-8")
ROWS = [
    line for line in TABLE.splitlines() if line.startswith("| ") and not line.startswith(("| Section", "| What"))
]


def named_in(path: Path) -> set[str]:
    """Return the tests of a module as "module.Class.test" or, outside classes, "module.test"."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{path.stem}.{node.name}." if isinstance(node, ast.ClassDef) else f"{path.stem}."
        for function in inner:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and function.name.startswith("test_"):
                found.add(prefix + function.name)
    return found


DIFFERENCES = named_in(ROOT / "tests/interop/test_difference.py")
EXISTING = DIFFERENCES.union(*map(named_in, (ROOT / "node/kademlia/test").glob("test_*.py")))


def test_every_test_named_in_the_table_exists() -> None:
    """A test that was renamed must be renamed there, too."""
    named = set(re.findall(r"`(test_\w+\.[\w.]+)`", "\n".join(ROWS)))
    assert len(named) > 50
    assert named - EXISTING == set()


def test_every_difference_shown_on_the_stock_code_is_in_the_table() -> None:
    """What is not in the table would not be found."""
    assert {test for test in DIFFERENCES if f"* `{test}`" not in TABLE} == set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:50])
def test_every_row_has_a_test_and_every_star_a_test_that_shows_it(row: str) -> None:
    """The test of a row is ours; a star is shown on the stock code or on both."""
    *_, behaviour, tests, _, star = [cell.strip() for cell in row.strip("|").split("|")]
    assert behaviour
    assert re.fullmatch(r"`test_[\w.]+`(, `test_[\w.]+`)*", tests)
    assert "test_difference" not in tests
    assert not star or re.fullmatch(r"\* `test_(difference|rpc\.Difference)\.\w+`", star)


def test_every_setting_named_in_the_table_exists() -> None:
    """Constants are looked up in their module, keys in the code that reads the configuration."""
    constants = re.findall(r"`(\w+)\.([A-Z_]+)`", TABLE)
    assert constants
    for module, name in constants:
        assert hasattr(importlib.import_module(f"kademlia.{module}"), name), f"{module}.{name}"
    config = (ROOT / "node/kademlia/config.py").read_text(encoding="utf-8")
    for table, key in re.findall(r"`\[(\w+)\] (\w+)`", TABLE):
        assert f'"{table}"' in config
        assert f'"{key}"' in config
