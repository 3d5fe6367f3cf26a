"""A BEATs encoder by itself, from a file that ``naturelm models convert`` made of an original checkpoint.

Knows the original files' names and where a converted file keeps its configuration; opens no pickle. The one surprise: the
sample rate is in no original file, so a checkpoint trained at 32 kHz must be said to be one.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from NatureLM.errors import CheckpointError
from NatureLM.models.convert import BEATS_METADATA
from NatureLM.models.encoders.beats.encoder import BEATs
from NatureLM.models.encoders.beats.shape import BEATsShape
from NatureLM.models.keymap import published_of
from NatureLM.models.weight_file import Entry, WeightFiles, open_weights, read_into

_PICKLED = (".pt", ".pth", ".bin", ".ckpt")


def open_beats(path: Path) -> WeightFiles:
    """Read the header of a converted BEATs file.

    Raises:
        CheckpointError: When it is still a pickle, missing or damaged.
    """
    if path.suffix in _PICKLED:
        raise CheckpointError(
            f"{path}: is a pickle, which is only read by: naturelm models convert {path} {path.with_suffix('.safetensors')}"
        )
    return open_weights(path / "beats.safetensors" if path.is_dir() else path)


def load_beats(path: str | Path, sample_rate: int | None = None) -> BEATs:
    """Load an encoder.

    Args:
        path: The converted file, or the folder that holds it.
        sample_rate: Rate it was trained at, in Hz; 16000 unless its configuration says another.

    Raises:
        CheckpointError: When a tensor is missing, has no home or the wrong shape.
    """
    path = Path(path)
    found = open_beats(path)
    if BEATS_METADATA not in found.metadata:
        raise CheckpointError(
            f"{path}: holds no BEATs configuration; convert the original file again."
        )
    shape = BEATsShape.of(json.loads(found.metadata[BEATS_METADATA]))
    with torch.device("meta"):
        encoder = BEATs(shape if sample_rate is None else replace(shape, sample_rate=sample_rate))
    homes = {published_of(f"encoder.{k}").removeprefix("beats."): k for k in encoder.state_dict()}
    _check(path, encoder, homes, found.entries)
    tensors = {homes[k]: torch.empty(e.shape, dtype=e.dtype) for k, e in found.entries.items()}
    read_into([(e, tensors[homes[k]]) for k, e in found.entries.items()])
    encoder.load_state_dict(tensors, strict=True, assign=True)
    return encoder.eval()


def _check(path: Path, encoder: BEATs, homes: dict[str, str], entries: dict[str, Entry]) -> None:
    wanted = {k: tuple(encoder.state_dict()[home].shape) for k, home in homes.items()}
    has = {k: e.shape for k, e in entries.items()}
    wrong = sorted(k for k in wanted.keys() | has.keys() if wanted.get(k) != has.get(k))
    if wrong:
        raise CheckpointError(
            f"{path}: {len(wrong)} tensors do not fit its configuration: {', '.join(wrong[:4])}{' ...' if len(wrong) > 4 else ''}."
        )
