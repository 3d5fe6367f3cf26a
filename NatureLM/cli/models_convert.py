"""naturelm models convert: a pickled checkpoint becomes safetensors, read in a child process that runs none of its code.

Knows the command line; the conversion is in ``models/convert.py``. The surprise: this is the only command that opens a
pickle at all, and it says so on the standard error.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.epilog = "example: naturelm models convert checkpoint_best.pth my-model"
    add = parser.add_argument
    add(
        "source",
        metavar="SOURCE",
        type=Path,
        help="training checkpoint or BEATs file (.pt, .pth), or a folder with model_config.yaml",
    )
    add(
        "out",
        metavar="OUT",
        type=Path,
        help="folder to make; for a BEATs file also NAME.safetensors",
    )
    add(
        "--config",
        metavar="FILE",
        type=Path,
        help="YAML or config.json to use instead of the checkpoint's own configuration",
    )


def run(args: argparse.Namespace) -> int:
    """Convert and say where the result lies."""
    from NatureLM.models.convert import convert

    print(
        f"naturelm: {args.source} is read as a pickle, which can carry code. Only tensors and plain values are taken, in a process of their own; still, convert only files you trust.",
        file=sys.stderr,
    )
    print(convert(args.source, args.out, args.config))
    return 0
