"""The pocket model's bridge: evidence frames in, audio tokens out; the part that this project trained.

Knows sizes and layers, no names and no audio. The surprise: the audio tokens have places. The first spell the strongest class's common name
in the LLM's own embeddings, the next its scientific name, then the second and third class, and the last few are free.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from NatureLM.models.qformer import QFormer, QFormerShape

NUMBERS = 4
"""What stands behind the direction in an evidence frame: logit, probability, start in seconds, rank."""
START_PERIODS_S = (3.0, 7.0, 16.0, 40.0)


@dataclass(frozen=True)
class Slots:
    """How many audio tokens each place has.

    Attributes:
        common: Common name of the strongest class.
        scientific: Its scientific name.
        second: Common name of the second class.
        third: Common name of the third class.
        free: Whatever else helps.
    """

    common: int = 13
    scientific: int = 12
    second: int = 8
    third: int = 8
    free: int = 6

    @property
    def total(self) -> int:
        """Audio tokens of a window."""
        return self.common + self.scientific + self.second + self.third + self.free


@dataclass(frozen=True)
class BridgeShape:
    """Sizes of the bridge.

    Attributes:
        width: Of the Q-Former.
        heads: Its attention heads.
        layers: Its layers.
        feed_forward: Its inner width.
        direction_width: Width of a prototype.
        llm_width: Width of the LLM's embeddings.
        dropout: In training.
        slots: Places of the audio tokens.
        segment_frames: Frames of a segment that a second input may bring; 0 while none was trained.
    """

    width: int = 384
    heads: int = 6
    layers: int = 2
    feed_forward: int = 1536
    direction_width: int = 1024
    llm_width: int = 576
    dropout: float = 0.0
    slots: Slots = Slots()
    segment_frames: int = 0

    @classmethod
    def of(cls, values: dict[str, Any]) -> BridgeShape:
        """Read what ``as_dict`` wrote."""
        return cls(**{**values, "slots": Slots(**values["slots"])})

    def as_dict(self) -> dict[str, Any]:
        """Write the sizes for a JSON file."""
        return asdict(self)


class EvidenceEmbedding(nn.Module):
    """Turn evidence frames into what the Q-Former reads.

    Args:
        shape: The bridge's sizes.
    """

    def __init__(self, shape: BridgeShape) -> None:
        super().__init__()
        self.direction_width = shape.direction_width
        self.direction = nn.Linear(shape.direction_width, shape.width)
        features = 5 + 2 * len(START_PERIODS_S)
        self.numbers = nn.Sequential(
            nn.Linear(features, shape.width), nn.GELU(), nn.Linear(shape.width, shape.width)
        )
        self.norm = nn.LayerNorm(shape.width)

    def forward(
        self, frames: Float[Tensor, "batch frames evidence"]
    ) -> Float[Tensor, "batch frames width"]:
        """Embed frames; all-zero frames are padding."""
        direction, numbers = frames.split([self.direction_width, NUMBERS], dim=-1)
        logit, probability, start, rank = numbers.unbind(-1)
        padding = ~direction.any(-1)
        highest = logit.masked_fill(padding, -torch.inf).amax(1, keepdim=True)
        behind = (logit - highest).clamp(-20.0, 0.0).nan_to_num()
        periods = logit.new_tensor(START_PERIODS_S)
        turn = 2 * torch.pi * start[..., None] / periods
        simple = torch.stack((logit / 4, probability, behind / 4, start / 10, rank / 4), -1)
        features = torch.cat((simple, turn.sin(), turn.cos()), -1)
        scaled = direction * self.direction_width**0.5
        return self.norm(self.direction(scaled) + self.numbers(features))


class Bridge(nn.Module):
    """Embedding, Q-Former and projector together, as they are trained and stored.

    Args:
        shape: The sizes.
    """

    def __init__(self, shape: BridgeShape) -> None:
        super().__init__()
        self.shape = shape
        self.frame_norm = EvidenceEmbedding(shape)
        self.qformer = QFormer(
            QFormerShape(
                width=shape.width,
                heads=shape.heads,
                layers=shape.layers,
                feed_forward=shape.feed_forward,
                frame_width=shape.width,
                queries=shape.slots.total,
                span_frames=None,
                dropout=shape.dropout,
            )
        )
        self.projector = nn.Linear(shape.width, shape.llm_width)
        self.apply(_reset)
        nn.init.normal_(self.qformer.query_tokens, std=0.5)

    def forward(
        self, frames: Float[Tensor, "batch frames evidence"], counts: Tensor
    ) -> Float[Tensor, "batch audio_tokens llm_width"]:
        """Turn evidence frames into audio tokens."""
        read = torch.arange(frames.shape[1], device=frames.device)[None] < counts[:, None]
        return self.projector(self.qformer(self.frame_norm(frames), read))


def _reset(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
