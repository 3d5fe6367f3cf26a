"""What the kinds of evaluation that run a model share: options, the model, progress, the summary.

Knows the terminal. The surprise: Ctrl-C and a full disk leave a journal, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from NatureLM.cli import UNREADABLE
from NatureLM.errors import ConfigError

if TYPE_CHECKING:
    from NatureLM.eval.extras import Extras
    from NatureLM.eval.publish import Published
    from NatureLM.eval.runner import Job, Outcome, Progress, RunSettings
    from NatureLM.eval.score import ScoreSettings
    from NatureLM.infer.items import ItemEngine

LOG_EVERY_S = 10.0
"""Seconds between two lines of progress where there is no terminal."""


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how a model is run and judged."""
    add = parser.add_argument
    add("--model", default="pocket", metavar="NAME", help="a folder, a hub id or pocket (pocket)")
    add("--device", default="auto", metavar="auto|cpu|cuda|mps", help="where to work (auto)")
    add("--out", type=Path, required=True, metavar="DIR", help="where everything is written")
    add("--batch-size", type=int, metavar="N", help="examples in a batch (16)")
    add("--workers", type=int, default=2, metavar="N", help="threads that decode ahead (2)")
    add("--max-new-tokens", type=int, metavar="N", help="tokens of an answer at most (300)")
    add("--beams", type=int, metavar="N", help="beams; 1 is greedy (1; 2 with --parity published)")
    add("--merging-alpha", type=float, default=1.0, metavar="A", help="scale of the adapter (1)")
    add("--scorer", choices=("official", "corrected", "both"), default="both", help="(both)")
    add("--resamples", type=int, default=1000, metavar="N", help="draws for intervals (1000)")
    add("--spice-jars", type=Path, metavar="FOLDER", help="where SPICE's jars are")
    meaning = parser.add_argument_group("what the figures mean")
    add = meaning.add_argument
    add("--controls", metavar="A,B", help="silence, noise, swapped, text-only, or all")
    add("--panels", metavar="A,B", help="options, paraphrase, or all")
    add("--alphas", metavar="A,B", help="scales of the adapter to sweep, or all for 0 to 1 by 0.1")
    add("--baselines", metavar="A,B", help="majority, none, random, probe, or all")


def words(text: str | None, known: Sequence[str] = ()) -> tuple[str, ...]:
    """Read a comma-separated list; ``all`` is everything known."""
    if text == "all":
        return tuple(known)
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def extras_of(args: argparse.Namespace) -> Extras:
    """Read what to run beside the benchmark."""
    from NatureLM.eval.baselines import BASELINES
    from NatureLM.eval.controls import ALPHAS, ARMS
    from NatureLM.eval.extras import PANELS, Extras

    try:
        alphas = tuple(float(word) for word in words(args.alphas, [str(a) for a in ALPHAS]))
    except ValueError as error:
        raise ConfigError(f"--alphas {args.alphas}: expected numbers from 0 to 1") from error
    return Extras(
        words(args.controls, tuple(ARMS)),
        words(args.panels, PANELS),
        alphas,
        words(args.baselines, BASELINES),
    )


def settings_of(args: argparse.Namespace, parity: str = "ours") -> RunSettings:
    """Read how the model is run."""
    from NatureLM.config import Generation
    from NatureLM.eval.runner import PUBLISHED_BATCH, PUBLISHED_GENERATION, RunSettings

    for name, value in (("--batch-size", args.batch_size), ("--workers", args.workers)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} {value}: expected at least 1")
    if not 0 <= args.merging_alpha <= 1:
        raise ConfigError(f"--merging-alpha {args.merging_alpha}: expected 0 to 1")
    base = PUBLISHED_GENERATION if parity == "published" else Generation()
    generation = Generation(
        max_new_tokens=args.max_new_tokens or base.max_new_tokens,
        num_beams=args.beams or base.num_beams,
        stop_rule=base.stop_rule,
    )
    return RunSettings(
        generation,
        args.merging_alpha,
        "published" if parity == "published" else "ours",
        args.batch_size or PUBLISHED_BATCH,
        args.workers,
    )


def engine_of(args: argparse.Namespace, settings: RunSettings) -> ItemEngine:
    """Load the model."""
    from NatureLM.infer.device import choose_device, load_model
    from NatureLM.infer.items import ItemEngine

    options: dict[str, Any] = {"parity": "published"} if settings.parity == "published" else {}
    model = load_model(args.model, choose_device(args.device), **options)
    return ItemEngine(model, settings.batch_size)


class Watcher:
    """Shows how far a run is: a line that is rewritten on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self.name("")

    def name(self, name: str) -> None:
        """Say which part begins."""
        self._name = f"{name}: " if name else ""
        self._began, self._said_s = time.monotonic(), 0.0
        self._first: int | None = None

    def __call__(self, progress: Progress) -> None:
        """Take note of progress."""
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if self._first is None:
            self._first = progress.done
        last = progress.done == progress.total
        if not last and now - self._said_s < (0.2 if terminal else LOG_EVERY_S):
            return
        self._said_s = now
        text = f"naturelm: {self._line(progress, self._first, now)}"
        print(
            f"\r\x1b[K{text}" if terminal else text,
            end="\n" if last or not terminal else "",
            file=sys.stderr,
            flush=True,
        )

    def _line(self, progress: Progress, first: int, now: float) -> str:
        text = f"{self._name}{progress.done} of {progress.total} examples"
        if progress.reused:
            text += f", {progress.reused} from before"
        if progress.failed:
            text += f", {progress.failed} failed"
        fresh, seconds = progress.done - first, now - self._began
        if fresh and progress.done < progress.total:
            left = seconds * (progress.total - progress.done) / fresh
            text += f", {fresh / seconds:.1f} a second, {left / 60:.0f} min left"
        return text


def run_job(job: Job, extras: Extras, scoring: ScoreSettings, notes: Sequence[str]) -> int:
    """Run, score, report, and return the exit code."""
    from NatureLM.eval.extras import run_extras
    from NatureLM.eval.publish import publish
    from NatureLM.eval.runner import run
    from NatureLM.eval.store import write_json

    watcher = Watcher()
    try:
        outcome = run(job, watcher)
        found = run_extras(job, outcome, extras, scoring, (watcher, watcher.name))
    except KeyboardInterrupt:
        print(
            f"\nnaturelm: answers so far are in {job.folder}; the same command goes on from there",
            file=sys.stderr,
        )
        raise
    if found.record:
        write_json(job.folder / "controls.json", found.record)
    published = publish(job, outcome, scoring, notes, found.sections)
    _summarise(outcome, published)
    return UNREADABLE if outcome.progress.failed else 0


def _summarise(outcome: Outcome, published: Published) -> None:
    from rich.console import Console
    from rich.text import Text

    from NatureLM.eval.tables import corrected_tables, official_tables

    console = Console(highlight=False)
    evaluation = published.evaluation
    for part in (*official_tables(evaluation), *corrected_tables(evaluation)):
        console.print(part, soft_wrap=isinstance(part, Text))
    for warning in evaluation.warnings:
        print(f"naturelm: warning: {warning}", file=sys.stderr)
    if outcome.repaired_bytes:
        print(
            f"naturelm: cut {outcome.repaired_bytes} bytes of an unfinished line off the journal",
            file=sys.stderr,
        )
    for code, count in outcome.failures.items():
        print(f"naturelm: {count} examples failed: {code}", file=sys.stderr)
    if published.missing:
        print(f"naturelm: no report: {published.missing}", file=sys.stderr)
    for path in published.files:
        print(f"naturelm: wrote {path}", file=sys.stderr)
