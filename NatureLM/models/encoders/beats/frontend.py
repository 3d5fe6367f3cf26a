"""Kaldi-compatible log-mel spectrogram, batched, the front end that BEATs was trained with.

Knows nothing of lengths, patches or models. The one surprise: precision. The mel filters are built in float32, as the
reference's are (the fourth of 128 is empty at 16 kHz and stays empty), but the sums are float64 on a CPU whatever comes
in, since float32 is off by 1e-3 beside loud tones; and an enclosing autocast is switched off, because bfloat16 here costs
9e-3 (MODEL specification, sections 4.2 and 4.3).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

PREEMPHASIS = 0.97
LOWEST_HZ = 20.0
FULL_SCALE = 2.0**15
FLOOR = torch.finfo(torch.float32).eps
MEAN, DEVIATION = 15.41663, 6.55582
"""Mean and standard deviation of raw log-mel values over AudioSet, from BEATs; used as (v - mean) / (2 deviation)."""


class LogMel:
    """Turn waveforms into normalised log-mel frames of 25 ms every 10 ms.

    Attributes:
        sample_rate: Rate of the waveforms, in Hz.
        mel_bins: Filters.
        frame_samples: Samples a frame (25 ms).
        hop_samples: Samples between frame starts (10 ms).
    """

    def __init__(self, sample_rate: int = 16000, mel_bins: int = 128) -> None:
        self.sample_rate = sample_rate
        self.mel_bins = mel_bins
        self.frame_samples = int(sample_rate * 0.025)
        self.hop_samples = int(sample_rate * 0.010)
        self._fft_samples = 1 << (self.frame_samples - 1).bit_length()
        self._tables: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def __call__(
        self, waveforms: Float[Tensor, "batch samples"]
    ) -> Float[Tensor, "batch mel_frames mel_bins"]:
        """Compute the frames, in float32.

        Args:
            waveforms: In [-1, 1] at ``sample_rate``; on a GPU float64 is computed in float64, all else in float32.
        """
        keep = waveforms.dtype == torch.float64
        x = waveforms if keep else waveforms.to(_precision_on(waveforms.device))
        with torch.autocast(x.device.type, enabled=False):
            window, filters = self._tables_for(x.device, x.dtype)
            frames = (x * FULL_SCALE).unfold(-1, self.frame_samples, self.hop_samples)
            frames = frames - frames.mean(-1, keepdim=True)
            before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
            spectrum = torch.fft.rfft((frames - PREEMPHASIS * before) * window, n=self._fft_samples)
            power = spectrum.abs().square()[..., :-1]
            energy = power.to(filters.dtype) @ filters
            return ((energy.clamp_min(FLOOR).log() - MEAN) / (2 * DEVIATION)).float()

    def frames_in(self, samples: Tensor | int) -> Tensor | int:
        """Count the whole frames that ``samples`` samples hold."""
        count = (samples - self.frame_samples) // self.hop_samples + 1
        return count.clamp_min(0) if isinstance(count, Tensor) else max(0, count)

    def _tables_for(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if (device, dtype) not in self._tables:
            with torch.inference_mode(False):
                hann = torch.hann_window(self.frame_samples, periodic=False, dtype=dtype)
                filters = mel_filters(self.sample_rate, self._fft_samples, self.mel_bins)
                # float64 on CUDA too: a global switch may turn float32 products there into TF32.
                exact = filters.to(torch.float32 if device.type == "mps" else torch.float64)
                self._tables[device, dtype] = (hann.pow(0.85).to(device), exact.to(device))
        return self._tables[device, dtype]


def mel_filters(
    sample_rate: int, fft_samples: int, mel_bins: int
) -> Float[Tensor, "fft_bins mel_bins"]:
    """Build Kaldi's triangular mel filters in float32, without the last FFT bin.

    Args:
        sample_rate: In Hz; the filters span 20 Hz to its half.
        fft_samples: Size of the FFT.
        mel_bins: Filters.
    """
    low, high = _mel(LOWEST_HZ), _mel(sample_rate / 2)
    step = (high - low) / (mel_bins + 1)
    position = torch.arange(mel_bins, dtype=torch.float32)[:, None]
    left, centre, right = (low + (position + k) * step for k in range(3))
    hertz = (sample_rate / fft_samples) * torch.arange(fft_samples // 2, dtype=torch.float32)
    mel = 1127.0 * (1.0 + hertz / 700.0).log()
    rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
    return torch.minimum(rising, falling).clamp_min(0).T.contiguous()


def _mel(hertz: float) -> float:
    return 1127.0 * math.log(1.0 + hertz / 700.0)


def _precision_on(device: torch.device) -> torch.dtype:
    return torch.float64 if device.type == "cpu" else torch.float32
