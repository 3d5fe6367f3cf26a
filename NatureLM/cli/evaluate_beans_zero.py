"""``naturelm evaluate beans-zero``: a model on the 22 components of BEANS-Zero, scored.

Knows options. The surprise: a run of a part prints that its official scores do not compare with the whole's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from NatureLM.cli.evaluate_run import (
    add_run_arguments,
    engine_of,
    extras_of,
    run_job,
    settings_of,
    words,
)
from NatureLM.errors import ConfigError

SUBSETS = {"1pct": 0.01, "10pct": 0.1}
"""Name -> share of each component."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "--data",
        metavar="PATH|HUB-ID",
        help="a folder or file of parquet, Arrow or JSONL, or a hub id[@revision] "
        "(EarthSpeciesProject/BEANS-Zero)",
    )
    add("--tasks", metavar="A,B", help="components to run (all 22)")
    add("--limit", type=int, metavar="N", help="the first N examples of each component")
    add("--subset", choices=tuple(SUBSETS), help="a fixed stratified share of each component")
    add("--ids", type=Path, metavar="FILE", help="run the examples of an ids.txt exactly")
    add(
        "--parity",
        choices=("ours", "published"),
        default="ours",
        help="published repeats the reference's questions, padding, beams and batches (ours)",
    )
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the benchmark."""
    from NatureLM.eval.runner import Job
    from NatureLM.eval.score import ScoreSettings
    from NatureLM.eval.task import Selection, select
    from NatureLM.eval.tasks.beans_zero import DATA, SUBSET_WARNING, BeansZero

    settings, extras = settings_of(args, args.parity), extras_of(args)
    task = BeansZero.open(args.data or DATA, args.parity)
    components = words(args.tasks)
    unknown = [name for name in components if name not in task.components]
    if unknown:
        known = ", ".join(task.components)
        raise ConfigError(f"--tasks {unknown[0]}: unknown; choose among {known}")
    fraction = SUBSETS[args.subset] if args.subset else 1.0
    selection = Selection(components, args.limit, fraction, _ids(args.ids))
    outlines = select(task.outlines(), selection)
    if not outlines:
        raise ConfigError(f"{task.data}: no row of {', '.join(components) or 'BEANS-Zero'} in it")
    notes = [SUBSET_WARNING] if args.limit or args.subset or args.ids else []
    for note in notes:
        print(f"naturelm: warning: {note}", file=sys.stderr)
    scoring = ScoreSettings(args.scorer, max(0, args.resamples), spice_folder=args.spice_jars)
    job = Job(task, outlines, engine_of(args, settings), settings, args.out)
    return run_job(job, extras, scoring, notes)


def _ids(path: Path | None) -> frozenset[str] | None:
    """Read a list of ids, one ``component/id`` a line."""
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--ids {path}: cannot be read ({error})") from error
    ids = frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not ids:
        raise ConfigError(f"--ids {path}: holds no ids; expected one component/id a line")
    return ids
