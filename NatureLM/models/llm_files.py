"""The base LLM's files: where its weights lie, how large its vocabulary is.

Knows a folder as transformers writes it; builds nothing. The one surprise: a path in a published configuration may be
relative to the folder that holds the configuration, to the working directory, or be a hub name; they are tried in that order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from NatureLM.errors import CheckpointError
from NatureLM.models.hub import LLM_FILES, Lookup, locate
from NatureLM.models.weight_file import Entry, open_weights


def locate_llm(
    llama_path: str, checkpoint_folder: Path | None = None, lookup: Lookup | None = None
) -> Path:
    """Find the base LLM's folder.

    Args:
        llama_path: As the configuration or the user names it.
        checkpoint_folder: Where the configuration lies.
        lookup: How the hub is asked; a checkpoint's revision is not the LLM's.

    Raises:
        CheckpointError: When it is nowhere.
    """
    beside = None if checkpoint_folder is None else checkpoint_folder / llama_path
    if beside is not None and (beside / "config.json").is_file():
        return beside
    try:
        folder = locate(llama_path, lookup, LLM_FILES).folder
    except CheckpointError as error:
        kept = None if checkpoint_folder is None else checkpoint_folder / "llama"
        if kept is not None and (kept / "config.json").is_file():
            return kept
        raise CheckpointError(
            f"Llama base missing: {error} Pass llama_path=... (a folder or a hub name)."
        ) from error
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder}: holds no config.json, so it is no LLM. Pass llama_path=..."
        )
    return folder


def base_entries(folder: Path) -> Mapping[str, Entry]:
    """List the base LLM's tensors by the names of its own files.

    Raises:
        CheckpointError: When it has no safetensors.
    """
    for name in ("model.safetensors.index.json", "model.safetensors"):
        if (folder / name).is_file():
            return open_weights(folder / name).entries
    pickled = " It has pickles only; fetch the safetensors." if list(folder.glob("*.bin")) else ""
    raise CheckpointError(f"{folder}: holds no model.safetensors.{pickled} Pass llama_path=...")


def vocabulary_of(folder: Path) -> int:
    """Read how many tokens the base LLM knows."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return int(config["vocab_size"])
