"""Stages of training: gradients of every parameter, the optimizer's groups and one step, the learning rate, and bfloat16.

Knows the model in evaluation mode, as the numbers were recorded (no dropout, no layerdrop). The one surprise: bfloat16 values
are compared by their spread around the float32 ones, since two correct implementations differ in every digit that is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from NatureLM.models.keymap import published_of
from NatureLM.models.published_training import PublishedSchedule, clip, groups, optimizer
from NatureLM.models.verify.golden import (
    LOSS_ATOL,
    NORM_RTOL,
    Check,
    Golden,
    compare,
    compare_exactly,
    compare_relative,
)
from NatureLM.models.verify.language import Speaker

RATE, WEIGHT_DECAY, MAX_NORM, MAX_VALUE = 1e-3, 0.05, 2.0, 1.0
"""The recorded step: AdamW at this rate, clipped by norm, then by value."""

TINY_NORM = 1e-6
"""Below this a gradient's norm is rounding noise and is compared absolutely."""

SPREAD = 2.0
"""How much wider than the reference's own the spread of bfloat16 may be."""


def check_schedule(golden: Golden) -> Iterator[Check]:
    """Learning rates of whole runs."""
    for number, case in enumerate(golden.misc.get("lr_schedule", [])):
        numbers: dict[str, Any] = {k: v for k, v in case.items() if k != "lr"}
        numbers |= {k: float(v) for k, v in numbers.items() if k.endswith("lr")}
        schedule = PublishedSchedule(**numbers)
        found = [schedule.rate(step) for step in range(len(case["lr"]))]
        yield compare(f"learning rates {number}", found, case["lr"], 1e-9)


def check_gradients(speaker: Speaker) -> Iterator[Check]:
    """Norm of the gradient of every parameter that trains, and which train without getting one."""
    recorded, model = speaker.golden.recorded, speaker.model
    found = groups(model.named_parameters())
    for name, names in recorded["optimizer_groups"].items():
        yield compare_exactly(f"optimizer group {name}", sorted(found[name]), sorted(names))
    model.zero_grad()
    out = model(speaker.batch())
    out.loss.backward()
    norms = {
        published_of(n): float(p.grad.norm())
        for n, p in model.named_parameters()
        if p.grad is not None
    }
    wanted: dict[str, float] = recorded["grad_norms"]
    yield compare_exactly("parameters with a gradient", sorted(norms), sorted(wanted))
    idle = [
        published_of(n) for n, p in model.named_parameters() if p.requires_grad and p.grad is None
    ]
    yield compare_exactly(
        "parameters without one", sorted(idle), sorted(recorded["no_grad_params"])
    )
    for name, norm in wanted.items():
        found_norm = norms.get(name, float("inf"))
        if norm < TINY_NORM:
            yield compare(f"gradient of {name}", found_norm, norm, TINY_NORM)
        else:
            yield compare_relative(f"gradient of {name}", found_norm, norm, NORM_RTOL)


def check_step(speaker: Speaker) -> Iterator[Check]:
    """The loss after one step of the optimizer, and after putting the weights back."""
    recorded, model = speaker.golden.recorded, speaker.model
    kept = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    model(speaker.batch()).loss.backward()
    clip(model.parameters(), MAX_NORM, MAX_VALUE)
    optimizer(model.named_parameters(), RATE, WEIGHT_DECAY).step()
    with torch.no_grad():
        after = model(speaker.batch()).loss
        for name, parameter in model.named_parameters():
            if name in kept:
                parameter.copy_(kept[name])
        restored = model(speaker.batch()).loss
    model.zero_grad()
    yield compare("loss after one step", after, recorded["loss_after_one_adamw_step"], LOSS_ATOL)
    yield compare("loss with the weights back", restored, recorded["loss_restored"], LOSS_ATOL)


@torch.no_grad()
def check_bfloat16(speaker: Speaker) -> Iterator[Check]:
    """Values under bfloat16 autocast, by their spread around float32."""
    golden, model = speaker.golden, speaker.model
    exact, rough = golden.tensors("model_fp32"), golden.tensors("model_bf16native")
    single = golden.waveform(golden.single_file)[None]
    with torch.autocast("cpu", torch.bfloat16):
        out = model(speaker.batch())
        tokens = model.encode(single, torch.tensor([single.shape[1]])).tokens
    real = exact["forward.attention_mask"].bool()
    logits = [
        t[real].float() for t in (out.logits, exact["forward.logits"], rough["forward.logits"])
    ]
    yield _within_spread("bfloat16: logits", *logits)
    native = golden.tensors("encode_single_bf16native")["audio_embeds"]
    yield _within_spread(
        "bfloat16: audio_embeds", tokens, golden.tensors("encode_single")["audio_embeds"], native
    )


def _within_spread(stage: str, found: Tensor, exact: Tensor, native: Tensor) -> Check:
    spread, ours = (float((t.float() - exact).square().mean().sqrt()) for t in (native, found))
    return Check(stage, ours, SPREAD * spread, f"root mean square; {spread:.2g} in the reference")
