"""Stages outside the model: resampling, the processor, the windows, and the published pipeline's strings.

Knows what was recorded; the pipeline itself stands above the models and comes in as a door. The one surprise: where six
middle samples of a resampled tone were taken from is not recorded, so they are looked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from NatureLM.audio.kaiser import resample_kaiser
from NatureLM.config import Generation
from NatureLM.models.model import NatureLM
from NatureLM.models.verify.golden import (
    RATE_HZ,
    Check,
    Golden,
    compare,
    compare_exactly,
    skipped,
)
from NatureLM.models.verify.language import Speaker
from NatureLM.prompts import AUDIO_TAG

RESAMPLING_ATOL = 1e-6
"""Two versions of the reference's resampler agree to 8e-9; tables of float32 or float64 differ by about 1e-7."""

PipelineDoor = Callable[[NatureLM, Path, str, "tuple[float, float]", Generation], str]
"""(model, recording, query, window and hop in seconds, generation) -> the card's text."""

WindowDoor = Callable[[float, int, float, float], "Sequence[str] | None"]
"""(duration in seconds, rate in Hz, window, hop) -> labels such as ``#0.00s - 10.00s#``; ``None`` when refused."""

_TONE = re.compile(r"([\d.]+)\*sin\(2pi ([\d.]+) t\)")
_KEY = re.compile(
    r"(?P<file>[^|]+)\|win(?P<window>[\d.]+)\|hop(?P<hop>[\d.]+)\|beams(?P<beams>\d+)"
)


def check_resampling(golden: Golden) -> Iterator[Check]:
    """Tones of several rates brought to 16 kHz."""
    for key, case in golden.misc.get("prepare_audio", {}).items():
        if key.startswith("resample_"):
            yield from _compare_tone(key, case)


def check_processor(golden: Golden) -> Iterator[Check]:
    """Recordings as the reference's processor hands them to the encoder."""
    stored = golden.tensors("processor_audio_f64")
    for name, facts in golden.json("expected/golden.json").get("processor", {}).items():
        waveform = processed(golden.folder / "audio" / name, facts["length"])
        present = np.flatnonzero(waveform)
        last = int(present[-1]) + 1 if len(present) else 0
        yield compare_exactly(f"processor {name}: last sample", last, facts["last_nonzero"])
        found = [waveform.sum(), np.sqrt(np.square(waveform).sum())]
        yield compare(f"processor {name}: sum, norm", found, [facts["sum"], facts["l2"]], 1e-4)
        if name in stored:
            cut = waveform[: len(stored[name])]
            yield compare(f"processor {name}", cut, stored[name], RESAMPLING_ATOL)


def check_windows(golden: Golden, door: WindowDoor | None) -> Iterator[Check]:
    """Which windows the published pipeline cuts, and how it labels them."""
    cases = golden.misc.get("windows", [])
    if door is None:
        yield skipped("windows", "needs the pipeline")
        return
    for case in cases:
        labels = door(case["duration"], case["sr"], case["window"], case["hop"])
        found = "ValueError" if labels is None else "".join(f"{label}: X\n" for label in labels)
        stage = f"windows of {case['duration']} s, {case['window']}/{case['hop']}"
        yield compare_exactly(stage, found, case["output"])


def check_pipeline(speaker: Speaker, door: PipelineDoor | None) -> Iterator[Check]:
    """Whole strings of the published pipeline, trailing windows dropped."""
    if door is None:
        yield skipped("pipeline", "needs the pipeline")
        return
    golden = speaker.golden
    query = golden.samples["prompts"][0].removeprefix(AUDIO_TAG)
    for key, case in golden.recorded["pipeline"].items():
        found = _KEY.fullmatch(key)
        if found is None:
            yield skipped(f"pipeline {key}", "a kind of case that is not known here")
            continue
        generation = Generation(
            max_new_tokens=speaker.limit, num_beams=int(found["beams"]), stop_rule="published"
        )
        spans = (float(found["window"]), float(found["hop"]))
        path = golden.folder / "audio" / found["file"]
        text = door(speaker.model, path, query, spans, generation)
        yield compare_exactly(f"pipeline {key}", [text], case["output"])


def processed(path: Path, length: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Decode, mix, resample, cut, pad and clamp as the reference's processor does."""
    decoded, rate = soundfile.read(path, dtype="float64", always_2d=True)
    mono = decoded.mean(axis=1)
    heard = (mono if rate == RATE_HZ else resample_kaiser(mono, rate, RATE_HZ))[:length]
    padded = np.zeros(length)
    padded[: len(heard)] = np.clip(heard, -1.0, 1.0)
    return padded


def _compare_tone(key: str, case: dict[str, Any]) -> Iterator[Check]:
    rate = int(key.removeprefix("resample_"))
    seconds = float(case["input"].split(" s of ")[0])
    t = np.arange(round(seconds * rate)) / rate
    tones = [(float(a), float(f)) for a, f in _TONE.findall(case["input"])]
    tone = np.sum([a * np.sin(2 * np.pi * f * t) for a, f in tones], axis=0)
    found = resample_kaiser(tone, rate, RATE_HZ)
    stage = f"resampling {rate} Hz"
    yield compare_exactly(f"{stage}: samples", len(found), case["n_out_nonzero"])
    count = len(case["first"])
    yield compare(f"{stage}: first", found[:count], case["first"], RESAMPLING_ATOL)
    last = len(case["last_nonzero"])
    yield compare(f"{stage}: last", found[-last:], case["last_nonzero"], RESAMPLING_ATOL)
    rows = np.lib.stride_tricks.sliding_window_view(found, len(case["mid"]))
    nearest = rows[np.abs(rows - np.asarray(case["mid"])).max(axis=1).argmin()]
    yield compare(f"{stage}: middle", nearest, case["mid"], RESAMPLING_ATOL)
    norm = float(np.sqrt(np.square(found).sum()))
    yield compare(f"{stage}: norm", norm, case["l2"], 1e-4)
