"""Stage 2 of the pocket model: the LLM learns to answer questions from the audio tokens, by LoRA, while the bridge goes on learning.

Knows the LLM's insides as far as a loss needs them. The surprise: rows are padded on the right under causal attention, so no mask is needed, and logits are computed at the
answers' places only.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from NatureLM.data.evidence import Synthesis, Synthesiser
from NatureLM.data.examples import IGNORED, QuestionBatch, QuestionStream, Writer
from NatureLM.data.questions import Questioner
from NatureLM.errors import ConfigError
from NatureLM.models import lora
from NatureLM.models.llm import LLMS
from NatureLM.models.pocket.bridge import Bridge, BridgeShape
from NatureLM.prompts import TEMPLATES
from NatureLM.train.loop import Run, Schedule
from NatureLM.train.prepared import Prepared
from NatureLM.train.recipe import PocketRecipe

FAMILY = "smollm2"


class Answerer(nn.Module):
    """Bridge and LLM, as the loss sees them.

    Args:
        bridge: Evidence to audio tokens.
        llm: The LLM with its adapter.
    """

    def __init__(self, bridge: Bridge, llm: Any) -> None:
        super().__init__()
        self.bridge, self.llm = bridge, llm

    def forward(self, batch: QuestionBatch) -> dict[str, Tensor]:
        """Compute the loss over the answers' tokens, and the share of answers without fault."""
        base = lora.plain(self.llm)
        table = base.get_input_embeddings()
        audio = self.bridge(batch.frames, batch.counts)
        before = table(batch.before).expand(len(batch.after), -1, -1)
        inputs = torch.cat([before, audio.to(before.dtype), table(batch.after)], 1)
        hidden = base.model(inputs_embeds=inputs, use_cache=False).last_hidden_state
        ahead = before.shape[1] + audio.shape[1]
        told = hidden[:, ahead - 1 : -1]
        asked = batch.labels != IGNORED
        logits = base.lm_head(told[asked]).float()
        labels = batch.labels[asked]
        wrong = torch.zeros(asked.shape, dtype=torch.bool, device=asked.device)
        wrong[asked] = logits.argmax(-1) != labels
        return {
            "loss": F.cross_entropy(logits, labels),
            "exact": 1 - wrong.any(1).float().mean(),
        }


def train_generalisation(
    recipe: PocketRecipe, prepared: Prepared, language: tuple[Any, Any], device: torch.device
) -> dict[str, Any]:
    """Run stage 2.

    Args:
        recipe: What to do.
        prepared: What was made before.
        language: The LLM and its tokenizer.
        device: Where.

    Returns:
        A summary of the run; ``bridge.safetensors``, ``lora.safetensors`` and ``bridge.json`` are in the recipe's folder.

    Raises:
        ConfigError: No bridge is named to start from.
    """
    if not recipe.bridge_from:
        raise ConfigError(
            "bridge_from is missing: name the bridge.safetensors of a perception run."
        )
    torch.manual_seed(recipe.seed)
    llm, tokenizer = language
    answerer = _answerer(recipe, llm).to(device)
    compute = _compiled(answerer, recipe, device)
    batches = _batches(recipe, prepared, tokenizer, answerer.bridge.shape.slots.total)

    def step(_: int) -> dict[str, Tensor]:
        batch = _moved(next(batches), device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return compute(batch)

    groups: list[dict[str, Any]] = [
        {"params": list(answerer.bridge.parameters()), "lr": recipe.learning_rate},
        {"params": lora.trainable([answerer.llm]), "lr": recipe.lora_learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=recipe.weight_decay)
    schedule = Schedule(recipe.steps, recipe.minutes, recipe.warmup_steps, recipe.end_share)
    run = Run(
        Path(recipe.out), schedule, recipe.clip_norm, _saver(answerer, recipe), recipe.save_minutes
    )
    return run(optimizer, [p for g in groups for p in g["params"]], step)


def learned(answerer: Answerer) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Collect what was trained, in half precision: the bridge, and the LoRA by the LLM's plain names."""
    adapter = {}
    for name, module in lora.layers(lora.plain(answerer.llm)):
        adapter[f"{name}.A"] = module.lora_A[lora.ADAPTER].weight
        adapter[f"{name}.B"] = module.lora_B[lora.ADAPTER].weight
    return _half(answerer.bridge.state_dict()), _half(adapter)


def _half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().half().cpu().contiguous() for k, v in tensors.items()}


def _answerer(recipe: PocketRecipe, llm: Any) -> Answerer:
    width = llm.get_input_embeddings().weight.shape[1]
    bridge = Bridge(BridgeShape(**recipe.bridge.model_dump(), llm_width=width))
    bridge.load_state_dict(load_file(str(recipe.bridge_from)))
    llm.requires_grad_(False)
    shape = lora.LoRAShape(recipe.lora_rank, 2 * recipe.lora_rank, 0.0, LLMS[FAMILY].lora_targets)
    wrapped = lora.attach(llm, shape)
    for name, parameter in wrapped.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return Answerer(bridge, wrapped).train()


def _compiled(answerer: Answerer, recipe: PocketRecipe, device: torch.device) -> Any:
    base = lora.plain(answerer.llm)
    if device.type == "cuda":
        for name, parameter in answerer.llm.named_parameters():
            if "lora_" not in name:
                parameter.data = parameter.data.to(torch.bfloat16)
    if recipe.compile:
        base.model.compile(dynamic=False)
    return answerer


def _batches(recipe: PocketRecipe, prepared: Prepared, tokenizer: Any, audio_tokens: int) -> Any:
    template = TEMPLATES[LLMS[FAMILY].template]
    probe = Writer(tokenizer, template, 0)
    before, _, _ = probe.ids("?", "")
    writer = Writer(tokenizer, template, recipe.tokens - audio_tokens - len(before))
    synthesise = Synthesiser(
        prepared.bank, prepared.sounds, Synthesis(**recipe.synthesis.model_dump())
    )
    near = prepared.bank.neighbours.tolist()
    questioner = Questioner(prepared.taxonomy, near)
    stream = QuestionStream(synthesise, questioner, writer, size=recipe.batch, seed=recipe.seed)
    loader: DataLoader[QuestionBatch] = DataLoader(
        stream,
        batch_size=None,
        num_workers=recipe.workers,
        worker_init_fn=_one_thread,
        prefetch_factor=4 if recipe.workers else None,
    )
    return iter(loader)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def _moved(batch: QuestionBatch, device: torch.device) -> QuestionBatch:
    return QuestionBatch(*(t.to(device, non_blocking=True) for t in vars(batch).values()))


def _saver(answerer: Answerer, recipe: PocketRecipe) -> Any:
    def save(folder: Path, summary: dict[str, Any]) -> None:
        bridge, adapter = learned(answerer)
        save_file(bridge, folder / "bridge.safetensors")
        save_file(adapter, folder / "lora.safetensors")
        notes = {
            "shape": asdict(answerer.bridge.shape),
            "lora": {"rank": recipe.lora_rank, "alpha": 2 * recipe.lora_rank},
            "recipe": recipe.model_dump(),
            "summary": summary,
        }
        (folder / "bridge.json").write_text(json.dumps(notes, indent=2), encoding="utf-8")

    return save
