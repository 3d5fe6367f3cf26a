"""A recipe: one YAML file that determines a training run, checked before anything starts.

Knows keys and types. The surprise: unknown keys are errors that name the nearest key, and ``key=value`` on the command line wins over the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from NatureLM.config import validated
from NatureLM.errors import ConfigError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SynthesisRecipe(_Strict):
    """How windows are made up; see ``data.evidence.Synthesis``."""

    lengths: tuple[float, ...] = (0.36, 0.12, 0.12, 0.3, 0.1)
    species: tuple[float, ...] = (0.1, 0.62, 0.2, 0.08)
    absent: float = 0.25
    logit_mean: float = 0.4
    logit_spread: float = 1.8
    swap: float = 0.7
    lift: float = 0.35
    noise: float = 0.27
    sounds: float = 0.04


class BridgeRecipe(_Strict):
    """Sizes of the bridge; see ``models.pocket.bridge.BridgeShape``."""

    width: int = 384
    heads: int = 6
    layers: int = 2
    feed_forward: int = 1536


class PocketRecipe(_Strict):
    """A stage of the pocket model's training.

    Attributes:
        stage: ``perception`` (the audio tokens spell names; no LLM) or ``generalisation`` (questions through the LLM).
        seed: Of everything that is drawn.
        steps: Optimiser steps.
        batch: Windows a step.
        learning_rate: Peak, of the bridge.
        lora_learning_rate: Peak, of the LoRA.
        end_share: What is left of the rates at the end of the cosine.
        warmup_steps: Linear warm-up.
        weight_decay: On matrices.
        clip_norm: Largest gradient norm.
        tokens: Length of a padded sequence, in generalisation.
        lora_rank: Rank of the LoRA on all linear layers.
        workers: Processes that make batches.
        minutes: Stop after so many minutes, whatever the steps; ``null`` for no limit.
        compile: Compile the LLM, on CUDA.
        prepared: Folder with what is made once before training; made from the cached parts when it is not there.
        llm: Folder of the unpacked LLM; the cache's when left out.
        bridge_from: Bridge to start from: a perception run's ``bridge.safetensors``.
        out: Folder of the run.
        save_minutes: Between two saves.
        synthesis: How windows are made up.
        bridge: Sizes.
    """

    stage: Literal["perception", "generalisation"]
    seed: int = 13
    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    lora_learning_rate: float = 1e-3
    end_share: float = 0.02
    warmup_steps: int = 200
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    tokens: int = 128
    lora_rank: int = 16
    workers: int = 0
    minutes: float | None = None
    compile: bool = False
    prepared: str = "runs/pocket_prepared"
    llm: str | None = None
    bridge_from: str | None = None
    out: str
    save_minutes: float = 1.0
    synthesis: SynthesisRecipe = SynthesisRecipe()
    bridge: BridgeRecipe = BridgeRecipe()


def find_recipe(name: str) -> Path:
    """Find a recipe file: a path, or the name of one that is shipped.

    Raises:
        ConfigError: There is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = Path(str(resources.files("NatureLM.recipes").joinpath(path.name)))
    if shipped.is_file():
        return shipped
    folder = Path(str(resources.files("NatureLM.recipes")))
    known = ", ".join(sorted(p.name for p in folder.glob("*.yaml")))
    raise ConfigError(f"{name}: no such recipe; shipped are {known}.")


def read_recipe(name: str, overrides: Sequence[str] = ()) -> PocketRecipe:
    """Read and check a recipe.

    Args:
        name: A path, or the name of a shipped recipe.
        overrides: ``key=value``, also ``section.key=value``; values are YAML.

    Raises:
        ConfigError: A key is unknown or a value has the wrong type.
    """
    path = find_recipe(name)
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no mapping of keys.")
    for override in overrides:
        _override(values, override)
    return validated(PocketRecipe, values, str(path))


def _override(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"override {override!r}: write key=value.")
    *sections, key = name.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[key] = yaml.safe_load(text)
