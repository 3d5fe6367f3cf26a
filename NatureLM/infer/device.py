"""Which device the work runs on, and which model answers when nobody names one.

Every choice comes with its reason in words. The surprise: the network is asked only when a GPU has room for the published
model, so a laptop never waits for a connection it cannot use.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from NatureLM.errors import DeviceError

if TYPE_CHECKING:
    from NatureLM.models.model import NatureLM

DEVICES = ("auto", "cpu", "cuda", "mps")
PUBLISHED = "EarthSpeciesProject/NatureLM-audio"
BASE_LLM = "meta-llama/Llama-3.1-8B-Instruct"
POCKET = "pocket"
ROOM_BYTES = 20 * 10**9
"""What the published model needs on a GPU in bfloat16: 16.1 GB of LLM, 0.5 GB of audio parts, and room to work."""

_NEEDED = {
    PUBLISHED: ("config.json", "model.safetensors"),
    BASE_LLM: ("config.json", "model.safetensors.index.json"),
}
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelChoice:
    """A model and why it was taken.

    Attributes:
        name: What ``NatureLM.from_pretrained`` takes.
        reason: One sentence for the user.
        options: What else ``from_pretrained`` is told.
    """

    name: str
    reason: str
    options: Mapping[str, Any] = field(default_factory=dict)


def choose_device(asked: str = "auto") -> torch.device:
    """Return the device to work on.

    Args:
        asked: ``auto`` takes CUDA before MPS before the CPU; a device name is taken as it is, ``cuda:1`` too.

    Raises:
        DeviceError: There is no such device here.
    """
    if asked == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
        return torch.device(found)
    kind, _, number = asked.partition(":")
    if kind not in DEVICES[1:] or not (number.isdigit() or not number):
        raise DeviceError(f"device {asked!r}: unknown; choose one of {', '.join(DEVICES)}")
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(_has_mps())}
    if int(number or 0) >= counts[kind]:
        raise DeviceError(
            f"device {asked!r}: not here (torch {torch.__version__} sees "
            f"{counts['cuda']} CUDA devices); use --device auto or cpu"
        )
    return torch.device(asked)


def choose_model(device: torch.device) -> ModelChoice:
    """Choose the published model when the device has room for it and it is cached or reachable, else the pocket model."""
    free = _free_bytes(device)
    if free < ROOM_BYTES:
        room = f"has {free / 1e9:.0f} GB free" if free else "is no GPU"
        return ModelChoice(
            POCKET,
            f"the published model needs a GPU with {ROOM_BYTES / 1e9:.0f} GB, {device} {room}",
        )
    missing = [repo for repo in (PUBLISHED, BASE_LLM) if not _is_cached(repo)]
    if not missing:
        return ModelChoice(PUBLISHED, f"it is cached and {device} has {free / 1e9:.0f} GB free")
    if unreachable := next((repo for repo in missing if not _is_reachable(repo)), None):
        return ModelChoice(
            POCKET,
            f"{unreachable} is neither cached nor reachable (offline, or access not granted)",
        )
    return ModelChoice(PUBLISHED, f"it can be fetched and {device} has {free / 1e9:.0f} GB free")


def finished(
    model: NatureLM | None,
    cfg_path: str | Path | None,
    device: str,
    parity: Literal["default", "published"],
) -> tuple[NatureLM, ModelChoice]:
    """Return the model to work with, on its device, and why it is this one.

    Args:
        model: A finished model, or ``None``.
        cfg_path: A published YAML file, or ``None``.
        device: Where to; ``auto`` leaves a model that was passed in where it is.
        parity: ``published`` loads the reference's approximations along.
    """
    if model is not None:
        if device != "auto":
            model.to(choose_device(device))
        return model, ModelChoice(model.name, "it was passed in")
    place = choose_device(device)
    choice = choose_model(place) if cfg_path is None else _of_config(Path(cfg_path))
    _LOG.info("%s answers: %s", choice.name, choice.reason)
    return load_model(choice.name, place, parity=parity, **choice.options), choice


def load_model(name: str | Path, device: torch.device, **options: Any) -> NatureLM:
    """Load a model by name and put it on a device, in evaluation mode."""
    from NatureLM.models.model import NatureLM

    if name == POCKET or options.get("parity") == "default":
        options.pop("parity", None)
    dtype = {"dtype": torch.bfloat16} if name != POCKET and device.type == "cuda" else {}
    return NatureLM.from_pretrained(name, **(dtype | options)).to(device).eval()


def _of_config(path: Path) -> ModelChoice:
    """Choose the model that a published YAML file means."""
    from NatureLM.config import checkpoint_of, read_config

    name, options = checkpoint_of(read_config(path).model, path)
    return ModelChoice(name, f"{path} says so", options)


def _has_mps() -> bool:
    return bool(torch.backends.mps.is_available())


def _free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _is_cached(repo: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return all(isinstance(try_to_load_from_cache(repo, name), str) for name in _NEEDED[repo])


def _is_reachable(repo: str) -> bool:
    """Ask the hub whether the files may be fetched; a gated model counts only with access."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return False
    from huggingface_hub import auth_check

    try:
        auth_check(repo)
    except Exception as error:  # noqa: BLE001 - whatever stands in the way, the model cannot be had
        _LOG.info("%s cannot be fetched: %s", repo, error)
        return False
    return True
