"""The child process that takes the tensors out of a pickle: ``python unpickle.py SOURCE WEIGHTS NOTES``.

Knows torch's restricted unpickler (``weights_only=True``) and nothing of models. The one surprise: configuration objects in
a training checkpoint are read without their classes. Each becomes an inert record that remembers its fields and runs no
code, and only for the packages listed here; a file that names anything else is refused. Nothing else in the package opens
a pickle.
"""

from __future__ import annotations

import json
import pickle
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

RECORDABLE = ("NatureLM", "argparse", "enum", "numpy", "omegaconf", "pathlib", "pydantic")
"""Packages whose objects may appear beside the tensors; they are recorded, never built."""

REFUSED = 3


class Record:
    """Stands for an object of another class: its path, its arguments and its fields.

    Attributes:
        path: Full name of the class it stands for.
    """

    path = ""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


def load(source: Path) -> Any:
    """Unpickle tensors and plain values; everything else becomes a ``Record``.

    Raises:
        pickle.UnpicklingError: When the file names something that is no plain value, or is damaged.
    """
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(source)
    except ValueError:  # the format of torch before 1.6: plain values only
        named = []
    strange = sorted(n for n in named if n.split(".")[0] not in RECORDABLE)
    if strange:
        raise pickle.UnpicklingError(
            f"it names {', '.join(strange[:3])}, which no checkpoint of this model needs; refused"
        )
    stands_for = [(type(n.split(".")[-1], (Record,), {"path": n}), n) for n in named]
    with torch.serialization.safe_globals(list(stands_for)), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # about unusual pickle protocols; what cannot be read fails below
        return torch.load(source, map_location="cpu", weights_only=True)


def plain(value: object) -> Any:
    """Reduce a value to what JSON holds: records become their fields, paths and enums their value."""
    if isinstance(value, Record):
        return _plain_record(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else None


def tensors_of(loaded: object) -> dict[str, Tensor]:
    """Find the state dict: under ``model``, or else the whole file."""
    inner = loaded.get("model", loaded) if isinstance(loaded, Mapping) else {}
    inner = inner if isinstance(inner, Mapping) else {}
    return {str(k): v.detach() for k, v in inner.items() if isinstance(v, Tensor)}


def shared(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """List pairs (name to drop, name to keep) of names that share one tensor."""
    first: dict[tuple[object, ...], str] = {}
    for name in sorted(tensors):
        t = tensors[name]
        place = (t.untyped_storage().data_ptr(), t.storage_offset(), t.shape, t.stride(), t.dtype)
        if t.numel() and place in first:
            yield name, first[place]
        first.setdefault(place, name)


def main(source: str, weights: str, notes: str) -> int:
    """Read ``source``; write its tensors to ``weights`` and the rest, as JSON, to ``notes``."""
    try:
        loaded = load(Path(source))
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        print(str(error).splitlines()[0] if str(error) else repr(error), file=sys.stderr)  # noqa: T201 - to the parent
        return REFUSED
    tensors = tensors_of(loaded)
    dropped = dict(shared(tensors))
    kept = {k: v.contiguous().clone() for k, v in tensors.items() if k not in dropped}
    save_file(kept, weights, metadata=dropped)
    rest = {k: plain(loaded[k]) for k in ("config", "cfg", "epoch") if k in loaded}
    Path(notes).write_text(json.dumps(rest, default=str), encoding="utf-8")
    return 0


def _plain_record(record: Record) -> Any:
    if record.path.startswith("pathlib."):
        return str(Path(*[str(part) for part in record.arguments]))
    state = record.state
    if isinstance(state, tuple):  # objects with __slots__: (fields, slots)
        state = next((part for part in state if part), None)
    if isinstance(state, Mapping):
        fields = state.get("__dict__", state)
        return plain(fields)
    return plain(record.arguments[0]) if len(record.arguments) == 1 else None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
