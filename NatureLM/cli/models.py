"""``naturelm models``: a literal table of what can be done with models, one file each.

Knows the table only. A row's module offers ``add_arguments(parser)`` and ``run(args) -> exit code`` and is imported when the row
is asked for, so a listing loads no torch, and a row that cannot be imported breaks no other.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from typing import Any

ACTIONS: dict[str, tuple[str, str]] = {
    "list": ("NatureLM.cli.models_list", "list the models and what of them is here"),
    "info": ("NatureLM.cli.models_info", "say what a model is made of, its licences, its needs"),
    "pull": ("NatureLM.cli.models_pull", "fetch a model, so that it answers offline"),
    "verify": ("NatureLM.cli.models_verify", "recompute recorded numbers of the reference"),
    "convert": ("NatureLM.cli.models_convert", "turn a pickled checkpoint into safetensors"),
    "merge": ("NatureLM.cli.models_merge", "fold the adapter into its base LLM"),
}
"""What can be done -> (module, one line of help)."""


class _ActionParser(argparse.ArgumentParser):
    """A parser that asks its module for arguments when it is used, not when it is made."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Add the module's arguments, then parse."""
        importlib.import_module(ACTIONS[self.prog.split()[-1]][0]).add_arguments(self)
        return super().parse_known_args(args, namespace)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what can be done."""
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", title="actions", required=True, parser_class=_ActionParser
    )
    for name, (_, summary) in ACTIONS.items():
        actions.add_parser(name, help=summary, description=summary, allow_abbrev=False)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    code: int = importlib.import_module(ACTIONS[args.action][0]).run(args)
    return code
