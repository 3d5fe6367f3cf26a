"""naturelm doctor: what this machine has, what is missing and how to get it.

Knows the command line; each finding is made by a function of its own in ``machine.py``. The surprise: the device is not only named, a
product of matrices is computed on it, since a driver that does not fit shows itself only then.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from NatureLM.cli.machine import Finding, findings

FAULTY = 1
_MARKS = {"ok": ("ok", "green"), "missing": ("missing", "yellow"), "fault": ("FAULT", "bold red")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Look, print, and return 1 when something is broken; what is merely missing is no fault."""
    found: list[Finding] = []
    for finding in findings():
        found.append(finding)
        if not args.json:
            _print(finding)
    if args.json:
        print(
            json.dumps({"findings": [asdict(f) for f in found], "facts": _facts(found)}, indent=2)
        )
    else:
        print(_verdict(found))
    return FAULTY if any(finding.state == "fault" for finding in found) else 0


def _facts(found: Sequence[Finding]) -> dict[str, object]:
    return {key: value for finding in found for key, value in finding.facts.items()}


def _print(finding: Finding) -> None:
    word, colour = _MARKS[finding.state]
    mark = f"{word:8}"
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        Console().print(
            Text(mark, colour), Text(f"{finding.name:15} {finding.text}"), soft_wrap=True
        )
    else:
        print(f"{mark} {finding.name:15} {finding.text}", flush=True)
    if finding.advice:
        print(f"{'':24} -> {finding.advice}", flush=True)


def _verdict(found: Sequence[Finding]) -> str:
    faults = [finding.name for finding in found if finding.state == "fault"]
    missing = [finding.name for finding in found if finding.state == "missing"]
    if faults:
        return f"broken: {', '.join(faults)}"
    return f"works; missing: {', '.join(missing)}" if missing else "all is here"
