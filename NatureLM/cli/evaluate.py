"""``naturelm evaluate``: a literal table of kinds of evaluation, one file each.

A kind's module offers ``add_arguments(parser)`` and ``run(args) -> exit code`` like a subcommand, and is imported only when it is
asked for: scoring a file loads no model.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from typing import Any

EVALUATIONS: dict[str, tuple[str, str]] = {
    "score": ("NatureLM.cli.evaluate_score", "score a file of predictions"),
    "compare": (
        "NatureLM.cli.evaluate_compare",
        "compare two files of predictions on the same examples",
    ),
    "beans-zero": ("NatureLM.cli.evaluate_beans_zero", "run a model on BEANS-Zero and score it"),
    "recordings": (
        "NatureLM.cli.evaluate_recordings",
        "run a model on your labelled recordings and score it",
    ),
}
"""Kind of evaluation -> (module, one line of help)."""


class _KindParser(argparse.ArgumentParser):
    """A parser that asks its module for arguments when it is used, not when it is made."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Add the module's arguments, then parse."""
        importlib.import_module(EVALUATIONS[self.prog.split()[-1]][0]).add_arguments(self)
        return super().parse_known_args(args, namespace)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the kinds of evaluation."""
    kinds = parser.add_subparsers(
        dest="evaluation", metavar="KIND", title="kinds", required=True, parser_class=_KindParser
    )
    for name, (_, summary) in EVALUATIONS.items():
        kinds.add_parser(name, help=summary, description=summary)


def run(args: argparse.Namespace) -> int:
    """Run one kind of evaluation."""
    code: int = importlib.import_module(EVALUATIONS[args.evaluation][0]).run(args)
    return code
