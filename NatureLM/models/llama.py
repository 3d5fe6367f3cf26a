"""Llama's forward pass with fused weights and a cache of fixed slots: what batched answering runs on.

Takes the weights of a finished transformers Llama (LoRA folded in beforehand), knows nothing of audio, prompts or strategies.
The surprise: prompts are padded on the right. Attention is causal, so a row never sees its own padding, every row starts at
position 0, and the fast attention kernels need no mask (Touvron et al. 2023; Ainslie et al. 2023 for grouped queries).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class LlamaShape:
    """Sizes that the forward pass needs.

    Attributes:
        layers: Number of layers.
        heads: Query heads.
        groups: Key and value heads.
        head_width: Width of one head.
        norm_eps: Epsilon of every RMSNorm.
    """

    layers: int
    heads: int
    groups: int
    head_width: int
    norm_eps: float


@dataclass(frozen=True)
class _Layer:
    """One layer's weights: query, key and value in one matrix, gate and up in another."""

    norm_in: Tensor
    qkv: Tensor
    out: Tensor
    norm_mid: Tensor
    gate_up: Tensor
    down: Tensor


class SlotCache:
    """Keys and values of a fixed number of rows, each with its own length.

    Attributes:
        keys: (layers, slots, groups, capacity, head_width).
        values: Same shape.
        lengths: Tokens held by each slot, (slots,).
    """

    def __init__(self, shape: LlamaShape, slots: int, capacity: int, like: Tensor) -> None:
        sizes = (shape.layers, slots, shape.groups, capacity, shape.head_width)
        self.keys, self.values = like.new_zeros(sizes), like.new_zeros(sizes)
        self.lengths = torch.zeros(slots, dtype=torch.long, device=like.device)

    @property
    def capacity(self) -> int:
        """Tokens that a slot can hold."""
        return self.keys.shape[3]

    def copy_rows(self, source: SlotCache, rows: Tensor, slots: Tensor) -> None:
        """Copy ``rows`` of another cache into ``slots`` of this one."""
        width = min(self.capacity, source.capacity)
        self.keys[:, slots, :, :width] = source.keys[:, rows, :, :width]
        self.values[:, slots, :, :width] = source.values[:, rows, :, :width]
        self.lengths[slots] = source.lengths[rows]


class Llama:
    """Run a Llama on embeddings or on one new token a slot.

    Args:
        llm: A ``LlamaForCausalLM`` without adapters; its weights are shared where layout allows.
    """

    def __init__(self, llm: Any) -> None:
        config, body = llm.config, llm.model
        width = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        self.shape = LlamaShape(
            config.num_hidden_layers,
            config.num_attention_heads,
            config.num_key_value_heads,
            width,
            config.rms_norm_eps,
        )
        self.embedding: Tensor = body.embed_tokens.weight.detach()
        self.head: Tensor = llm.lm_head.weight.detach()
        self.norm: Tensor = body.norm.weight.detach()
        self._layers = tuple(_fused_layers(body.layers))
        self._pointwise = _Pointwise.on(self.embedding.device)
        self._inverse_frequencies: Tensor = body.rotary_emb.inv_freq.detach().float()
        self._rope_scale = float(body.rotary_emb.attention_scaling)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.device

    def cache(self, slots: int, capacity: int) -> SlotCache:
        """Make room for ``slots`` rows of at most ``capacity`` tokens."""
        return SlotCache(self.shape, slots, capacity, self.embedding)

    def prefill(
        self,
        embeds: Float[Tensor, "rows tokens width"],
        cache: SlotCache,
        lengths: Int[Tensor, rows],
    ) -> Float[Tensor, "rows vocabulary"]:
        """Read prompts into an empty cache of as many slots; return the logits after each row's last token.

        Args:
            embeds: Prompts, padded on the right.
            cache: A cache with one slot a row.
            lengths: True tokens a row, at least 1.
        """
        positions = torch.arange(embeds.shape[1], device=embeds.device).expand(embeds.shape[:2])
        hidden = self._run(embeds, positions, _Prompt(cache))
        cache.lengths.copy_(lengths)
        last = hidden[torch.arange(len(lengths), device=hidden.device), lengths - 1]
        return F.linear(last, self.head)

    def extend(
        self,
        embeds: Float[Tensor, "slots tokens width"],
        cache: SlotCache,
        depths: Int[Tensor, "slots tokens"] | None = None,
        sees: Bool[Tensor, "slots tokens tokens"] | None = None,
    ) -> Float[Tensor, "slots tokens width"]:
        """Read further tokens behind what each slot holds; return their final hidden states.

        Args:
            embeds: Tokens of each slot, padded on the right.
            cache: The cache; its lengths are not moved on, so that a caller may take the tokens back or accept them.
            depths: Place of each token behind the slot's end; 0, 1, 2, ... when left out.
            sees: Which new token sees which; causal when left out. A tree of options sets it to "my ancestors and I".
        """
        slots, tokens = embeds.shape[:2]
        if depths is None:
            depths = torch.arange(tokens, device=embeds.device).expand(slots, tokens)
        if sees is None:
            sees = torch.ones(tokens, tokens, dtype=torch.bool, device=embeds.device).tril()
            sees = sees.expand(slots, tokens, tokens)
        return self._run(embeds, cache.lengths[:, None] + depths, _Extension(cache, sees))

    def step(
        self, tokens: Int[Tensor, slots], cache: SlotCache
    ) -> Float[Tensor, "slots vocabulary"]:
        """Read one token a slot, move every slot's length on by one and return the next logits."""
        embeds = self.embed(tokens)[:, None]
        hidden = self._run(embeds, cache.lengths[:, None], _Step(cache))
        cache.lengths += 1
        return F.linear(hidden[:, 0], self.head)

    def embed(self, tokens: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows width"]:
        """Look tokens up in the input embedding."""
        return F.embedding(tokens, self.embedding)

    def logits(self, hidden: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows vocabulary"]:
        """Turn final hidden states into logits."""
        return F.linear(hidden, self.head)

    def _run(self, hidden: Tensor, positions: Tensor, attention: _Attention) -> Tensor:
        cos, sin = self._rotation(positions, hidden.dtype)
        eps, point = self.shape.norm_eps, self._pointwise
        normed = point.rms(hidden, self._layers[0].norm_in, eps)
        following = [layer.norm_in for layer in self._layers[1:]] + [self.norm]
        for index, (layer, norm_next) in enumerate(zip(self._layers, following, strict=True)):
            q, k, v = self._split(F.linear(normed, layer.qkv))
            mixed = attention(index, point.rotate(q, cos, sin), point.rotate(k, cos, sin), v)
            delta = F.linear(mixed.transpose(1, 2).flatten(2), layer.out)
            hidden, normed = point.add_rms(hidden, delta, layer.norm_mid, eps)
            delta = F.linear(point.swiglu(F.linear(normed, layer.gate_up)), layer.down)
            hidden, normed = point.add_rms(hidden, delta, norm_next, eps)
        return normed

    def _split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heads = qkv.unflatten(-1, (-1, self.shape.head_width)).transpose(1, 2)
        sizes = (self.shape.heads, self.shape.groups, self.shape.groups)
        q, k, v = heads.split(sizes, 1)
        return q, k, v

    def _rotation(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        angles = positions[..., None].float() * self._inverse_frequencies
        angles = torch.cat((angles, angles), -1)[:, None]
        return (
            (angles.cos() * self._rope_scale).to(dtype),
            (angles.sin() * self._rope_scale).to(dtype),
        )


class _Attention(Protocol):
    """Write a layer's new keys and values, then attend; the result is shaped like ``q``."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...


class _Prompt:
    """Whole prompts into empty slots: causal, no mask."""

    def __init__(self, cache: SlotCache) -> None:
        self.cache = cache

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        tokens = q.shape[2]
        self.cache.keys[layer, :, :, :tokens] = k
        self.cache.values[layer, :, :, :tokens] = v
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


class _Extension:
    """Several tokens behind what each slot holds."""

    def __init__(self, cache: SlotCache, sees: Tensor) -> None:
        self.cache = cache
        slots, tokens = sees.shape[:2]
        index = torch.arange(cache.capacity, device=sees.device)
        held = index[None, None] < cache.lengths[:, None, None]
        self._places = cache.lengths[:, None] + torch.arange(tokens, device=sees.device)
        self._mask = held.expand(slots, tokens, -1).clone()
        self._mask.scatter_(2, self._places[:, None].expand(-1, tokens, -1), sees)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        places = self._places[:, None, :, None].expand(-1, k.shape[1], -1, k.shape[3])
        self.cache.keys[layer].scatter_(2, places, k)
        self.cache.values[layer].scatter_(2, places, v)
        return _grouped(q, self.cache.keys[layer], self.cache.values[layer], self._mask)


class _Step:
    """One token a slot: the query heads of a group stand in for query positions, so keys are read once."""

    def __init__(self, cache: SlotCache) -> None:
        self.cache = cache
        index = torch.arange(cache.capacity, device=cache.lengths.device)
        self._mask = (index[None] <= cache.lengths[:, None])[:, None]
        self._rows = torch.arange(len(cache.lengths), device=cache.lengths.device)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.cache.keys[layer][self._rows, :, self.cache.lengths] = k[:, :, 0]
        self.cache.values[layer][self._rows, :, self.cache.lengths] = v[:, :, 0]
        return _grouped(q, self.cache.keys[layer], self.cache.values[layer], self._mask)


def _grouped(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Attend without repeating keys: (slots, heads, tokens, w) as (slots, groups, heads/groups * tokens, w)."""
    slots, heads, tokens, width = q.shape
    share = heads // keys.shape[1]
    folded = q.reshape(slots, keys.shape[1], share * tokens, width)
    keep = mask[:, None, None].expand(-1, -1, share, -1, -1).flatten(2, 3)
    mixed = F.scaled_dot_product_attention(folded, keys, values, attn_mask=keep)
    return mixed.reshape(slots, heads, tokens, width)


def _rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


def _add_rms(x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    total = x + delta
    return total, _rms(total, weight, eps)


def _swiglu(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


@dataclass(frozen=True)
class _Pointwise:
    """What stands between the matrix products; on CUDA each is compiled into one pass over memory."""

    rms: Callable[..., Tensor] = _rms
    add_rms: Callable[..., tuple[Tensor, Tensor]] = _add_rms
    swiglu: Callable[..., Tensor] = _swiglu
    rotate: Callable[..., Tensor] = _rotate

    @classmethod
    def on(cls, device: torch.device) -> _Pointwise:
        """Choose for a device."""
        if device.type != "cuda":
            return cls()
        plain = (_rms, _add_rms, _swiglu, _rotate)
        fused: Any = [torch.compile(f, dynamic=True, fullgraph=True) for f in plain]
        return cls(*fused)


def _fused_layers(layers: Any) -> Iterator[_Layer]:
    for layer in layers:
        attention, mlp = layer.self_attn, layer.mlp
        qkv = (attention.q_proj, attention.k_proj, attention.v_proj)
        yield _Layer(
            layer.input_layernorm.weight.detach(),
            _side_by_side(*qkv),
            attention.o_proj.weight.detach(),
            layer.post_attention_layernorm.weight.detach(),
            _side_by_side(mlp.gate_proj, mlp.up_proj),
            mlp.down_proj.weight.detach(),
        )


@torch.inference_mode(mode=False)
@torch.no_grad()
def _side_by_side(*parts: Any) -> Tensor:
    """Lay weights out as one matrix; the parts become views of it, so that no weight is held twice."""
    fused = torch.cat([part.weight.detach() for part in parts])
    sizes = [len(part.weight) for part in parts]
    for part, rows in zip(parts, fused.split(sizes), strict=True):
        part.weight.data = rows
    return fused
