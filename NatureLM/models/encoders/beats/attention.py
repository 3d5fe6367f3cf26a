"""Self-attention with a gated relative position bias, the part that makes BEATs BEATs.

Knows one layer's attention and the bias that all layers share; nothing of patches or residuals. The one surprise: the
bias is added after the keys are masked and is scaled by a gate that each query computes from itself (MODEL
specification, section 5; the gate is WavLM's, Chen et al. 2022), so it travels as the mask of the fused kernel.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from NatureLM.models.encoders.beats.shape import BEATsShape

GATE_UNITS = 8
"""Outputs of the gate's projection: two gates, each a sum of four."""


def relative_buckets(
    relative: Int[Tensor, "*any"], num_buckets: int, max_distance: int
) -> Int[Tensor, "*any"]:
    """Sort relative positions (key minus query) into T5's bidirectional buckets.

    Args:
        relative: Positions of keys as seen from queries.
        num_buckets: Buckets of both directions together.
        max_distance: Distance from which on the last bucket is shared.
    """
    half = num_buckets // 2
    exact = half // 2
    distance = relative.abs()
    ratio = torch.log(distance.clamp_min(1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (ratio * (half - exact)).long()).clamp_max(half - 1)
    return half * (relative > 0).long() + torch.where(distance < exact, distance, far)


class RelativePositionBias(nn.Embedding):
    """One learned bias per head and bucket, shared by all layers."""

    def __init__(self, shape: BEATsShape) -> None:
        super().__init__(shape.num_buckets, shape.encoder_attention_heads)
        self.max_distance = shape.max_distance

    def table(self, length: int) -> Float[Tensor, "heads length length"]:
        """Look the bias up for every pair of ``length`` positions: [head, query, key]."""
        position = torch.arange(length, device=self.weight.device)
        offsets = torch.arange(1 - length, length, device=self.weight.device)
        buckets = relative_buckets(offsets, self.num_embeddings, self.max_distance)
        by_offset = self(buckets).T
        return by_offset[:, position[None, :] - position[:, None] + length - 1]


class SelfAttention(nn.Module):
    """Multi-head self-attention whose position bias is gated by the query."""

    def __init__(self, shape: BEATsShape) -> None:
        super().__init__()
        width = shape.encoder_embed_dim
        self.heads = shape.encoder_attention_heads
        self.dropout = shape.attention_dropout
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.gated = shape.relative_position_embedding and shape.gru_rel_pos
        if self.gated:
            self.grep_linear = nn.Linear(width // self.heads, GATE_UNITS)
            self.grep_a = nn.Parameter(torch.ones(1, self.heads, 1, 1))

    def forward(
        self,
        x: Float[Tensor, "batch length width"],
        position_bias: Float[Tensor, "heads length length"] | None,
        padded: Bool[Tensor, "batch length"] | None,
    ) -> Float[Tensor, "batch length width"]:
        """Mix the positions of ``x``.

        Args:
            x: The input.
            position_bias: [head, query, key], before the gate.
            padded: True where a key must not be read; every row needs one that may.
        """
        q, k, v = (self._split(p(x)) for p in (self.q_proj, self.k_proj, self.v_proj))
        mask = self._mask(q, position_bias, padded)
        p = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def gate(
        self, query: Float[Tensor, "batch heads length head_width"]
    ) -> Float[Tensor, "batch heads length 1"]:
        """Compute each query's factor on its position bias, around 2 at initialisation minus a half."""
        halves = self.grep_linear(query).float().unflatten(-1, (2, GATE_UNITS // 2)).sum(-1)
        a, b = halves.sigmoid().chunk(2, dim=-1)
        return a * (b * self.grep_a - 1.0) + 2.0

    def _mask(
        self, q: Tensor, position_bias: Tensor | None, padded: Tensor | None
    ) -> Tensor | None:
        hidden = None if padded is None else padded[:, None, None, :]
        if position_bias is None:
            return None if hidden is None else ~hidden
        bias = self.gate(q) * position_bias if self.gated else position_bias[None]
        if hidden is not None:
            bias = bias.masked_fill(hidden, -torch.inf)
        return bias.to(q.dtype)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
