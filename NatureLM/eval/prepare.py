"""From an audio cell to what the model hears: mono at its rate, cut to the component's longest stretch.

Knows audio, no model. Two ways: ours keeps the true length; the published one resamples in float64 with the published filter and pads
with silence that the model hears (MODEL specification, sections 4.1 and 10).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from NatureLM.audio.arrays import as_samples
from NatureLM.audio.kaiser import resample_kaiser
from NatureLM.audio.recording import open_recording
from NatureLM.audio.windows import WindowPlan
from NatureLM.errors import NatureLMError, RecordingError
from NatureLM.eval.sources.record import RawAudio
from NatureLM.eval.task import Example, Outline

Parity = Literal["ours", "published"]
MARGIN_S = 0.25
"""Read beyond the cut before resampling, so that the filter sees what the published code lets it see."""


@dataclass(frozen=True)
class Prepared:
    """An example ready for the model.

    Attributes:
        outline: The example.
        waveforms: What is heard, at the model's rate; empty when nothing is, by fault or by purpose.
        flags: Codes that qualify the audio.
        error: Why there is no audio.
    """

    outline: Outline
    waveforms: tuple[np.ndarray, ...] = ()
    flags: tuple[str, ...] = ()
    error: RecordingError | None = None

    @property
    def samples(self) -> int:
        """Count all samples heard."""
        return sum(len(waveform) for waveform in self.waveforms)

    @cached_property
    def digest(self) -> str:
        """Hash what is heard, once."""
        digest = hashlib.sha256()
        for waveform in self.waveforms:
            digest.update(f"{waveform.dtype}{waveform.shape}".encode())
            digest.update(np.ascontiguousarray(waveform).data)
        return digest.hexdigest()


def prepare(example: Example, rate_hz: int, parity: Parity = "ours") -> Prepared:
    """Decode, mix down, resample and cut one example; a fault is part of the answer, never raised.

    Args:
        example: The example.
        rate_hz: The model's rate.
        parity: Whose way.
    """
    if isinstance(example.audio, RecordingError):
        return Prepared(example.outline, error=example.audio)
    try:
        way = _published if parity == "published" else _true
        waveform, flags = way(example.audio, rate_hz, example.outline.max_duration_s)
    except RecordingError as error:
        return Prepared(example.outline, error=error)
    except (NatureLMError, OSError, ValueError, MemoryError) as error:
        return Prepared(example.outline, error=RecordingError(str(error), "unreadable"))
    if not len(waveform):
        return Prepared(example.outline, error=RecordingError("no samples", "no_audio"))
    return Prepared(example.outline, (waveform,), flags)


def _true(audio: RawAudio, rate_hz: int, most_s: float) -> tuple[np.ndarray, tuple[str, ...]]:
    recording = open_recording(audio.content, rate_hz=audio.rate_hz)
    window = next(recording.windows(WindowPlan(most_s, most_s), rate_hz))
    return window.waveform, tuple(dict.fromkeys(recording.flags + window.flags))


def _published(audio: RawAudio, rate_hz: int, most_s: float) -> tuple[np.ndarray, tuple[str, ...]]:
    native, native_hz = _native(audio, most_s + MARGIN_S)
    heard = resample_kaiser(native, native_hz, rate_hz)[: round(most_s * rate_hz)]
    padded = np.zeros(round(most_s * rate_hz))
    padded[: len(heard)] = np.clip(heard, -1.0, 1.0)
    return padded, ()


def _native(audio: RawAudio, most_s: float) -> tuple[np.ndarray, int]:
    if isinstance(audio.content, np.ndarray):
        rate_hz = int(audio.rate_hz or 0)
        samples = as_samples(audio.content, "audio")[: round(most_s * rate_hz)]
        if not np.isfinite(samples).all():
            raise RecordingError("some samples are not numbers", "not_audio")
        return samples.astype(np.float64).mean(1), rate_hz
    recording = open_recording(audio.content)
    plan = WindowPlan(most_s, most_s)
    window = next(recording.windows(plan, recording.rate_hz, "published"))
    return window.waveform, recording.rate_hz
