"""The published resampler: the recorded numbers, and resampy itself where it is installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from NatureLM.audio.kaiser import resample_kaiser
from NatureLM.audio.recording import open_recording
from NatureLM.audio.windows import WindowPlan

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden/audio/published.json").read_text(encoding="utf-8")
)["prepare_audio"]


@pytest.mark.parametrize("rate_hz", [8000, 22050, 44100, 48000])
def test_recorded_numbers(rate_hz: int) -> None:
    golden = GOLDEN[f"resample_{rate_hz}"]
    time = np.arange(int(0.2 * rate_hz)) / rate_hz
    signal = 0.5 * np.sin(2 * np.pi * 440 * time) + 0.2 * np.sin(2 * np.pi * 1234 * time)
    got = resample_kaiser(signal, rate_hz, 16000)
    assert got.dtype == np.float64
    assert len(got) == golden["n_out_nonzero"] == int(len(signal) * 16000 / rate_hz)
    np.testing.assert_allclose(got[: len(golden["first"])], golden["first"], atol=1e-7, rtol=0)
    np.testing.assert_allclose(
        got[-len(golden["last_nonzero"]) :], golden["last_nonzero"], atol=1e-7, rtol=0
    )
    assert np.linalg.norm(got) == pytest.approx(golden["l2"], abs=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("source_hz", "target_hz"),
    [
        (48000, 16000),
        (44100, 16000),
        (8000, 16000),
        (11025, 16000),
        (44099, 16000),
        (384000, 16000),
        (16000, 48000),
        (250000, 16000),
    ],
)
def test_equals_resampy(source_hz: int, target_hz: int) -> None:
    resampy = pytest.importorskip("resampy")
    signal = 0.3 * np.random.default_rng(0).standard_normal(source_hz // 4 + 17)
    expected = resampy.resample(signal, source_hz, target_hz)
    np.testing.assert_allclose(
        resample_kaiser(signal, source_hz, target_hz), expected, atol=1e-9, rtol=0
    )


def test_equal_rates_copy() -> None:
    signal = np.arange(5.0)
    assert np.array_equal(resample_kaiser(signal, 16000, 16000), signal)
    assert resample_kaiser(np.ones(2), 48000, 16000).size == 0


@pytest.mark.parametrize(("rate_hz", "seconds"), [(44100, 25.0), (48000, 3.0), (16000, 12.0)])
def test_published_windows_are_cut_first_and_resampled_one_by_one(
    rate_hz: int, seconds: float
) -> None:
    signal = np.random.default_rng(1).uniform(-0.9, 0.9, (int(rate_hz * seconds), 2))
    windows = list(
        open_recording(signal, rate_hz=rate_hz).windows(WindowPlan(10.0, 7.0), 16000, "published")
    )
    mono = signal.mean(axis=1)
    starts = [0] if seconds < 10 else range(0, len(mono) - 10 * rate_hz + 1, 7 * rate_hz)
    assert [w.window.start_s for w in windows] == [start / rate_hz for start in starts]
    for audio, start in zip(windows, starts, strict=True):
        expected = np.clip(
            resample_kaiser(mono[start : start + 10 * rate_hz], rate_hz, 16000), -1, 1
        )
        assert audio.waveform.dtype == np.float64
        np.testing.assert_allclose(audio.waveform, expected, atol=1e-12, rtol=0)
