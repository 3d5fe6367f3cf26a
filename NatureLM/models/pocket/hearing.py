"""What the pocket model does not listen to: steady noise, on which its encoder invents birds.

Knows waveforms and the laws of noise, no classes. The surprise: BirdNET gives white noise of any loudness, also a recorder's own hiss in silence, a score of about 0.5 for
Lesser Spotted Woodpecker. Nothing alive is as even as that: a segment whose every band is as steady as Gaussian noise and has no line above its surroundings counts as empty.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Bool, Float, Int
from torch import Tensor

from NatureLM.models.encoders.birdnet import SEGMENT_SAMPLES, EvidenceEncoder, segment_starts

EMPTY_LOGIT = -6.0
"""What the strongest class of steady noise is brought down to."""
FRAME = 1024
"""Samples of a short-time spectrum; 140 of them make a segment."""
BAND = 32
"""Bins of a band, 1.5 kHz."""
LOWEST_BIN = 32
"""Below 1.5 kHz wind, hum and cut-offs make every recording uneven."""
STEADY_DB, EVENT_DB, LINE_DB = 1.35, 5.0, 3.0
"""Gaussian noise keeps below them in a band: about 1 dB of spread over time, 4 dB above its mean in one frame of a segment, 1.5 dB in one bin over its surroundings."""
FEWEST_BANDS = 4
FLOOR_DB = -45.0
"""Bands that far below the strongest one are what a codec or a filter left over."""


class PocketEncoder(EvidenceEncoder):
    """The evidence encoder, deaf to steady noise."""

    def evidence(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[list[Float[Tensor, "_ classes"]], list[Float[Tensor, " _"]]]:
        """Score every segment of every window; classes of steady noise are brought below what counts as present."""
        scores, starts = super().evidence(waveforms, lengths)
        heard = [
            _quietened(score, _is_noise(row, n))
            for score, row, n in zip(scores, waveforms, lengths.tolist(), strict=True)
        ]
        return heard, starts


def steady_noise(segments: Float[Tensor, "n samples"]) -> Bool[Tensor, " n"]:
    """Say which stretches of sound are nothing but steady noise, by its spectrum over time."""
    window = torch.hann_window(FRAME, dtype=segments.dtype, device=segments.device)
    frames = segments.unfold(1, FRAME, FRAME) * window
    power = torch.fft.rfft(frames).abs().square()[..., LOWEST_BIN : FRAME // 2] + 1e-20
    bands = 10 * power.unflatten(-1, (-1, BAND)).mean(-1).log10()  # (n, frames, bands)
    level = bands.mean(1)
    counted = level > level.amax(1, keepdim=True) + FLOOR_DB
    around = bands - level[:, None]
    steady = (around.std(1) < STEADY_DB) & (around.amax(1) < EVENT_DB)
    spectrum = 10 * power.mean(1).log10()
    local = F.avg_pool1d(F.pad(spectrum[:, None], (15, 15), "replicate"), 31, 1)[:, 0]
    smooth = ((spectrum - local).unflatten(-1, (-1, BAND)).amax(-1)) < LINE_DB
    above = F.pad(counted, (0, 2), value=True)
    judged = counted & above[:, 1:-1] & above[:, 2:]  # not the two bands in which a filter cuts off
    even = ((steady & smooth) | ~judged).all(1) & (judged.sum(1) >= FEWEST_BANDS)
    return even & (segments.abs().amax(1) > 0)


def _is_noise(row: Tensor, samples: int) -> Bool[Tensor, " segments"]:
    cut = [row[start : min(start + SEGMENT_SAMPLES, samples)] for start in segment_starts(samples)]
    noise = [bool(steady_noise(s[None].float())) if len(s) >= 40 * FRAME else False for s in cut]
    return torch.tensor(noise, device=row.device)


def _quietened(
    scores: Float[Tensor, "segments classes"], noise: Bool[Tensor, " segments"]
) -> Float[Tensor, "segments classes"]:
    above = (scores.amax(1) - EMPTY_LOGIT).clamp_min(0.0)
    return scores - torch.where(noise, above, 0.0)[:, None]
