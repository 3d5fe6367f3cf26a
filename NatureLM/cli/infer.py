"""naturelm infer: the published command's form. Recordings and one query in, JSON lines of ``audio_path`` and ``output`` out.

Knows the command line; the answers are the Pipeline's. The surprises: everything that the YAML file's ``generate`` section says
holds, beams included; a recording that cannot be read is a line with an ``error`` and the others go on; and, as in the
published command, an output file that exists is written anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from NatureLM.errors import ConfigError, PromptError, RecordingError

if TYPE_CHECKING:
    from NatureLM.config import PublishedConfig
    from NatureLM.infer import Pipeline
    from NatureLM.results import RecordingResult

UNREADABLE = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.epilog = (
        'example: naturelm infer --audio-path recordings/ --query "Which species is this?" '
        "--merging-alpha 0.6 --options generate.num_beams=1"
    )
    add = parser.add_argument
    add("--cfg-path", "-c", metavar="YAML", help="published YAML file (the shipped inference.yml)")
    add("--audio-path", "-a", metavar="PATH", required=True, help="a recording or a folder of them")
    add("--query", "-q", required=True, help="the question for all recordings")
    add("--output-path", "-o", metavar="JSONL", default="inference_output.jsonl")
    add("--window-length-seconds", type=float, default=10.0, metavar="S", help="(10)")
    add("--hop-length-seconds", type=float, default=10.0, metavar="S", help="(10)")
    add("--merging-alpha", type=float, metavar="A", help="wins over the file's generate section")
    add(
        "--options",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override a key of the file; repeat for several",
    )
    add("--model", metavar="NAME", help="a folder, a hub name or pocket; by the file when left out")
    add("--device", default="auto", metavar="auto|cpu|cuda|mps", help="where to work (auto)")
    add(
        "--parity",
        choices=("default", "published"),
        default="default",
        help="published repeats the reference, its dropped tails and other defects included",
    )


def run(args: argparse.Namespace) -> int:
    """Answer, and return the exit code."""
    from NatureLM.audio.discovery import find_recordings
    from NatureLM.audio.windows import WindowPlan
    from NatureLM.outputs.sink import check_place, open_sink

    config, path = _config(args)
    tail: Literal["keep", "drop"] = "drop" if args.parity == "published" else "keep"
    plan = WindowPlan(args.window_length_seconds, args.hop_length_seconds, tail)
    if not args.query.strip():
        raise PromptError("the query is empty; pass --query with a question")
    paths = list(dict.fromkeys(find_recordings([args.audio_path])))
    if not paths:
        raise RecordingError(f"no recordings in {args.audio_path}")
    check_place(args.output_path, force=True)
    pipeline = _pipeline(args, config, path)
    with open_sink(args.output_path, force=True) as sink:
        faults = _write(pipeline.ask(paths, args.query, plan), sink)
    print(f"{len(paths)} recordings, {faults} unreadable: {args.output_path}", file=sys.stderr)
    return UNREADABLE if faults else 0


def _write(results: Iterable[RecordingResult], sink: Any) -> int:
    """Write one line a recording while answers come; count those that could not be read."""
    faults = 0
    for result in results:
        record = {"audio_path": result.recording, "output": result.as_text()}
        if result.error_code:
            faults += 1
            record |= {"error_code": result.error_code, "error": result.error or ""}
        sink.append(json.dumps(record, ensure_ascii=False) + "\n")
    return faults


def _config(args: argparse.Namespace) -> tuple[PublishedConfig, Path]:
    from importlib.resources import files

    from NatureLM.config import read_config

    path = Path(args.cfg_path or str(files("NatureLM.recipes") / "inference.yml"))
    options = list(args.options)
    if args.merging_alpha is not None:
        options.append(f"generate.merging_alpha={args.merging_alpha}")
    config = read_config(path, options)
    if config.generate is None:
        raise ConfigError(f"{path}: has no generate section, which says how answers are decoded.")
    return config, path


def _pipeline(args: argparse.Namespace, config: PublishedConfig, path: Path) -> Pipeline:
    from NatureLM.config import checkpoint_of, read_config
    from NatureLM.infer import Pipeline, PipelineSettings, choose_device
    from NatureLM.infer.device import load_model

    written = read_config(path).model
    changed = {key for key, value in config.model if value != getattr(written, key)}
    name, options = checkpoint_of(config.model, path, changed)
    if args.model:
        name, options = args.model, {}
    model = load_model(name, choose_device(args.device), parity=args.parity, **options)
    generate = config.generate
    settings = PipelineSettings(
        parity=args.parity,
        generation=generate.generation() if generate else None,
        merging_alpha=generate.merging_alpha if generate else None,
    )
    return Pipeline(model, settings=settings)
