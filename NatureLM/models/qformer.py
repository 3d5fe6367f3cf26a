"""Window-level Q-Former: spans of encoder frames in, a few audio tokens a span out.

The layers are BERT's with cross-attention in every layer and no text branch (MODEL specification, section 6; Li et al. 2023,
BLIP-2; Tang et al. 2024, SALMONN). Knows nothing of encoders or LLMs. The one surprise: a span of ``None`` frames means
the whole window is one span, which is how the pocket model reads its evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True)
class QFormerShape:
    """Sizes of a Q-Former.

    Attributes:
        width: Width of the queries and of the output.
        heads: Attention heads.
        layers: Number of layers.
        feed_forward: Inner width of the feed-forward part.
        frame_width: Width of the frames that are read.
        queries: Learned queries a span.
        span_frames: Frames a span; ``None`` for the whole window.
        stride_frames: Frames between span starts; equals ``span_frames`` when left out.
        dropout: Dropout probability in training.
        layer_norm_eps: Epsilon of every LayerNorm (BERT's 1e-12).
    """

    width: int = 768
    heads: int = 12
    layers: int = 2
    feed_forward: int = 3072
    frame_width: int = 768
    queries: int = 1
    span_frames: int | None = 17
    stride_frames: int | None = None
    dropout: float = 0.1
    layer_norm_eps: float = 1e-12


class _Attention(nn.Module):
    """Multi-head attention with BERT's residual LayerNorm after the output projection."""

    def __init__(self, shape: QFormerShape, source_width: int) -> None:
        super().__init__()
        self.heads = shape.heads
        self.query = nn.Linear(shape.width, shape.width)
        self.key = nn.Linear(source_width, shape.width)
        self.value = nn.Linear(source_width, shape.width)
        self.output = nn.Linear(shape.width, shape.width)
        self.norm = nn.LayerNorm(shape.width, eps=shape.layer_norm_eps)
        self.dropout = shape.dropout

    def forward(
        self,
        hidden: Float[Tensor, "batch queries width"],
        source: Float[Tensor, "batch keys source_width"],
        mask: Bool[Tensor, "batch keys"] | None = None,
    ) -> Float[Tensor, "batch queries width"]:
        """Let ``hidden`` read ``source`` where ``mask`` is true."""
        q, k, v = (
            self._split(t) for t in (self.query(hidden), self.key(source), self.value(source))
        )
        keep = None if mask is None else mask[:, None, None, :]
        p = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keep, dropout_p=p)
        out = self.output(mixed.transpose(1, 2).flatten(2))
        return self.norm(F.dropout(out, self.dropout, self.training) + hidden)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class _Layer(nn.Module):
    """Self-attention of the queries, cross-attention to the frames, feed-forward."""

    def __init__(self, shape: QFormerShape) -> None:
        super().__init__()
        self.attention = _Attention(shape, shape.width)
        self.crossattention = _Attention(shape, shape.frame_width)
        self.intermediate = nn.Linear(shape.width, shape.feed_forward)
        self.output = nn.Linear(shape.feed_forward, shape.width)
        self.norm = nn.LayerNorm(shape.width, eps=shape.layer_norm_eps)
        self.dropout = shape.dropout

    def forward(
        self,
        hidden: Float[Tensor, "batch queries width"],
        frames: Float[Tensor, "batch frames frame_width"],
        mask: Bool[Tensor, "batch frames"] | None,
    ) -> Float[Tensor, "batch queries width"]:
        """Run one layer."""
        hidden = self.attention(hidden, hidden)
        hidden = self.crossattention(hidden, frames, mask)
        inner = self.output(F.gelu(self.intermediate(hidden)))
        return self.norm(F.dropout(inner, self.dropout, self.training) + hidden)


class QFormer(nn.Module):
    """Ask learned queries of every span of frames.

    Attributes:
        shape: The sizes it was built with.
        query_tokens: The learned queries, (1, queries, width).
    """

    def __init__(self, shape: QFormerShape) -> None:
        super().__init__()
        self.shape = shape
        self.query_tokens = nn.Parameter(torch.empty(1, shape.queries, shape.width))
        self.norm = nn.LayerNorm(shape.width, eps=shape.layer_norm_eps)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        nn.init.normal_(self.query_tokens, std=0.02)

    def forward(
        self,
        frames: Float[Tensor, "batch frames frame_width"],
        mask: Bool[Tensor, "batch frames"] | None = None,
    ) -> Float[Tensor, "batch audio_tokens width"]:
        """Turn frames into audio tokens, span by span in order.

        Args:
            frames: Encoder frames; trailing frames that fill no span are left out.
            mask: True where a frame exists; ``None`` reads all of them. Each span needs at least one.
        """
        spans, kept = self._spans(frames, mask)
        hidden = self.query_tokens.expand(spans.shape[0], -1, -1).to(spans.dtype)
        hidden = F.dropout(self.norm(hidden), self.shape.dropout, self.training)
        for layer in self.layers:
            hidden = layer(hidden, spans, kept)
        return hidden.reshape(frames.shape[0], -1, self.shape.width)

    def spans_in(self, frame_count: int) -> int:
        """Count the spans that ``frame_count`` frames fill."""
        span, stride = self.shape.span_frames, self.shape.stride_frames or self.shape.span_frames
        if span is None or stride is None:
            return 1
        return max(0, (frame_count - span) // stride + 1)

    def _spans(self, frames: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        span, stride = self.shape.span_frames, self.shape.stride_frames or self.shape.span_frames
        if span is None or stride is None:
            return frames, mask
        cut = frames.unfold(1, span, stride).transpose(2, 3)  # (batch, spans, span, width)
        kept = None if mask is None else mask.unfold(1, span, stride).flatten(0, 1)
        return cut.flatten(0, 1), kept
