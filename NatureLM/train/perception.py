"""Stage 1 of the pocket model: the audio tokens learn to spell what is heard in the LLM's own embeddings, with no LLM in the loop.

Knows evidence, names and the bridge. The surprise: batches are made up on the device from a seed and the step's number, so there is no data to read and any step can be
made again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from safetensors.torch import load_file, save_file
from torch import Tensor

from NatureLM.data.evidence import PRESENT_LOGIT, Evidence, Synthesis, Synthesiser
from NatureLM.models.pocket.bridge import Bridge, BridgeShape
from NatureLM.train.loop import Run, Schedule
from NatureLM.train.prepared import FILLER, Prepared, Words
from NatureLM.train.recipe import PocketRecipe

FILLER_WEIGHT = 0.1
"""Weight of places behind a name's end, but for the first of them."""


def train_perception(
    recipe: PocketRecipe, prepared: Prepared, device: torch.device
) -> dict[str, Any]:
    """Run stage 1.

    Args:
        recipe: What to do.
        prepared: What was made before.
        device: Where.

    Returns:
        A summary of the run; ``bridge.safetensors`` and ``bridge.json`` are in the recipe's folder.
    """
    torch.manual_seed(recipe.seed)
    bank, words = prepared.bank.to(device), prepared.words.to(device)
    synthesis = Synthesis(**recipe.synthesis.model_dump())
    synthesise = Synthesiser(bank, prepared.sounds.to(device), synthesis)
    width = words.table.shape[1]
    bridge = Bridge(BridgeShape(**recipe.bridge.model_dump(), llm_width=width)).to(device)
    if recipe.bridge_from:
        bridge.load_state_dict(load_file(recipe.bridge_from))
    directions = bank.directions

    def step(number: int) -> dict[str, Tensor]:
        generator = torch.Generator(device).manual_seed(step_seed(recipe.seed, number))
        with torch.no_grad():
            evidence = synthesise(recipe.batch, generator)
            frames, counts = evidence.frames(directions)
            targets = spelling(evidence, words)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            tokens = bridge(frames, counts)[:, : targets.shape[1]]
            logits = F.linear(tokens, words.table)
        return spelling_loss(logits, targets, words.common.shape[1])

    schedule = Schedule(recipe.steps, recipe.minutes, recipe.warmup_steps, recipe.end_share)
    run = Run(
        Path(recipe.out), schedule, recipe.clip_norm, _saver(bridge, recipe), recipe.save_minutes
    )
    optimizer = torch.optim.AdamW(
        bridge.parameters(),
        recipe.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=recipe.weight_decay,
    )
    return run(optimizer, list(bridge.parameters()), step)


def step_seed(seed: int, number: int) -> int:
    """Mix a run's seed and a step's number."""
    return (seed * 1_000_003 + number) % (2**63)


def spelling(evidence: Evidence, words: Words) -> Tensor:
    """Say which words the audio tokens of each window should spell, (windows, places)."""
    classes, logits = evidence.strongest()
    none = len(words.common) - 1
    heard = torch.where(logits[:, :3] >= PRESENT_LOGIT, classes[:, :3], none)
    blank = torch.full_like(words.second[:1], FILLER)
    second = torch.cat([words.second[:-1], blank])  # no second class: nothing is spelt
    return torch.cat(
        [
            words.common[heard[:, 0]],
            words.scientific[heard[:, 0]],
            second[heard[:, 1]],
            second[heard[:, 2]],
        ],
        1,
    )


def spelling_loss(logits: Tensor, targets: Tensor, places: int) -> dict[str, Tensor]:
    """Weigh the places and count the names that are spelt without fault.

    Args:
        logits: (windows, places, words).
        targets: (windows, places).
        places: How many of them spell the strongest class's common name.
    """
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    before = F.pad(targets[:, :-1], (1, 0), value=FILLER)
    tail = (targets == FILLER) & (before == FILLER)
    weights = torch.where(tail, FILLER_WEIGHT, 1.0)
    right = logits.argmax(-1) == targets
    return {
        "loss": (losses * weights.flatten()).sum() / weights.sum(),
        "common": right[:, :places].all(1).float().mean(),
        "all": right.all(1).float().mean(),
    }


def _saver(bridge: Bridge, recipe: PocketRecipe) -> Any:
    def save(folder: Path, summary: dict[str, Any]) -> None:
        halves = {k: v.half().cpu().contiguous() for k, v in bridge.state_dict().items()}
        save_file(halves, folder / "bridge.safetensors")
        notes = {"shape": asdict(bridge.shape), "recipe": recipe.model_dump(), "summary": summary}
        (folder / "bridge.json").write_text(json.dumps(notes, indent=2), encoding="utf-8")

    return save
