"""Encoders of the ``avex`` package (Earth Species Project) behind this package's protocol.

Knows two calls of avex: ``load_model(name, return_features_only=True)`` and the model on a batch of waveforms, giving
(batch, time, width). The one surprise: rows of unequal length are encoded apart, unpadded, since how an avex model treats
padding differs from model to model. avex is an optional extra and brings torchaudio with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from NatureLM.errors import CheckpointError, DependencyError

DEFAULT = "esp_aves2_sl_beats_all"


@dataclass(frozen=True)
class AvexShape:
    """What the protocol needs to know of an avex model.

    Attributes:
        sample_rate: Rate of its waveforms, in Hz.
        width: Width of its frames.
        frames_per_second: Nominal.
    """

    sample_rate: int = 16000
    width: int = 768
    frames_per_second: float = 50.0


class AvexEncoder(nn.Module):
    """Encode waveforms with a pre-trained avex model.

    Attributes:
        model: The avex model, giving (batch, time, width).
        width: Width of a frame.
        frames_per_second: Nominal.
        sample_rate: Rate of the waveforms, in Hz.
    """

    def __init__(
        self, model: nn.Module | Callable[[Tensor], Tensor], shape: AvexShape | None = None
    ) -> None:
        super().__init__()
        shape = shape or AvexShape()
        self.model = model
        self.width = shape.width
        self.frames_per_second = shape.frames_per_second
        self.sample_rate = shape.sample_rate

    @classmethod
    def load(
        cls, name: str = DEFAULT, device: str = "cpu", shape: AvexShape | None = None
    ) -> AvexEncoder:
        """Fetch a model that avex knows by name.

        Raises:
            DependencyError: When avex is not installed.
        """
        try:
            import avex
        except ImportError as error:
            raise DependencyError(
                "avex encoders need the avex package: pip install 'naturelm-audio[avex]'."
            ) from error
        model: Any = avex.load_model(name, return_features_only=True, device=device)
        return cls(model, shape)

    def forward(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames width"], Int[Tensor, " batch"]]:
        """Encode waveforms, each at its true length.

        Args:
            waveforms: In [-1, 1] at ``sample_rate``, padded at the end.
            lengths: True samples of each.

        Raises:
            CheckpointError: When the model gives no sequence of frames of the stated width.
        """
        rows: dict[int, Tensor] = {}
        for length in lengths.unique().tolist():
            chosen = (lengths == length).nonzero().flatten()
            found = self.model(waveforms[chosen, :length].float())
            if not isinstance(found, Tensor) or found.ndim != 3 or found.shape[-1] != self.width:
                raise CheckpointError(
                    f"The avex model gives {tuple(getattr(found, 'shape', ()))}; (batch, time, {self.width}) was expected."
                )
            rows |= dict(zip(chosen.tolist(), found, strict=True))
        ordered = [rows[i] for i in range(len(waveforms))]
        counts = torch.tensor([len(row) for row in ordered], device=waveforms.device)
        return nn.utils.rnn.pad_sequence(ordered, batch_first=True), counts
