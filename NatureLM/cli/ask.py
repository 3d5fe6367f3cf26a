"""naturelm ask: recordings and a question in, an answer per window out, as they come.

Everything that can be refused is refused before the model is loaded. The standard output (or ``--output``) holds answers
only; progress, notes and the summary go to the standard error. The surprise: the question may be the last word of the command
line, as long as it is not a file.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from NatureLM.errors import ConfigError, PromptError, RecordingError, StoreError

if TYPE_CHECKING:
    from NatureLM.audio.windows import WindowPlan
    from NatureLM.cli.progress import Reporter
    from NatureLM.config import Generation
    from NatureLM.infer import PipelineSettings
    from NatureLM.models import NatureLM
    from NatureLM.outputs import Sink

UNREADABLE, STOPPED = 3, 130
STANDARD_OUTPUT = 1
_QUERY = "What is the common name for the focal species in the audio?"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.epilog = (
        f'example: naturelm ask recordings/ --query "{_QUERY}" --format csv --output answers.csv'
    )
    add = parser.add_argument
    add(
        "recordings",
        nargs="*",
        metavar="RECORDING",
        help="file, folder (searched through) or glob; the last word may be the question instead of --query",
    )
    add("--query", "-q", action="append", default=[], help="the question; repeat for several")
    add(
        "--option",
        action="append",
        default=[],
        metavar="LABEL",
        help="one of the labels of a closed question; repeat; prints a probability for each",
    )
    add("--no-none", action="store_true", help='do not add "None" to the options')
    add(
        "--files-from",
        metavar="FILE",
        help="read recordings from FILE, one a line or NUL-separated; - is the standard input",
    )
    add(
        "--model",
        metavar="NAME",
        help="pocket, a folder or a hub name; by what this machine can run when left out",
    )
    add("--device", default="auto", metavar="auto|cpu|cuda|mps", help="where to work (auto)")
    _add_window_arguments(parser.add_argument_group("windows"))
    _add_reading_arguments(parser.add_argument_group("reading"))
    _add_output_arguments(parser.add_argument_group("output"))
    _add_answer_arguments(parser.add_argument_group("answers"))


def _add_window_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--window-length-seconds",
        type=float,
        default=10.0,
        metavar="S",
        help="length of a window (10)",
    )
    add(
        "--hop-length-seconds",
        type=float,
        metavar="S",
        help="seconds between window starts (the window's length)",
    )
    add(
        "--tail",
        choices=("keep", "drop"),
        default="keep",
        help="what remains after the last full window (keep)",
    )
    add("--skip-short", action="store_true", help="leave out recordings shorter than 0.5 s")
    add(
        "--ask-silence",
        action="store_true",
        help="ask the model about digital silence instead of answering None",
    )


def _add_reading_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--force-rate",
        type=int,
        metavar="HZ",
        help="believe this sample rate instead of the files'",
    )
    add(
        "--slow-down",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="play recordings FACTOR times slower; windows count in slowed time, reported times stay true (1)",
    )
    add(
        "--ultrasonic",
        action="store_const",
        const=10.0,
        dest="slow_down",
        help="for bats and the like: the same as --slow-down 10",
    )


def _add_output_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--format", choices=("text", "jsonl", "csv"), help="by the suffix of --output, else text")
    add(
        "--output",
        metavar="FILE",
        help="write answers to FILE while they come instead of the standard output",
    )
    add("--force", action="store_true", help="replace FILE when it exists")
    add("--quiet", action="store_true", help="no progress on the standard error")


def _add_answer_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--batch-size",
        type=int,
        metavar="N",
        help="windows in a batch (by the device; halved when memory runs out)",
    )
    add("--max-new-tokens", type=int, metavar="N", help="tokens in an answer at most")
    add(
        "--merging-alpha",
        type=float,
        metavar="A",
        help="scale of the adapter: 0 base LLM, 1 fine-tuned (1)",
    )
    add(
        "--cpu-fallback",
        action="store_true",
        help="go on with the CPU when one window does not fit the device",
    )


@dataclass(frozen=True)
class Job:
    """What is to be done, checked as far as it can be without the model."""

    paths: Sequence[Path]
    queries: tuple[str, ...]
    options: tuple[str, ...]
    plan: WindowPlan
    form: str
    generation: Generation | None


def run(args: argparse.Namespace) -> int:
    """Ask, and return the exit code."""
    from NatureLM.cli.progress import Tally, heard, reporter_for

    job = _job(args)
    with reporter_for(Tally(job.paths), quiet=args.quiet) as reporter, heard(reporter):
        return _ask(args, job, reporter)


def _ask(args: argparse.Namespace, job: Job, reporter: Reporter) -> int:
    """The whole way: load the model, stream pieces of answers to where they belong, say what was done."""
    from NatureLM.infer import Pipeline
    from NatureLM.outputs import open_format

    pipeline = Pipeline(_model(args), device=args.device, settings=_settings(args, job))
    reporter.tally.begin()
    form = open_format(job.form)
    pieces = pipeline.stream(job.paths, job.queries, job.plan, options=job.options)
    stopped = False
    with _sink(args) as sink:
        try:
            sink.append(form.begin())
            for piece in pieces:
                _put(form.piece(piece), sink, args, reporter)
                reporter.add(piece)
        except KeyboardInterrupt:
            stopped = True
    reporter.end(f"{pipeline.model.name} on {pipeline.model.device}", stopped=stopped)
    return STOPPED if stopped else UNREADABLE if reporter.tally.faults else 0


def _put(text: str, sink: Sink, args: argparse.Namespace, reporter: Reporter) -> None:
    """Where answers and bar share a terminal, the bar's console prints both."""
    if reporter.owns_terminal and not args.output and sys.stdout.isatty():
        reporter.answers(text)
    else:
        sink.append(text)


def _job(args: argparse.Namespace) -> Job:
    """Refuse what can be refused before any work."""
    from NatureLM.audio.windows import WindowPlan
    from NatureLM.config import Generation
    from NatureLM.outputs import format_for
    from NatureLM.outputs.sink import check_place

    sources, queries = _sources_and_queries(args)
    window_s = args.window_length_seconds
    hop_s = window_s if args.hop_length_seconds is None else args.hop_length_seconds
    tokens = args.max_new_tokens
    if args.batch_size is not None and args.batch_size < 1:
        raise ConfigError(f"--batch-size {args.batch_size}: must be at least 1")
    if args.output:
        try:
            check_place(args.output, force=args.force)
        except StoreError as error:
            raise ConfigError(str(error)) from error
    return Job(
        paths=_found(sources),
        queries=queries,
        options=_options(args),
        plan=WindowPlan(window_s, hop_s, args.tail),
        form=args.format or format_for(args.output),
        generation=None if tokens is None else Generation(max_new_tokens=tokens),
    )


def _sources_and_queries(args: argparse.Namespace) -> tuple[list[str], tuple[str, ...]]:
    """Tell recordings from the question, which may be the last word."""
    sources, queries = list(args.recordings), list(args.query)
    if not queries and sources and not _looks_like_a_path(sources[-1]):
        queries = [sources.pop()]
    if args.files_from:
        sources += _lines(args.files_from)
    if not queries:
        last = f" ({sources[-1]} was taken for a recording)" if sources else ""
        raise PromptError(f'no question; pass --query "{_QUERY}"{last}')
    if any(not query.strip() for query in queries):
        raise PromptError(f'the query is empty; ask something, such as "{_QUERY}"')
    if not sources:
        raise RecordingError("no recordings; name files, folders or globs, or pass --files-from")
    return sources, tuple(dict.fromkeys(queries))


def _looks_like_a_path(word: str) -> bool:
    """A word with spaces or a question mark is a question, unless a file of that name or pattern is there."""
    if os.path.lexists(word) or _matches(word):
        return True
    return not any(character.isspace() for character in word) and not word.endswith("?")


def _matches(pattern: str) -> bool:
    import glob

    return any(True for _ in glob.iglob(pattern, recursive=True))  # noqa: PTH207 - absolute patterns, too


def _lines(name: str) -> list[str]:
    """Read the paths in a file or on the standard input, whatever bytes they hold."""
    from NatureLM.audio.discovery import read_paths

    try:
        if name == "-":
            return read_paths(sys.stdin.buffer)
        with Path(name).open("rb") as stream:
            return read_paths(stream)
    except OSError as error:
        raise ConfigError(f"--files-from {name}: {error.strerror}") from error


def _found(sources: Sequence[str]) -> list[Path]:
    from NatureLM.audio.discovery import find_recordings

    return list(find_recordings(sources))


def _options(args: argparse.Namespace) -> tuple[str, ...]:
    from NatureLM.annotations import NONE

    options = list(dict.fromkeys(option.strip() for option in args.option))
    if any(not option for option in options):
        raise PromptError("an --option is empty; name a label")
    if options and not args.no_none and NONE not in options:
        options.append(NONE)
    if len(options) == 1:
        raise PromptError("one option is no choice; pass --option at least twice")
    return tuple(options)


def _settings(args: argparse.Namespace, job: Job) -> PipelineSettings:
    from NatureLM.infer import PipelineSettings

    return PipelineSettings(
        generation=job.generation,
        merging_alpha=args.merging_alpha,
        batch_size=args.batch_size,
        ask_silence=args.ask_silence,
        skip_short=args.skip_short,
        cpu_fallback=args.cpu_fallback,
        force_rate_hz=args.force_rate,
        slow_down=args.slow_down,
    )


def _model(args: argparse.Namespace) -> NatureLM | None:
    """Load the model that was asked for; the pipeline chooses one when none was."""
    from NatureLM.infer.device import choose_device, load_model

    return load_model(args.model, choose_device(args.device)) if args.model else None


def _sink(args: argparse.Namespace) -> Sink:
    from NatureLM.outputs import Sink, open_sink

    if args.output:
        return open_sink(args.output, force=args.force)
    return Sink(STANDARD_OUTPUT, "standard output", owned=False)
