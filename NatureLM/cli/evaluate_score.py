"""``naturelm evaluate score``: figures of a file of predictions, as a table, as JSON or as a report.

Knows options and printing, computes nothing. Loads no model. Rows that could not be used are listed and make the exit code 3.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from NatureLM.cli import UNREADABLE
from NatureLM.eval.report import RunInfo, write_report
from NatureLM.eval.score import Evaluation, ScoreSettings, evaluate_file
from NatureLM.eval.tables import corrected_tables, official_tables
from NatureLM.eval.taxa import cached_lookup
from NatureLM.scoring.statistics import RESAMPLES, SEED

SHOWN = 10
"""Row errors shown on a terminal; JSON has them all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "file", type=Path, help="CSV or JSON lines with prediction, label, dataset_name"
    )
    parser.add_argument(
        "--scorer", choices=("official", "corrected", "both"), default="both", help="default: both"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write card.json, report.md and report.html there",
    )
    add_statistics(parser)
    parser.add_argument(
        "--taxonomy",
        action="store_true",
        help="give credit for genus and family of common names too (needs the pocket model's names)",
    )
    parser.add_argument(
        "--spice-jars",
        type=Path,
        metavar="FOLDER",
        help="where spice-1.0.jar and lib/ are (or set NATURELM_SPICE)",
    )


def add_statistics(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the bootstrap."""
    parser.add_argument(
        "--resamples",
        type=int,
        default=RESAMPLES,
        metavar="N",
        help=f"draws for the intervals, 0 for none (default: {RESAMPLES})",
    )
    parser.add_argument(
        "--seed", type=int, default=SEED, metavar="N", help=f"seed of the draws (default: {SEED})"
    )


def run(args: argparse.Namespace) -> int:
    """Score the file, print, and write the report if asked for."""
    settings = ScoreSettings(
        args.scorer,
        max(args.resamples, 0),
        args.seed,
        args.spice_jars,
        lookup=cached_lookup() if args.taxonomy else None,
    )
    evaluation = evaluate_file(args.file, settings)
    if args.json:
        print(json.dumps(evaluation.as_dict(), indent=2, ensure_ascii=False))
    else:
        _print_tables(evaluation)
    _complain(evaluation)
    if args.out:
        for path in write_report(evaluation, RunInfo(data=str(args.file)), args.out):
            print(f"naturelm: wrote {path}", file=sys.stderr)
    return UNREADABLE if evaluation.file.faults else 0


def _print_tables(evaluation: Evaluation) -> None:
    console = Console(highlight=False)
    for part in (*official_tables(evaluation), *corrected_tables(evaluation)):
        console.print(part, soft_wrap=isinstance(part, Text))


def _complain(evaluation: Evaluation) -> None:
    for warning in evaluation.warnings:
        print(f"naturelm: warning: {warning}", file=sys.stderr)
    faults = evaluation.file.faults
    for fault in faults[:SHOWN]:
        print(f"naturelm: {evaluation.file.name}: {fault}", file=sys.stderr)
    if len(faults) > SHOWN:
        print(
            f"naturelm: and {len(faults) - SHOWN} more row errors; --json lists them all",
            file=sys.stderr,
        )
