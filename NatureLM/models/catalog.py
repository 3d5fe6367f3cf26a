"""The models that are known by name: what each is, how big, under which licence, what it needs and what of it is here.

Knows files and sizes, loads no weights and needs no torch. The surprise: the pocket model's revision is the hash of the bridge that
this project trained, since its other parts are pinned by hash in ``parts.py`` anyway.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from NatureLM.errors import ConfigError
from NatureLM.models import parts

BRIDGE = (
    Path(__file__).parent / "pocket" / "bridge.safetensors",
    Path(__file__).parent / "pocket" / "lora.safetensors",
)
"""The pocket model's own weights, shipped with the package: Q-Former and projector, adapter of the LLM."""
REVISION_DIGITS = 12


@dataclass(frozen=True)
class ModelEntry:
    """A model that is known by name.

    Attributes:
        name: What the user calls it.
        source: What ``NatureLM.from_pretrained`` takes.
        summary: One line.
        size_bytes: Of the files that are fetched.
        licence: Of the whole.
        needs: What the machine must have.
        repositories: On the model hub, with the files that tell whether they are cached.
    """

    name: str
    source: str
    summary: str
    size_bytes: int
    licence: str
    needs: str
    repositories: tuple[tuple[str, str], ...] = ()


MODELS: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        ModelEntry(
            name="pocket",
            source="pocket",
            summary="compact, offline: BirdNET V2.4 hears, SmolLM2-135M answers, this project's bridge between them",
            size_bytes=sum(parts.PARTS[name].member.size_bytes for name in parts.POCKET),
            licence="CC BY-NC-SA 4.0",
            needs="a CPU, 2 GB of memory, 0.5 GB of disk; no account",
        ),
        ModelEntry(
            name="NatureLM-audio",
            source="EarthSpeciesProject/NatureLM-audio",
            summary="the published 8-billion-parameter model: BEATs hears, Llama-3.1-8B-Instruct answers",
            size_bytes=16_600_000_000,
            licence="CC BY-NC-SA 4.0 and the Llama 3.1 Community License",
            needs="a GPU with 20 GB free, 18 GB of disk, a hub account with access to both repositories",
            repositories=(
                ("EarthSpeciesProject/NatureLM-audio", "model.safetensors"),
                ("meta-llama/Llama-3.1-8B-Instruct", "model.safetensors.index.json"),
            ),
        ),
    )
}
"""Every model by name."""


def entry_named(name: str) -> ModelEntry:
    """Look a model up by its name or its source, minding no case.

    Raises:
        ConfigError: No such model is known.
    """
    for entry in MODELS.values():
        if name.casefold() in (entry.name.casefold(), entry.source.casefold()):
            return entry
    raise ConfigError(
        f"model {name!r}: unknown; known are {', '.join(MODELS)}, and any hub name (owner/name) or folder "
        "with a checkpoint can be passed to --model."
    )


def revision(name: str) -> str:
    """Return which weights a model has here; empty while it has none.

    Args:
        name: The model.
    """
    entry = entry_named(name)
    if not entry.repositories:
        return bridge_revision()
    found = _hub_file(*entry.repositories[0])
    return found.parent.name[:REVISION_DIGITS] if found else ""


def bridge_revision() -> str:
    """Return the first digits of the bridge's hash; empty when the package has no bridge."""
    try:
        times = tuple(path.stat().st_mtime_ns for path in BRIDGE)
    except OSError:
        return ""
    return _digits(BRIDGE, times)


def missing(name: str) -> tuple[str, ...]:
    """List what a model lacks on this machine, in the user's words; empty when it can be used."""
    entry = entry_named(name)
    if entry.repositories:
        return tuple(repo for repo, file in entry.repositories if _hub_file(repo, file) is None)
    lacking = [path.name for path in BRIDGE if not path.is_file()]
    return (*lacking, *(part for part in parts.POCKET if parts.cached(part) is None))


def absent_bridge() -> str:
    """Say what to do about a package without the pocket model's own weights; empty when they are there."""
    lacking = [str(path) for path in BRIDGE if not path.is_file()]
    if not lacking:
        return ""
    return (
        f"{', '.join(lacking)}: not there, so pocket cannot answer; its other parts are not concerned. Install a release "
        "of this package, or train the bridge with `naturelm train` (recipes pocket_stage1 and pocket_stage2)."
    )


@lru_cache(maxsize=4)
def _digits(paths: tuple[Path, ...], _times: tuple[int, ...]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:REVISION_DIGITS]


def _hub_file(repository: str, file: str) -> Path | None:
    """Find a file in the hub's cache without importing the hub's client."""
    folder = _hub_cache() / f"models--{repository.replace('/', '--')}"
    try:
        commit = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except OSError:
        return None
    found = folder / "snapshots" / commit / file
    return found if found.is_file() else None


def _hub_cache() -> Path:
    """Return the hub's cache as its client finds it."""
    environment = os.environ.get
    home = environment("HF_HOME") or Path(
        environment("XDG_CACHE_HOME") or "~/.cache", "huggingface"
    )
    named = environment("HF_HUB_CACHE") or environment("HUGGINGFACE_HUB_CACHE")
    return Path(named or Path(home, "hub")).expanduser()
