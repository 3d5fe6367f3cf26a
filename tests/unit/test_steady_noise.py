"""Steady noise of any colour is told from sound in which something happens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from NatureLM.models.encoders.steady_noise import is_steady_noise


def noise(seconds: float, slope: float = 0.0, seed: int = 0) -> np.ndarray:
    """Make Gaussian noise whose power falls with frequency to the power ``slope``."""
    count = int(48_000 * seconds)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=count))
    place = np.maximum(np.arange(len(spectrum)), 1)
    made = np.fft.irfft(spectrum / place ** (slope / 2), count)
    return made / np.abs(made).max()


def steady(sound: np.ndarray) -> bool:
    return is_steady_noise(torch.from_numpy(sound.astype(np.float32)))


@pytest.mark.parametrize("slope", [-2, -1, 0])
@pytest.mark.parametrize("seconds", [0.7, 1.5, 3.0])
@pytest.mark.parametrize("level", [1e-4, 0.5])
def test_hiss_is_steady_at_any_level_and_length(slope: int, seconds: float, level: float) -> None:
    assert all(steady(level * noise(seconds, slope, seed)) for seed in range(5))


def test_a_call_in_the_noise_is_no_noise() -> None:
    sound = 0.05 * noise(3.0)
    time = np.arange(9600) / 48_000
    sound[40_000:49_600] += 0.05 * np.sin(2 * np.pi * (3000 * time + 4000 * time**2))
    assert not steady(sound)


def test_knocks_a_hum_and_a_stop_are_no_noise() -> None:
    base = 0.05 * noise(3.0)
    knocks, hum, stop = base.copy(), base.copy(), base.copy()
    for start in range(0, 144_000, 12_000):
        knocks[start : start + 480] *= 8
    hum += 0.05 * np.sin(2 * np.pi * 4000 * np.arange(144_000) / 48_000)
    stop[72_000:] *= 0.1
    assert not any(map(steady, (knocks, hum, stop)))


def test_silence_and_very_short_stretches_are_no_noise() -> None:
    assert not steady(np.zeros(144_000))
    assert not steady(noise(0.3))
