"""Laws of reading: windows cover and never pass the end; streamed equals whole; damage never escapes as anything but a fault."""

from __future__ import annotations

import functools
from itertools import pairwise

import numpy as np
import pytest
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from NatureLM.audio.flags import FAULTS
from NatureLM.audio.recording import open_recording
from NatureLM.audio.windows import WindowPlan, plan_windows
from NatureLM.errors import RecordingError
from tests import sounds

lengths = st.floats(0.01, 30.0, allow_nan=False)
durations = st.one_of(st.floats(0.0, 40_000.0), st.integers(0, 40_000).map(float))


@st.composite
def plans(draw: st.DrawFn) -> tuple[float, WindowPlan]:
    window_s, hop_s = draw(lengths), draw(lengths)
    duration_s = min(draw(durations), 500 * hop_s)
    return duration_s, WindowPlan(window_s, hop_s)


@given(plans())
def test_windows_cover_without_a_gap_and_never_pass_the_end(case: tuple[float, WindowPlan]) -> None:
    duration_s, plan = case
    windows = list(plan_windows(duration_s, plan))
    assert [w.index for w in windows] == list(range(len(windows)))
    assert all(0 <= w.start_s < w.end_s <= duration_s for w in windows)
    assert all(w.end_s - w.start_s <= plan.window_s * (1 + 1e-9) + 1e-6 for w in windows)
    if duration_s <= 0:
        assert not windows
        return
    assert windows[0].start_s == 0
    if plan.hop_s <= plan.window_s:
        assert all(after.start_s <= before.end_s + 1e-6 for before, after in pairwise(windows))
        assert windows[-1].end_s >= duration_s - 1e-6


@given(plans())
def test_dropping_the_tail_gives_a_prefix(case: tuple[float, WindowPlan]) -> None:
    duration_s, plan = case
    keep = list(plan_windows(duration_s, plan))
    drop = list(plan_windows(duration_s, WindowPlan(plan.window_s, plan.hop_s, "drop")))
    assert keep[: len(drop)] == drop
    assert len(keep) - len(drop) in (0, 1)
    assert all(w.end_s - w.start_s >= plan.window_s - 2e-6 for w in drop[1:])


@given(plans())
def test_no_window_is_needless(case: tuple[float, WindowPlan]) -> None:
    windows = list(plan_windows(*case))
    assert all(after.end_s > before.end_s for before, after in pairwise(windows))


rates = st.sampled_from([8000, 16000, 22050, 32000, 44100, 48000, 96000])


@settings(max_examples=25, deadline=None)
@given(
    rates,
    st.sampled_from([16000, 48000]),
    st.floats(0.2, 3.0),
    st.floats(0.1, 3.0),
    st.integers(1, 200_000),
)
def test_streamed_windows_equal_the_whole_resampled_at_once(
    source_hz: int, target_hz: int, window_s: float, hop_s: float, samples: int
) -> None:
    signal = np.random.default_rng(samples).uniform(-0.5, 0.5, samples).astype(np.float32)
    if np.ptp(signal) == 0:
        signal[0] = 0.25
    recording = open_recording(signal, rate_hz=source_hz)
    whole = signal if source_hz == target_hz else soxr.resample(signal, source_hz, target_hz, "HQ")
    plan = WindowPlan(window_s, hop_s)
    got = list(recording.windows(plan, target_hz))
    planned = list(plan_windows(samples / source_hz, plan))
    assert [audio.window for audio in got] == planned
    for audio in got:
        first = round(audio.window.start_s * target_hz)
        assert (
            abs(len(audio.waveform) - (audio.window.end_s - audio.window.start_s) * target_hz)
            <= 1.5
        )
        if "dc_offset" not in audio.flags:
            np.testing.assert_array_equal(
                audio.waveform, np.clip(whole[first : first + len(audio.waveform)], -1, 1)
            )


@functools.cache
def _whole(form: str, subtype: str | None) -> bytes:
    samples = sounds.tone(2.0)
    return sounds.pcm_wav(samples) if form == "WAV16" else sounds.encoded(samples, form, subtype)


FORMATS = [
    ("WAV16", None),
    ("WAV", "IMA_ADPCM"),
    ("FLAC", None),
    ("MP3", None),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("AIFF", "PCM_16"),
    ("RF64", "PCM_24"),
]


@pytest.mark.parametrize(("form", "subtype"), FORMATS)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damage_is_a_fault_or_a_flag_and_never_more(
    form: str, subtype: str | None, data: st.DataObject
) -> None:
    content = bytearray(_whole(form, subtype))
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(
            st.one_of(st.integers(0, min(200, len(content) - 1)), st.integers(0, len(content) - 1))
        )
        content[place] = data.draw(st.integers(0, 255))
    kept = data.draw(st.integers(0, len(content)))
    if data.draw(st.booleans()):
        del content[kept:]
    total = 0
    try:
        for audio in open_recording(bytes(content)).windows(WindowPlan(1.0, 1.0), 16000):
            assert np.isfinite(audio.waveform).all()
            assert np.abs(audio.waveform).max(initial=0) <= 1
            total += len(audio.waveform)
            assert total < 16000 * 400, (
                "a damaged file of two seconds must not become an endless one"
            )
    except RecordingError as fault:
        code = fault.code
    else:
        code = "no_audio" if not total else ""
    assert code in {"", *FAULTS}
