"""Tell steady noise from sound that holds something: white, pink or brown hiss in which nothing happens.

Knows power over time and frequency only. The surprise: it asks two things that no animal leaves untouched at once, a mean spectrum that is a straight line
over log frequency, and power that wavers no more than Gaussian noise must (chi-square statistics of averaged periodograms).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

FRAME, HOP = 1024, 512
BINS, BLOCK = 8, 8
"""Bins of a band and frames of a block: a cell averages about 40 independent values and wavers by a fifth."""
SHORTEST_SAMPLES = 24_000
OCCUPIED = 1e-5
"""Bands below this share of the strongest are beyond the source's own band."""
LEAST_BANDS = 16
MOST_BEND = 0.2
"""Largest distance of a band's mean from the straight line, in natural logarithms."""
MOST_WAVER, MOST_PEAK = 0.22, 2.1
"""Largest standard deviation, and largest single value, of cells over their band's mean."""


def is_steady_noise(samples: Float[Tensor, " samples"]) -> bool:
    """Decide for one stretch of sound at 48 kHz, half a second or longer.

    Args:
        samples: Mono, unpadded; shorter stretches are never called noise.
    """
    if len(samples) < SHORTEST_SAMPLES:
        return False
    window = torch.hann_window(FRAME, dtype=samples.dtype, device=samples.device)
    frames = samples.unfold(0, FRAME, HOP) * window
    power = torch.fft.rfft(frames).abs().square()[:, 2 : 2 + BINS * 62]
    bands = power.unflatten(1, (-1, BINS)).mean(2)
    bands = bands[: len(bands) // BLOCK * BLOCK]
    cells = bands.unflatten(0, (-1, BLOCK)).mean(1)
    means = cells.mean(0)
    occupied = means > OCCUPIED * means.max()
    own = int(occupied.long().cumprod(0).sum())
    count = own * 9 // 10  # the last bands lie on the slope of some filter
    if count < LEAST_BANDS or bool(occupied[own + 1 :].any()):
        return False
    cells, means = cells[:, :count], means[:count]
    ratio = cells / means
    if float(ratio.std()) > MOST_WAVER or float(ratio.max()) > MOST_PEAK:
        return False
    return _bend(means.double().log()) < MOST_BEND


def _bend(levels: Float[Tensor, " bands"]) -> float:
    """Measure the largest distance from the straight line over log frequency."""
    place = (torch.arange(len(levels), dtype=levels.dtype, device=levels.device) + 0.75).log()
    line = torch.stack([torch.ones_like(place), place], 1)
    fit = torch.linalg.lstsq(line.cpu(), levels.cpu()[:, None]).solution
    return float((levels.cpu() - (line.cpu() @ fit)[:, 0]).abs().max())
