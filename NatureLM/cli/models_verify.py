"""naturelm models verify: recompute the numbers that were recorded from the reference implementation, and say how far off.

Knows the command line, the table and the pipeline, which it hands to ``models/verify``. The surprise: a stage that cannot be
computed counts as failed, and one that needs something absent is shown as skipped, never as passed.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from NatureLM.config import Generation
    from NatureLM.models.model import NatureLM
    from NatureLM.models.verify import Check, Doors

FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.epilog = "example: naturelm models verify tests/golden/model"
    add = parser.add_argument
    add(
        "folder",
        metavar="FOLDER",
        type=Path,
        help="golden folder: config.json, weights, audio/ and expected/",
    )
    add("--json", action="store_true", help="print one JSON object instead of a table")
    add(
        "--only",
        action="append",
        default=[],
        metavar="GROUP",
        help="run this group of stages only; repeat for several (see the table's first column)",
    )
    add(
        "--all",
        action="store_true",
        help="show every comparison in the table, not one row a group and each failure",
    )


def run(args: argparse.Namespace) -> int:
    """Recompute, print and return 1 when anything differs."""
    from NatureLM.errors import ConfigError
    from NatureLM.models.verify import STAGES, verify

    unknown = sorted(set(args.only) - set(STAGES))
    if unknown:
        raise ConfigError(f"--only {unknown[0]}: no such group; known are {', '.join(STAGES)}.")
    started = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, about cases that are recorded as they are
        checks = list(verify(args.folder, _doors(), args.only))
    seconds = time.monotonic() - started
    if args.json:
        print(json.dumps(_report(args.folder, checks, seconds), indent=2))
    else:
        _print_table(checks if args.all else _grouped(checks))
        print(_summary(checks, seconds))
    return 0 if all(check.passed for _, check in checks) else FAILED


def _doors() -> Doors:
    from NatureLM.models.verify import Doors

    return Doors(pipeline=_through_pipeline, windows=_labels)


def _through_pipeline(
    model: NatureLM, path: Path, query: str, spans: tuple[float, float], generation: Generation
) -> str:
    """Answer one recording as the published pipeline does: its windows one at a time, the tail dropped."""
    from NatureLM.infer.pipeline import Pipeline, PipelineSettings

    settings = PipelineSettings(parity="published", generation=generation, batch_size=1)
    pipeline = Pipeline(model, settings=settings)
    return pipeline([path], query, window_length_seconds=spans[0], hop_length_seconds=spans[1])[0]


def _labels(duration_s: float, rate_hz: int, window_s: float, hop_s: float) -> Sequence[str] | None:
    """Label the windows of a silent recording as the published pipeline cuts them."""
    import numpy as np

    from NatureLM.audio.windows import WindowPlan
    from NatureLM.infer.batching import Waiting
    from NatureLM.infer.reading import Reading, read

    silence = np.zeros(round(duration_s * rate_hz))
    plan = WindowPlan(window_s, hop_s, "drop")
    reading = Reading(plan, rate_hz=16_000, array_rate_hz=rate_hz, mode="published")
    labels = []
    for item in read([(silence, ("X",))], reading):
        if not isinstance(item, Waiting):
            return None
        window = item.audio.window
        labels.append(f"#{window.start_s:.2f}s - {window.end_s:.2f}s#")
    return labels


def _grouped(checks: Iterable[tuple[str, Check]]) -> Iterator[tuple[str, Check]]:
    """Keep the worst comparison of every group, and all that failed."""
    from dataclasses import replace

    groups: dict[str, list[Check]] = {}
    for group, check in checks:
        groups.setdefault(group, []).append(check)
    for group, members in groups.items():
        failed = [check for check in members if not check.passed]
        worst = max(members, key=_share)
        counted = replace(worst, stage=f"{len(members)} compared; worst: {worst.stage}")
        yield from ((group, check) for check in failed or [counted])


def _share(check: Check) -> float:
    return check.difference / (check.tolerance or 1e-12)


def _print_table(checks: Iterable[tuple[str, Check]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("group", "stage", "max abs difference", "tolerance", "verdict", "note"):
        numeric = title in ("max abs difference", "tolerance")
        table.add_column(title, justify="right" if numeric else "left", overflow="fold")
    colours = {"pass": "green", "fail": "bold red", "skip": "yellow"}
    for group, check in checks:
        verdict = f"[{colours[check.verdict]}]{check.verdict}[/]"
        numbers = (f"{check.difference:.3g}", f"{check.tolerance:.3g}")
        table.add_row(group, _plain(check.stage), *numbers, verdict, _plain(check.note))
    Console().print(table)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else "?" for c in text))


def _summary(checks: Sequence[tuple[str, Check]], seconds: float) -> str:
    counts = Counter(check.verdict for _, check in checks)
    parts = [
        f"{counts[v]} {word}"
        for v, word in (("pass", "passed"), ("fail", "failed"), ("skip", "skipped"))
    ]
    return f"{', '.join(parts)} in {seconds:.1f} s"


def _report(folder: Path, checks: Sequence[tuple[str, Check]], seconds: float) -> dict[str, Any]:
    counts = Counter(check.verdict for _, check in checks)
    return {
        "folder": str(folder),
        "passed": all(check.passed for _, check in checks),
        "counts": {verdict: counts[verdict] for verdict in ("pass", "fail", "skip")},
        "seconds": round(seconds, 2),
        "stages": [{"group": group, **check.as_row()} for group, check in checks],
    }
