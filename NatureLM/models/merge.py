"""LoRA folded into its base: a plain Llama checkpoint for vLLM and others, without this package.

Knows the tensors of a published checkpoint and of its base, and one formula: W + alpha * (lora_alpha / lora_rank) * B A.
The one surprise: it works tensor by tensor from file to file, so that 8 billion weights need a gigabyte of memory; and the
``[PAD]`` row is left out, so that what comes out has the base's own vocabulary and tokenizer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from NatureLM.errors import CheckpointError
from NatureLM.models.convert import fresh_folder
from NatureLM.models.keymap import canonical_name, logical_name, ours_of
from NatureLM.models.llm_files import base_entries
from NatureLM.models.weight_file import Entry, read_tensor
from NatureLM.models.weight_write import Promise, write_shards

COPIED = ("generation_config.json", "special_tokens_map.json", "tokenizer*", "*.jinja")
"""Files of the base that go along unchanged."""


@dataclass(frozen=True)
class MergeSettings:
    """How LoRA is folded.

    Attributes:
        scale: ``alpha * lora_alpha / lora_rank``.
        rows: Vocabulary of the base.
        dtype: Dtype of what is written; ``None`` for each tensor's own.
    """

    scale: float
    rows: int
    dtype: torch.dtype | None = None


def merge(
    checkpoint: Mapping[str, Entry], base_folder: Path, out: Path, settings: MergeSettings
) -> Path:
    """Write a plain Llama folder.

    Args:
        checkpoint: The published checkpoint's tensors.
        base_folder: The base LLM: its configuration, tokenizer and, where the checkpoint lacks them, weights.
        out: Folder to make.
        settings: Scale, vocabulary, dtype.

    Raises:
        CheckpointError: When a tensor of the base is missing or ``out`` is there already.
    """
    plain, halves = _sorted(checkpoint)
    if "model.layers.0.mlp.up_proj.weight" not in plain:
        plain = dict(base_entries(base_folder)) | plain
    promises = {}
    for name in sorted(plain):
        stem = name.removesuffix(".weight")
        promises[name] = _promise(plain[name], halves.pop(stem, None), settings)
    if halves:
        raise CheckpointError(f"{out}: the base LLM lacks {min(halves)}, which the LoRA changes.")
    with fresh_folder(out) as folder:
        write_shards(folder, promises)
        for pattern in COPIED:
            for file in base_folder.glob(pattern):
                shutil.copy(file, folder / file.name)
        _write_config(base_folder, folder, settings)
    return out


def _sorted(
    checkpoint: Mapping[str, Entry],
) -> tuple[dict[str, Entry], dict[str, dict[str, Entry]]]:
    """Part the LLM's own tensors from the halves of its LoRA, both by plain Llama names."""
    plain: dict[str, Entry] = {}
    halves: dict[str, dict[str, Entry]] = {}
    for name, entry in checkpoint.items():
        ours = ours_of(canonical_name(name)) or ""
        if not ours.startswith("llm."):
            continue
        bare = logical_name(ours).removeprefix("llm.")
        stem, mark, half = bare.partition(".lora_")
        if mark:
            halves.setdefault(stem, {})[half[0]] = entry
        else:
            plain[bare] = entry
    return plain, halves


def _promise(entry: Entry, halves: Mapping[str, Entry] | None, settings: MergeSettings) -> Promise:
    table = entry.name.endswith(("embed_tokens.weight", "lm_head.weight"))
    shape = (min(entry.shape[0], settings.rows), *entry.shape[1:]) if table else entry.shape
    dtype = settings.dtype or entry.dtype

    def make() -> Tensor:
        weight = read_tensor(entry)[: shape[0]]
        if halves is None:
            return weight
        a, b = (read_tensor(halves[k]).float() for k in "AB")
        return weight.float() + settings.scale * (b @ a)

    return Promise(dtype, shape, make)


def _write_config(base_folder: Path, folder: Path, settings: MergeSettings) -> None:
    config = json.loads((base_folder / "config.json").read_text(encoding="utf-8"))
    if settings.dtype is not None:
        config["dtype"] = config["torch_dtype"] = str(settings.dtype).removeprefix("torch.")
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / "config.json").write_text(text, encoding="utf-8")
