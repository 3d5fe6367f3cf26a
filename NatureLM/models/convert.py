"""From a pickle to safetensors: the one road by which training checkpoints and original encoders come in.

Knows the pickled forms of MODEL specification 3.4 (training checkpoint, folder form, original BEATs file); opens none of
them itself: a child process does (``unpickle.py``), and what it hands back are safetensors and JSON. The one surprise: a
training checkpoint's configuration is recovered too, so that what comes out loads without further files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from NatureLM.errors import CheckpointError
from NatureLM.models.keymap import canonical_name
from NatureLM.models.weight_file import open_weights, read_tensor

PICKLES = (".pt", ".pth", ".bin", ".ckpt")
_SCRIPT = str(Path(__file__).with_name("unpickle.py"))
_CHILD = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
"""Runs the script by itself: as a module it would import the models and take twice as long."""

BEATS_METADATA = "beats_cfg"
"""Metadata key under which a converted BEATs file carries its configuration."""


@dataclass(frozen=True)
class Pickled:
    """What a pickle held.

    Attributes:
        tensors: Name -> tensor.
        notes: ``config``, ``cfg`` and ``epoch`` as plain values, where present.
    """

    tensors: dict[str, Tensor]
    notes: dict[str, Any] = field(default_factory=dict)


def convert(source: Path, out: Path, config: Path | None = None) -> Path:
    """Convert a pickled checkpoint into a folder (or file, for an encoder alone) of safetensors.

    Args:
        source: A training checkpoint or original BEATs file (``.pt``, ``.pth``), or a folder with ``model_config.yaml``.
        out: Folder to make; for a BEATs file also a path that ends in ``.safetensors``.
        config: YAML with a ``model`` section, or a ``config.json``, to use instead of what the checkpoint holds.

    Returns:
        Where the result lies.

    Raises:
        CheckpointError: When the source is missing, damaged, unsafe or not one of these forms.
    """
    _refuse_to_overwrite(out)
    if source.is_dir():
        return _convert_folder(source, out, config)
    pickled = read_pickle(source)
    if "cfg" in pickled.notes:
        return _write_beats(pickled, out)
    given = _read_config(config) if config else _model_section(pickled.notes.get("config"))
    if not given:
        raise CheckpointError(
            f"{source}: holds no model configuration. Pass --config with the YAML file it was trained with."
        )
    return _write_model(pickled.tensors, given, out)


def read_pickle(source: Path) -> Pickled:
    """Let a child process take the tensors out of a pickle.

    Raises:
        CheckpointError: When the file is missing, damaged or names anything but plain values.
    """
    if not source.is_file():
        raise CheckpointError(f"{source}: there is no such file.")
    with tempfile.TemporaryDirectory() as folder:
        weights, notes = Path(folder, "w.safetensors"), Path(folder, "notes.json")
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, _SCRIPT, str(source), str(weights), str(notes)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            capture_output=True,
            text=True,
            check=False,
        )
        if child.returncode:
            reason = (child.stderr.strip() or "the reading process died").splitlines()[-1]
            raise CheckpointError(f"{source}: cannot be converted: {reason}.")
        found = open_weights(weights)
        tensors = {k: read_tensor(e) for k, e in found.entries.items()}
        tensors |= {dropped: tensors[kept] for dropped, kept in found.metadata.items()}
        return Pickled(tensors, json.loads(notes.read_text(encoding="utf-8")))


def without_aliases(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Keep one name of every tensor that has several.

    Returns:
        The tensors under their stored names, and dropped name -> kept name.

    Raises:
        CheckpointError: When two names of one tensor hold different values.
    """
    kept: dict[str, Tensor] = {}
    dropped: dict[str, str] = {}
    for name in sorted(tensors):
        stored = canonical_name(name)
        if stored in kept and not torch.equal(kept[stored], tensors[name]):
            raise CheckpointError(
                f"{name} and {stored} are two names of one tensor, but hold different values."
            )
        kept.setdefault(stored, tensors[name].contiguous())
        if name != stored:
            dropped[name] = stored
    return kept, dropped


def _refuse_to_overwrite(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out}: is there already and is not empty; choose a new name.")


@contextmanager
def fresh_folder(out: Path) -> Iterator[Path]:
    """Write into a temporary neighbour that takes ``out``'s place when all went well.

    Raises:
        CheckpointError: When something is there already.
    """
    _refuse_to_overwrite(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        written = Path(scratch, "done")
        written.mkdir()
        yield written
        written.replace(out)


def _convert_folder(source: Path, out: Path, config: Path | None) -> Path:
    settings = source / "model_config.yaml"
    if not settings.is_file() or not (source / "model.pt").is_file():
        raise CheckpointError(
            f"{source}: is no folder form; it needs model_config.yaml and model.pt."
        )
    tensors: dict[str, Tensor] = {}
    for name, prefix in (("beats.pt", "beats."), ("audio_llama_proj.pt", "audio_llama_proj.")):
        if (source / name).is_file():
            found = read_pickle(source / name).tensors
            tensors |= {prefix + k.removeprefix(prefix): v for k, v in found.items()}
    tensors |= _adapter(source / "llama")
    tensors |= read_pickle(source / "model.pt").tensors
    return _write_model(tensors, _read_config(config or settings), out)


def _adapter(folder: Path) -> dict[str, Tensor]:
    """Read a PEFT adapter; its names lack the adapter's own, ``default``."""
    if (folder / "adapter_model.safetensors").is_file():
        entries = open_weights(folder / "adapter_model.safetensors").entries
        tensors = {k: read_tensor(e) for k, e in entries.items()}
    elif (folder / "adapter_model.bin").is_file():
        tensors = read_pickle(folder / "adapter_model.bin").tensors
    else:
        return {}
    named = {k: v for k, v in tensors.items() if ".lora_" in k}
    return {f"llama_model.{_default(k)}": v for k, v in named.items()}


def _default(name: str) -> str:
    for half in ("lora_A", "lora_B"):
        name = name.replace(f".{half}.weight", f".{half}.default.weight")
    return name


def _read_config(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: cannot be read as YAML ({error}).") from error
    return _model_section(loaded)


def _model_section(loaded: Any) -> dict[str, Any]:
    if not isinstance(loaded, dict):
        return {}
    section = loaded.get("model", loaded)
    return dict(section) if isinstance(section, dict) else {}


def _write_model(tensors: Mapping[str, Tensor], config: Mapping[str, Any], out: Path) -> Path:
    kept, dropped = without_aliases(tensors)
    with fresh_folder(out) as folder:
        save_file(kept, folder / "model.safetensors", metadata={**dropped, "format": "pt"})
        text = json.dumps(dict(config), sort_keys=True, indent=2)
        (folder / "config.json").write_text(text, encoding="utf-8")
    return out


def _write_beats(pickled: Pickled, out: Path) -> Path:
    path = out if out.suffix == ".safetensors" else out / "beats.safetensors"
    named = {f"beats.{k.removeprefix('beats.')}": v for k, v in pickled.tensors.items()}
    kept, _ = without_aliases(named)
    path.parent.mkdir(parents=True, exist_ok=True)
    bare = {k.removeprefix("beats."): v for k, v in kept.items()}
    save_file(bare, path, metadata={BEATS_METADATA: json.dumps(pickled.notes["cfg"])})
    return path
