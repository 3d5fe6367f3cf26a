"""The pocket model put together: BirdNET's evidence, the bridge, SmolLM2 with LoRA, the grammar.

Knows which parts there are and where they lie. The surprise: a folder that ``naturelm train`` wrote has the same three files as the shipped bridge, so any run can be
asked questions by its folder.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from NatureLM.errors import CheckpointError, ConfigError, DownloadError
from NatureLM.models import gguf, lora, parts
from NatureLM.models.encoders.birdnet import BirdNET
from NatureLM.models.llm import LLMS
from NatureLM.models.model import NatureLM, Parts
from NatureLM.models.pocket.bridge import Bridge, BridgeShape
from NatureLM.models.pocket.hearing import PocketEncoder
from NatureLM.models.pocket.questions import PocketGrammar
from NatureLM.prompts import TEMPLATES
from NatureLM.taxonomy.names import load_taxonomy

FAMILY = "smollm2"
NAME = "pocket"
BRIDGE, ADAPTER, NOTES = "bridge.safetensors", "lora.safetensors", "bridge.json"
"""Files of a bridge: Q-Former and projector, LoRA, sizes and provenance."""
HUB_ONLY = frozenset(
    ("token", "cache_dir", "revision", "force_download", "parity", "llama_path", "sha256")
)
"""What is said about hub checkpoints and means nothing here."""


@dataclass(frozen=True)
class PocketConfig:
    """What a NatureLM wants to know of its configuration.

    Attributes:
        max_txt_len: Tokens of a reference answer at most, in training.
        end_sym: What ends an answer.
        notes: The bridge's sizes and provenance.
    """

    max_txt_len: int
    end_sym: str
    notes: dict[str, Any]


@dataclass(frozen=True)
class PocketOptions:
    """How the pocket model is loaded.

    Attributes:
        bridge: Folder of a bridge; the shipped one when left out.
        device: Where the model goes.
        dtype: Of the LLM.
        local_files_only: Take parts from the cache and never from the network.
    """

    bridge: str | Path | None = None
    device: torch.device | str = "cpu"
    dtype: torch.dtype | str | None = None
    local_files_only: bool = False

    @classmethod
    def of(cls, options: dict[str, Any]) -> PocketOptions:
        """Take what is about the pocket model.

        Raises:
            ConfigError: Nothing knows a name.
        """
        own = {k: v for k, v in options.items() if k in cls.__dataclass_fields__}
        unknown = set(options) - set(own) - HUB_ONLY
        if unknown:
            known = ", ".join(cls.__dataclass_fields__)
            raise ConfigError(
                f"from_pretrained: unknown argument {min(unknown)!r}; the pocket model takes {known}."
            )
        return cls(**own)

    @property
    def llm_dtype(self) -> torch.dtype:
        """Type of the LLM's weights; float32 unless asked for."""
        if self.dtype is None or self.dtype == "auto":
            return torch.float32
        return getattr(torch, self.dtype) if isinstance(self.dtype, str) else self.dtype


def assemble(options: PocketOptions) -> NatureLM:
    """Put the pocket model together.

    Args:
        options: How.

    Raises:
        CheckpointError: The bridge is damaged or not there.
        DownloadError: A part is not cached and could not be fetched.
    """
    folder = Path(options.bridge) if options.bridge else shipped_bridge()
    notes = read_notes(folder)
    bridge = Bridge(BridgeShape.of(notes["shape"]))
    bridge.load_state_dict(_floats(_read(folder / BRIDGE)))
    taxonomy = load_taxonomy(_part("birdnet-labels", options), _part("birdnames-ebird", options))
    llm, tokenizer = gguf.load_unpacked(_unpacked(options), options.llm_dtype)
    llm = _adapted(llm, _read(folder / ADAPTER), notes)
    made = Parts(
        PocketEncoder(BirdNET(_part("birdnet", options))),
        bridge.frame_norm,
        bridge.qformer,
        bridge.projector,
        llm,
        tokenizer,
        TEMPLATES[LLMS[FAMILY].template],
        PocketGrammar(taxonomy, tokenizer),
    )
    config = PocketConfig(notes["recipe"]["tokens"], gguf.END_OF_TURN, notes)
    model = NatureLM(made, config, NAME, revision_of(folder))
    return model.requires_grad_(False).to(options.device).eval()


def shipped_bridge() -> Path:
    """Return the folder of the bridge that comes with the package."""
    return Path(str(resources.files("NatureLM.models.pocket")))


def read_notes(folder: Path) -> dict[str, Any]:
    """Read a bridge's sizes and provenance.

    Raises:
        CheckpointError: They are not there or damaged.
    """
    path = folder / NOTES
    try:
        notes: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}); expected the folder of a bridge, as `naturelm train` writes it."
        ) from error
    return notes


def revision_of(folder: Path) -> str:
    """Name the weights of a bridge by their hash."""
    digest = hashlib.sha256()
    for name in (BRIDGE, ADAPTER):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:12]


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises its own kinds
        raise CheckpointError(f"{path}: cannot be read ({error}).") from error


def _floats(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in tensors.items()}


def _adapted(llm: Any, weights: dict[str, Tensor], notes: dict[str, Any]) -> Any:
    sizes = notes["lora"]
    shape = lora.LoRAShape(sizes["rank"], sizes["alpha"], 0.0, LLMS[FAMILY].lora_targets)
    wrapped = lora.attach(llm, shape)
    with torch.no_grad():
        for name, module in lora.layers(lora.plain(wrapped)):
            for side, target in (("A", module.lora_A), ("B", module.lora_B)):
                if f"{name}.{side}" not in weights:
                    raise CheckpointError(f"{ADAPTER}: lacks {name}.{side}.")
                target[lora.ADAPTER].weight.copy_(weights[f"{name}.{side}"])
    return wrapped


def _part(name: str, options: PocketOptions) -> Path:
    found = parts.cached(name)
    if found is None and options.local_files_only:
        raise DownloadError(f"{name} is not in the cache; run `naturelm models pull pocket` first.")
    return found or parts.fetch(name)


def _unpacked(options: PocketOptions) -> Path:
    folder = parts.unpacked_folder()
    if gguf.is_intact(folder):
        return folder
    return gguf.unpacked(_part("smollm2", options), folder)
