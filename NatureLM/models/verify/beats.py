"""BEATs of the real size from a formula: weights and a chirp that need no file.

Knows the formula of a golden folder's ``beats_real_size.json``; nothing of the other stages. The one surprise: numbers are
drawn per published parameter name, so the names themselves are part of what is verified.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from NatureLM.models.encoders.beats import BEATs
from NatureLM.models.keymap import published_of

RATE_HZ, SECONDS = 16000, 10


def published_parameters(beats: BEATs) -> Iterator[tuple[str, nn.Parameter]]:
    """Walk the parameters under the names of an original BEATs file."""
    for name, parameter in beats.named_parameters():
        yield published_of(f"encoder.{name}").removeprefix("beats."), parameter


@torch.no_grad()
def fill_by_formula(beats: BEATs, seed: int) -> BEATs:
    """Fill every parameter from a random stream of its own, seeded by its name.

    Args:
        beats: The encoder to fill, in place.
        seed: The folder's ``variant.S``.
    """
    for name, parameter in published_parameters(beats):
        state = np.random.RandomState((zlib.crc32(name.encode()) ^ seed) & 0xFFFFFFFF)
        noise = state.standard_normal(parameter.numel()).astype(np.float32)
        one = name.endswith(("layer_norm.weight", "grep_a", "weight_g"))
        parameter.copy_(torch.from_numpy(noise).reshape(parameter.shape) * 0.02 + float(one))
    return beats.eval().requires_grad_(False)


def formula_waveform(variant: Mapping[str, Any]) -> Tensor:
    """Make the chirp with noise, ten seconds in float64, as one row.

    Args:
        variant: ``A`` amplitude, ``f0`` and ``f1`` in Hz, ``noise_seed``.
    """
    samples = RATE_HZ * SECONDS
    t = np.arange(samples) / RATE_HZ
    sweep = 0.5 * (variant["f1"] - variant["f0"]) / SECONDS * t**2
    chirp = variant["A"] * np.sin(2 * np.pi * (variant["f0"] * t + sweep))
    noise = np.random.RandomState(variant["noise_seed"]).standard_normal(samples)
    return torch.from_numpy(chirp + 0.01 * noise)[None]
