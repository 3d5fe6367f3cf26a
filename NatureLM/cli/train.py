"""``naturelm train RECIPE [key=value ...]``: run one stage of a training."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from NatureLM.train.recipe import PocketRecipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("recipe", help="a YAML file, or the name of a shipped recipe")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="win over the recipe")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))


def run(args: argparse.Namespace) -> int:
    """Train, and print the summary as JSON."""
    from NatureLM.train.recipe import read_recipe

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    recipe = read_recipe(args.recipe, args.overrides)
    print(json.dumps(_train(recipe, args.device), indent=2))
    return 0


def _train(recipe: PocketRecipe, device_name: str) -> dict[str, Any]:
    import torch

    from NatureLM.train.generalisation import train_generalisation
    from NatureLM.train.perception import train_perception
    from NatureLM.train.prepared import load_prepared

    name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name if device_name == "auto" else device_name)
    folder = Path(recipe.prepared)
    if not (folder / "taxa.json").is_file():
        _prepare(folder, recipe)
    prepared = load_prepared(folder)
    if recipe.stage == "perception":
        return train_perception(recipe, prepared, device)
    return train_generalisation(recipe, prepared, _language(recipe), device)


def _prepare(folder: Path, recipe: PocketRecipe) -> None:
    from NatureLM.models import parts
    from NatureLM.models.encoders.birdnet import BirdNET
    from NatureLM.taxonomy.names import load_taxonomy
    from NatureLM.train.prepared import prepare

    taxonomy = load_taxonomy(parts.fetch("birdnet-labels"), parts.fetch("birdnames-ebird"))
    prepare(folder, taxonomy, BirdNET(parts.fetch("birdnet")), *_language(recipe))


def _language(recipe: PocketRecipe) -> tuple[Any, Any]:
    from NatureLM.models import gguf

    if recipe.llm:
        path = Path(recipe.llm)
        return gguf.load_unpacked(
            path if path.is_dir() else gguf.unpacked(path, path.with_suffix(""))
        )
    from NatureLM.models import parts

    return gguf.load_unpacked(
        gguf.unpacked(parts.fetch("smollm2"), parts.cache_folder() / "smollm2")
    )
