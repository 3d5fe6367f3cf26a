"""LoRA on the LLM: attach, scale by the merging alpha, fold in, list what trains. The only importer of peft.

The surprise: the merging alpha is an argument of a call. ``scaled`` sets it for a block and always puts back what was there
(Hu et al. 2021; merging alpha: arXiv 2511.05171, weights W0 + alpha * dW).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from NatureLM.errors import ConfigError

ADAPTER = "default"


@dataclass(frozen=True)
class LoRAShape:
    """Sizes of an adapter.

    Attributes:
        rank: Inner width.
        alpha: Scale times rank.
        dropout: On the adapter's input, in training.
        targets: Names of the linear layers that get one.
    """

    rank: int = 32
    alpha: int = 32
    dropout: float = 0.1
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")


def attach(llm: nn.Module, shape: LoRAShape) -> Any:
    """Wrap an LLM with a fresh adapter, which changes nothing until it is trained or loaded."""
    config = LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,
        lora_dropout=shape.dropout,
        target_modules=list(shape.targets),
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(llm, config, autocast_adapter_dtype=False)


def layers(llm: nn.Module) -> Iterator[tuple[str, Any]]:
    """Walk the layers that have an adapter."""
    for name, module in llm.named_modules():
        if isinstance(module, LoraLayer) and ADAPTER in module.lora_A:
            yield name, module


@contextmanager
def scaled(llm: nn.Module, alpha: float) -> Iterator[None]:
    """Scale the adapter by ``alpha`` inside the block.

    Raises:
        ConfigError: ``alpha`` is not in [0, 1].
    """
    check_alpha(alpha)
    kept = [(module, module.scaling[ADAPTER]) for _, module in layers(llm)]
    try:
        for module, scaling in kept:
            module.scaling[ADAPTER] = scaling * alpha
        yield
    finally:
        for module, scaling in kept:
            module.scaling[ADAPTER] = scaling


def check_alpha(alpha: float) -> None:
    """Refuse a merging alpha outside [0, 1].

    Raises:
        ConfigError: It is.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(
            f"the merging alpha is {alpha}; it lies between 0 (base LLM) and 1 (fine-tuned)."
        )


def plain(llm: Any) -> Any:
    """Return the LLM inside the adapter's wrapping, or the LLM itself when there is none."""
    return llm.get_base_model() if hasattr(llm, "get_base_model") else llm


def delta(module: Any) -> Tensor:
    """Compute one layer's change of its weight at alpha 1, (out, in), in float32."""
    a, b = module.lora_A[ADAPTER].weight, module.lora_B[ADAPTER].weight
    return module.scaling[ADAPTER] * (b.float() @ a.float())


@torch.no_grad()
def merged(llm: Any, alpha: float = 1.0) -> Any:
    """Copy the LLM with its adapter folded in at ``alpha``; the copy knows nothing of adapters.

    Tensors without an adapter are shared with the original.
    """
    check_alpha(alpha)
    base = plain(llm)
    folded = {}
    for _, module in layers(base):
        weight = module.base_layer.weight
        change = (weight.float() + alpha * delta(module)).to(weight.dtype) if alpha else weight
        folded[id(module)] = _linear(change.detach(), module.base_layer.bias)
    shared = {id(t): t for t in (*base.parameters(), *base.buffers())}
    return deepcopy(base, {**shared, **folded})


def trainable(modules: Sequence[nn.Module]) -> list[Tensor]:
    """List the parameters that want a gradient."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear
