"""How the reference trained: which parameters decay, how its learning rate moves, what one of its steps does.

Knows numbers and names, no data and no loop. The one surprise: the schedule is the reference's with its defects (warm-up
counts inside the epoch and the cosine knows no warm-up, so the rate jumps where they meet); it is there for runs that must
repeat the published ones and for verifying recorded numbers (MODEL specification, section 9.4).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from NatureLM.models.keymap import published_of


@dataclass(frozen=True)
class PublishedSchedule:
    """The reference's learning rate.

    Attributes:
        max_epoch: Epochs.
        iters_per_epoch: Steps an epoch.
        warmup_steps: Steps of linear warm-up, counted anew in every epoch.
        init_lr: Rate after warm-up.
        min_lr: Rate at the end.
        warmup_start_lr: Rate at the first step; negative means ``init_lr``.
    """

    max_epoch: int
    iters_per_epoch: int
    warmup_steps: int
    init_lr: float
    min_lr: float
    warmup_start_lr: float = -1.0

    def rate(self, step: int) -> float:
        """Give the rate of a step, counted from 0 over all epochs."""
        start = self.init_lr if self.warmup_start_lr < 0 else self.warmup_start_lr
        if step < self.warmup_steps:
            inside = step % self.iters_per_epoch
            return start + (self.init_lr - start) * inside / max(self.warmup_steps, 1)
        total = self.max_epoch * self.iters_per_epoch
        return self.min_lr + 0.5 * (self.init_lr - self.min_lr) * (
            1 + math.cos(math.pi * step / total)
        )


def decays(published_name: str, parameter: Tensor) -> bool:
    """Tell whether the reference lets a parameter decay: not vectors, biases or normalisations, by name."""
    return parameter.ndim >= 2 and not any(s in published_name for s in ("bias", "ln", "bn"))


def groups(parameters: Iterable[tuple[str, Tensor]]) -> Mapping[str, list[str]]:
    """Sort parameters that train into the reference's two groups, by published name.

    Args:
        parameters: Our names and the parameters.
    """
    sorted_names: dict[str, list[str]] = {"decay": [], "no_decay": []}
    for name, parameter in parameters:
        if parameter.requires_grad:
            published = published_of(name)
            sorted_names["decay" if decays(published, parameter) else "no_decay"].append(published)
    return sorted_names


def optimizer(
    parameters: Iterable[tuple[str, Tensor]], rate: float, weight_decay: float, beta2: float = 0.999
) -> torch.optim.AdamW:
    """Make AdamW over the reference's two groups."""
    kept = [(published_of(n), p) for n, p in parameters if p.requires_grad]
    decaying = {"params": [p for n, p in kept if decays(n, p)], "weight_decay": weight_decay}
    rest = {"params": [p for n, p in kept if not decays(n, p)], "weight_decay": 0.0}
    return torch.optim.AdamW([decaying, rest], lr=rate, betas=(0.9, beta2))


def clip(parameters: Iterable[Tensor], norm: float | None, value: float | None) -> None:
    """Clip gradients as the reference does: by their common norm, then each by its value."""
    kept = [p for p in parameters if p.grad is not None]
    if norm is not None:
        torch.nn.utils.clip_grad_norm_(kept, norm)
    if value is not None:
        torch.nn.utils.clip_grad_value_(kept, value)
