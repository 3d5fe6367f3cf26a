"""Writing safetensors one tensor at a time, so that saving or merging a large model needs memory for one of its tensors.

Knows the file format and the way that transformers names shards; nothing of models. The one surprise: a tensor is asked for
when its turn comes and forgotten when written; only its dtype and shape must be known before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from NatureLM.models.weight_file import DTYPES

SHARD_BYTES = 5 * 10**9
_CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Promise:
    """A tensor that will be made when it is written.

    Attributes:
        dtype: Its dtype.
        shape: Its shape.
        make: Makes it, on any device.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @classmethod
    def of(cls, tensor: Tensor) -> Promise:
        """Promise a tensor that is there already."""
        return cls(tensor.dtype, tuple(tensor.shape), lambda: tensor)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def write_file(
    path: Path, tensors: Mapping[str, Promise], metadata: Mapping[str, str] | None = None
) -> None:
    """Write one ``.safetensors`` file.

    Args:
        path: The file.
        tensors: Name -> tensor, large dtypes first, as the format's other writers order them.
        metadata: Notes for the header.
    """
    order = sorted(tensors, key=lambda k: (-tensors[k].dtype.itemsize, k))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name in order:
        promise = tensors[name]
        end = offset + promise.nbytes
        header[name] = {
            "dtype": _CODES[promise.dtype],
            "shape": list(promise.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            file.write(_bytes(tensors[name]))


def write_shards(
    folder: Path, tensors: Mapping[str, Promise], shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Write ``model.safetensors``, or numbered shards and their index when that would be too large."""
    groups: list[list[str]] = [[]]
    held = 0
    for name, promise in tensors.items():
        if groups[-1] and held + promise.nbytes > shard_bytes:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += promise.nbytes
    if len(groups) == 1:
        write_file(folder / "model.safetensors", tensors, {"format": "pt"})
        return [folder / "model.safetensors"]
    return _write_numbered(folder, tensors, groups)


def _write_numbered(
    folder: Path, tensors: Mapping[str, Promise], groups: Sequence[Sequence[str]]
) -> list[Path]:
    where: dict[str, str] = {}
    paths = []
    for i, names in enumerate(groups, start=1):
        path = folder / f"model-{i:05d}-of-{len(groups):05d}.safetensors"
        write_file(path, {k: tensors[k] for k in names}, {"format": "pt"})
        where |= dict.fromkeys(names, path.name)
        paths.append(path)
    total = sum(promise.nbytes for promise in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    text = json.dumps(index, indent=2, sort_keys=True)
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    return paths


def _bytes(promise: Promise) -> memoryview:
    tensor = promise.make().detach().to("cpu", promise.dtype).contiguous()
    if tuple(tensor.shape) != promise.shape:
        raise ValueError(f"{tuple(tensor.shape)} was made where {promise.shape} was promised")
    return tensor.reshape(-1).view(torch.uint8).numpy().data
