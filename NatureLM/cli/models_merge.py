"""naturelm models merge: fold the adapter into its base, for programs that read plain Llama folders.

Knows the command line; the folding is in ``models/merge.py``. The surprise: only the LLM is written; the audio parts stay in
the checkpoint, since what reads a Llama folder has no use for them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

PUBLISHED = "EarthSpeciesProject/NatureLM-audio"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.epilog = "example: naturelm models merge --alpha 0.6 merged-llama"
    add = parser.add_argument
    add("out", metavar="OUT", type=Path, help="folder to make")
    add(
        "--alpha",
        type=float,
        default=1.0,
        metavar="A",
        help="scale of the adapter: 0 base LLM, 1 fine-tuned (1)",
    )
    add(
        "--model",
        default=PUBLISHED,
        metavar="NAME",
        help="hub name or folder of the checkpoint (the published one)",
    )
    add("--revision", metavar="R", help="branch, tag or commit of the checkpoint")
    add(
        "--llama-path",
        metavar="PATH",
        help="the base LLM, when it is not where the checkpoint says",
    )
    add(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="dtype of what is written (the weights' own)",
    )
    add("--local-files-only", action="store_true", help="ask nothing of the network")


def run(args: argparse.Namespace) -> int:
    """Merge and say where the result lies."""
    import torch

    from NatureLM.models.checkpoint import LoadOptions, open_source
    from NatureLM.models.llm_files import vocabulary_of
    from NatureLM.models.lora import check_alpha
    from NatureLM.models.merge import MergeSettings, merge

    check_alpha(args.alpha)
    wanted = {"revision": args.revision, "local_files_only": args.local_files_only}
    if args.llama_path:
        wanted["llama_path"] = args.llama_path
    source = open_source(args.model, LoadOptions.of(wanted))
    config = source.config
    scale = args.alpha * config.lora_alpha / config.lora_rank if config.lora else 0.0
    dtype = None if args.dtype == "auto" else getattr(torch, args.dtype)
    settings = MergeSettings(scale, vocabulary_of(source.llm_folder), dtype)
    print(merge(source.holdings.checkpoint, source.llm_folder, args.out, settings))
    return 0
