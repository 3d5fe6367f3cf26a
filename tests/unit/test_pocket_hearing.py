"""The pocket model is deaf to steady noise of any loudness and colour, and to nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from NatureLM.models.pocket.hearing import steady_noise

RATE, SAMPLES = 48_000, 144_000
TIME = torch.arange(SAMPLES) / RATE


def noise(seed: int, slope: float = 0.0) -> Tensor:
    rng = np.random.default_rng(seed)
    frequency = np.maximum(np.fft.rfftfreq(SAMPLES, 1 / RATE), 1.0)
    shaped = np.fft.rfft(rng.normal(size=SAMPLES)) * frequency ** (-slope / 2)
    wave = np.fft.irfft(shaped, SAMPLES)
    return torch.from_numpy((0.2 * wave / wave.std()).astype("float32"))


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0, -1.0])
@pytest.mark.parametrize("loudness", [1.0, 1e-3, 1e-6])
def test_noise_of_any_colour_and_loudness_is_noise(slope: float, loudness: float) -> None:
    segments = torch.stack([noise(seed, slope) for seed in range(4)]) * loudness
    assert steady_noise(segments).all()


def test_a_recorders_hiss_of_one_step_is_noise() -> None:
    assert steady_noise((noise(1) * 4).round()[None] / 32768).all()


@pytest.mark.parametrize("cutoff_hz", [11025, 16000, 20000])
def test_noise_behind_a_filter_is_noise(cutoff_hz: int) -> None:
    spectrum = torch.fft.rfft(noise(2))
    spectrum[torch.fft.rfftfreq(SAMPLES, 1 / RATE) > cutoff_hz] = 0
    assert steady_noise(torch.fft.irfft(spectrum, SAMPLES)[None]).all()


@pytest.mark.parametrize("hertz", [2000.0, 4321.0, 9000.0])
def test_a_faint_tone_in_noise_is_heard(hertz: float) -> None:
    tone = 0.02 * torch.sin(2 * torch.pi * hertz * TIME)  # 17 dB below the noise
    assert not steady_noise((noise(3) + tone)[None]).any()


@pytest.mark.parametrize("start_s", [0.2, 1.5, 2.7])
def test_a_short_chirp_in_noise_is_heard(start_s: float) -> None:
    during = (start_s < TIME) & (start_s + 0.08 > TIME)
    chirp = 0.3 * during * torch.sin(2 * torch.pi * (3000 + 4000 * (TIME - start_s)) * TIME)
    assert not steady_noise((noise(4) + chirp)[None]).any()


def test_tones_silence_and_swelling_noise_are_not_steady_noise() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * TIME)
    swelling = noise(5) * torch.linspace(0.05, 1, SAMPLES)
    assert not steady_noise(torch.stack([tone, swelling, torch.zeros(SAMPLES)])).any()
