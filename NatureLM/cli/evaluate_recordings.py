"""``naturelm evaluate recordings``: a model on your own labelled recordings, scored like a benchmark.

Knows options. The question is chosen by what the labels are and printed, so that nobody is judged by a question that was not seen.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from NatureLM.cli.evaluate_run import (
    add_run_arguments,
    engine_of,
    extras_of,
    run_job,
    settings_of,
)
from NatureLM.errors import ConfigError

if TYPE_CHECKING:
    from NatureLM.eval.tasks.recordings import Recordings
    from NatureLM.taxonomy.names import Taxonomy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("folder", type=Path, help="where the recordings are")
    add(
        "--labels",
        required=True,
        metavar="TABLE|folders",
        help="a CSV or TSV, a Raven selection table or a folder of them; or 'folders' for LABEL/recording.wav",
    )
    add("--label-column", metavar="NAME", help="the table's column with the labels (found by name)")
    add("--question", "--query", metavar="TEXT", help="what is asked (chosen by the labels)")
    add(
        "--per",
        choices=("window", "recording"),
        help="what is judged (recording; window for timed labels)",
    )
    add("--window-length-seconds", type=float, default=10.0, metavar="S", help="(10)")
    add("--hop-length-seconds", type=float, metavar="S", help="(the window's length)")
    add(
        "--tail",
        choices=("keep", "drop"),
        default="keep",
        help="what a last short window is worth (keep)",
    )
    add("--limit", type=int, metavar="N", help="the first N windows")
    add("--parity", choices=("ours", "published"), default="ours", help="whose way to cut and pad")
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the recordings."""
    from NatureLM.eval.runner import Job
    from NatureLM.eval.score import ScoreSettings
    from NatureLM.eval.task import Selection, select
    from NatureLM.eval.tasks.recordings import COMPONENT, joined
    from NatureLM.eval.taxa import lookup_in

    settings, extras = settings_of(args, args.parity), extras_of(args)
    names = _names()
    task = _task(args, names)
    outlines = select(task.outlines(), Selection(limit=args.limit))
    if not outlines:
        raise ConfigError(f"{args.folder}: no labelled recordings")
    per = args.per or ("window" if task.timed else "recording")
    print(
        f"naturelm: {len(outlines)} windows, {task.components[COMPONENT].task}; labels are "
        f"{task.label_type or 'of no known type'}; asked: {task.question}",
        file=sys.stderr,
    )
    engine = engine_of(args, settings)
    task.listen_at(engine.model.sample_rate)
    component = task.components[COMPONENT]
    scoring = ScoreSettings(
        args.scorer,
        max(0, args.resamples),
        spice_folder=args.spice_jars,
        components=task.components,
        lookup=lookup_in(names) if names else None,
    )
    merge = partial(joined, component=component) if per == "recording" else None
    job = Job(task, outlines, engine, settings, args.out, merge=merge)
    notes = [f"judged by {per}; asked: {task.question}"]
    return run_job(job, extras, scoring, notes)


def _task(args: argparse.Namespace, names: Taxonomy | None) -> Recordings:
    from NatureLM.audio.windows import WindowPlan
    from NatureLM.eval.sources.labels import read_labels
    from NatureLM.eval.tasks.recordings import Recordings, RecordingsOptions

    length_s = args.window_length_seconds
    plan = WindowPlan(length_s, args.hop_length_seconds or length_s, args.tail)
    options = RecordingsOptions(plan, args.question, args.parity)
    labels = read_labels(args.folder, args.labels, args.label_column)
    return Recordings(args.folder, labels, options, names)


def _names() -> Taxonomy | None:
    """Take the pocket model's names when they are here; nothing is fetched for them."""
    from NatureLM.models.parts import cached
    from NatureLM.taxonomy.names import load_taxonomy

    labels, birds = cached("birdnet-labels"), cached("birdnames-ebird")
    return load_taxonomy(labels, birds) if labels and birds else None
