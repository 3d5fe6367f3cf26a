"""Every promise of docs/parity.md names a test that exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:unit|golden|property|e2e)/[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_the_named_test_exists(file: str, test: str) -> None:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_row_names_a_test() -> None:
    tables = [part for part in PAGE.split("\n\n") if part.startswith("| the reference")]
    rows = [row for table in tables for row in table.splitlines()[2:]]
    assert len(rows) > 25
    assert all("::test_" in row for row in rows)
