"""Gate the size of the package: files of at most 400 lines, functions of at most 40 without their docstring, 6 parameters."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 40, 6


def _function_faults(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    size = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node):
        first = node.body[0]
        size -= (first.end_lineno or first.lineno) - first.lineno + 1
    names = [a for a in node.args.args + node.args.kwonlyargs if a.arg not in ("self", "cls")]
    faults = []
    if size > FUNCTION_LINES:
        faults.append(
            f"{path}:{node.lineno}: {node.name} has {size} lines (at most {FUNCTION_LINES})"
        )
    if len(names) > PARAMETERS:
        faults.append(
            f"{path}:{node.lineno}: {node.name} takes {len(names)} parameters (at most {PARAMETERS})"
        )
    return faults


def faults_of(path: Path) -> list[str]:
    """List what is too large in one file."""
    source = path.read_text(encoding="utf-8")
    lines = source.count("\n") + 1
    faults = [f"{path}: {lines} lines (at most {FILE_LINES})"] if lines > FILE_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            faults += _function_faults(path, node)
    return faults


def main() -> int:
    """Print every fault below the folders named on the command line; 1 if there is one."""
    files = [p for root in sys.argv[1:] for p in sorted(Path(root).rglob("*.py"))]
    faults = [fault for path in files for fault in faults_of(path)]
    print("\n".join(faults) or f"sizes: {len(files)} files, none too large")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
