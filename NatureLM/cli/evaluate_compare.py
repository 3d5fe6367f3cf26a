"""``naturelm evaluate compare``: is run B better than run A, or is it chance?

Knows options and printing, computes nothing. Loads no model.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from NatureLM.cli.evaluate_score import add_statistics
from NatureLM.eval.compare import Comparison, compare_files
from NatureLM.eval.score import ScoreSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "first", type=Path, metavar="A", help="predictions of run A, CSV or JSON lines"
    )
    parser.add_argument(
        "second", type=Path, metavar="B", help="predictions of run B on the same examples"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_statistics(parser)


def run(args: argparse.Namespace) -> int:
    """Compare and print."""
    settings = ScoreSettings("corrected", max(args.resamples, 1), args.seed)
    comparison = compare_files(args.first, args.second, settings)
    if args.json:
        print(json.dumps(comparison.as_dict(), indent=2, ensure_ascii=False))
    else:
        Console().print(_table(comparison))
    for warning in comparison.warnings:
        print(f"naturelm: warning: {warning}", file=sys.stderr)
    return 0


def _table(comparison: Comparison) -> Table:
    table = Table(
        title=f"B against A   A: {comparison.first}   B: {comparison.second}", title_justify="left"
    )
    for name in (
        "component",
        "figure",
        "rows",
        "A",
        "B",
        "B - A",
        "95 % interval",
        "only A",
        "only B",
        "p",
        "p (Holm)",
    ):
        table.add_column(name, justify="left" if name in ("component", "figure") else "right")
    for name, each in comparison.components.items():
        change = each.differences[each.headline].interval
        only = (
            (str(each.mcnemar.only_first), str(each.mcnemar.only_second))
            if each.mcnemar
            else ("", "")
        )
        table.add_row(
            name, each.headline, str(each.rows), f"{each.first:.4f}", f"{each.second:.4f}", f"{change.value:+.4f}",
            f"{change.low:+.4f} to {change.high:+.4f}", *only, f"{each.p_value:.3g}", f"{each.p_holm:.3g}",
        )  # fmt: skip
    return table
