"""``naturelm evaluate compare``: is run B better than run A, or is it chance?

Knows options and printing, computes nothing. Loads no model.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from NatureLM.cli.evaluate_score import add_statistics
from NatureLM.eval.compare import Comparison, ComponentComparison, compare_files
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
        console = Console(highlight=False)
        console.print(
            f"A: {comparison.first}\nB: {comparison.second}\n", soft_wrap=True, markup=False
        )
        for table in _tables(comparison):
            console.print(table)
    for warning in comparison.warnings:
        print(f"naturelm: warning: {warning}", file=sys.stderr)
    return 0


_FIGURES = {
    "accuracy_normalised": "accuracy (%)",
    "f1_macro": "macro F1 (%)",
    "cider": "CIDEr-D (0 to 10)",
}


def _tables(comparison: Comparison) -> Iterator[Table]:
    """Lay out one table for each kind of figure."""
    for headline, title in _FIGURES.items():
        table = Table(
            title=title,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        for head in ("component", "rows", "A", "B", "B - A [95 %]", "A/B", "p", "Holm"):
            table.add_column(head, justify="left" if head == "component" else "right", no_wrap=True)
        for name, each in comparison.components.items():
            if each.headline == headline:
                table.add_row(name, *_cells(each))
        if table.rows:
            yield table


def _cells(each: ComponentComparison) -> Iterator[str]:
    change, scale = each.differences[each.headline].interval, 1 if each.headline == "cider" else 100
    digits = 2 if scale == 1 else 1
    low, high = (f"{scale * bound:+.{digits}f}" for bound in (change.low, change.high))
    yield str(each.rows)
    yield from (f"{scale * value:.{digits}f}" for value in (each.first, each.second))
    yield f"{scale * change.value:+.{digits}f} [{low}, {high}]"
    yield f"{each.mcnemar.only_first}/{each.mcnemar.only_second}" if each.mcnemar else ""
    yield from (f"{p:.2g}" for p in (each.p_value, each.p_holm))
