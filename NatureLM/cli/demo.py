"""naturelm demo: from nothing to answers about a real recording.

Fetches what is lacking, asks the model card's question twice, for windows of 10 s as the card does and of 3 s, and says how long it
took. The surprise: everything but the answers goes to the standard error, so that they can be piped on.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from NatureLM.cli.fetching import bring, say
from NatureLM.errors import CheckpointError
from NatureLM.models import catalog, parts

if TYPE_CHECKING:
    from pathlib import Path

    from NatureLM.infer import Pipeline

QUERY = "What is the common name for the focal species in the audio?"
WINDOWS_S = (10.0, 3.0)
"""The model card's windows, and the length of what the encoder hears at once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.epilog = "Then ask your own: naturelm ask RECORDING --query QUESTION"
    add = parser.add_argument
    add("--query", default=QUERY, help=f"the question ({QUERY})")
    add("--device", default="auto", metavar="auto|cpu|cuda|mps", help="where to work (auto)")


def run(args: argparse.Namespace) -> int:
    """Fetch, load, ask, print."""
    began_s = time.monotonic()
    bring((*parts.POCKET, parts.DEMO))
    if trouble := catalog.absent_bridge():
        raise CheckpointError(trouble)
    fetched_s = time.monotonic()
    pipeline = _pipeline(args.device)
    loaded_s = time.monotonic()
    windows = _ask(pipeline, parts.fetch(parts.DEMO), args.query)
    done_s = time.monotonic()
    say(
        f"{windows} windows; fetched in {fetched_s - began_s:.1f} s, loaded in {loaded_s - fetched_s:.1f} s, "
        f"answered in {done_s - loaded_s:.1f} s by {pipeline.model.name} ({pipeline.model.revision[:12]}) "
        f"on {pipeline.model.device}"
    )
    say(
        "pocket is a small model: it names what BirdNET hears. `naturelm models info pocket` says what it is made of."
    )
    say(f'your own: naturelm ask RECORDING --query "{QUERY}"')
    return 0


def _pipeline(device: str) -> Pipeline:
    import logging

    from NatureLM.infer import Pipeline
    from NatureLM.infer.device import choose_device, load_model

    logging.getLogger("transformers").setLevel(logging.ERROR)
    say("loading pocket ...")
    return Pipeline(load_model("pocket", choose_device(device)))


def _ask(pipeline: Pipeline, recording: Path, query: str) -> int:
    """Print the answers as they come and return how many there were."""
    from NatureLM.audio.windows import WindowPlan

    windows = 0
    print(f"{recording.name}: {query}", flush=True)
    for window_s in WINDOWS_S:
        print(f"\nwindows of {window_s:g} s", flush=True)
        for piece in pipeline.stream([recording], [query], WindowPlan(window_s, window_s)):
            print(piece.as_text(), end="", flush=True)
            windows += len(piece.answers)
    return windows
