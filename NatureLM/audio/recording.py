"""A recording, whatever it comes from: its facts, and its windows as a stream.

The only door to decoding, mixing and resampling. Memory is one window, however long the recording. The surprise: the length of
a recording is what came out of the decoder, so ``duration_s`` and ``flags`` are final only when the windows have been read.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from NatureLM.audio.arrays import as_samples
from NatureLM.audio.belt import Belt
from NatureLM.audio.conditioning import Conditioner
from NatureLM.audio.decoding import ArrayPass, FilePass, Pass, examine
from NatureLM.audio.flags import describe
from NatureLM.audio.kaiser import resample_kaiser
from NatureLM.audio.options import Findings, ReadOptions, check_rate
from NatureLM.audio.resample import resampled
from NatureLM.audio.sources import ByteSource, FileSource, MemorySource, PathSource
from NatureLM.audio.windows import (
    Window,
    WindowPlan,
    is_full,
    published_samples,
    published_windows,
    tail_window,
)
from NatureLM.errors import RecordingError, WindowError

Mode = Literal["default", "published"]

SILENCE = 2e-6
"""A waveform whose lowest and highest sample are no further apart is digital silence."""


@dataclass(frozen=True)
class WindowAudio:
    """A window with its sound.

    Attributes:
        window: Where it lies.
        waveform: Mono in [-1, 1] at the rate asked for, as long as the window truly is, not padded; float32, or float64 in the
            published mode.
        flags: Codes that hold for this window, such as ``silent``.
    """

    window: Window
    waveform: np.ndarray
    flags: tuple[str, ...] = ()


class Recording:
    """A recording that can be read, from its start, as often as wanted.

    Made by :func:`open_recording`.

    Attributes:
        name: The path as given, or ``<bytes>``, ``<array>``, ``<file>``.
        rate_hz: Native sample rate.
        channels: Number of channels.
        expected_s: Length in seconds that the header announces, if it does.
        duration_s: Length in seconds of what was decoded so far; after reading, the true length.
    """

    def __init__(
        self, name: str, begin: Callable[[], Pass], options: ReadOptions, findings: Findings
    ) -> None:
        self.name, self._begin, self._options, self._findings = name, begin, options, findings
        opened = begin()
        try:
            first = next(opened.blocks("float32"), None)
        finally:
            opened.close()
        if first is None:
            raise RecordingError(f"{name}: no sample could be decoded.", "no_audio")
        shape = opened.shape
        self.rate_hz, self.channels = shape.rate_hz, shape.channels
        self.expected_s = (
            None if shape.expected_samples is None else shape.expected_samples / shape.rate_hz
        )
        self.duration_s = 0.0
        if self.rate_hz <= 8000:
            findings.add("bandwidth_4kHz")
        self._check_length(self.expected_s or 0.0, complete=False)

    @property
    def flags(self) -> tuple[str, ...]:
        """Codes of the whole recording, as far as it was read."""
        return tuple(self._findings.codes)

    @property
    def gaps(self) -> tuple[tuple[float, float], ...]:
        """Stretches in seconds that could not be decoded, as far as it was read."""
        return tuple(self._findings.gaps)

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence a flag, with the bounds of gaps."""
        bounds = ", ".join(f"{start:.2f}-{end:.2f} s" for start, end in self.gaps)
        return tuple(
            f"{code}: {describe(code)}" + (f" ({bounds})" if code == "gap" else "")
            for code in self.flags
        )

    def windows(
        self, plan: WindowPlan, rate_hz: int, mode: Mode = "default"
    ) -> Iterator[WindowAudio]:
        """Decode and yield the windows, one after the other.

        Args:
            plan: Window, hop and tail.
            rate_hz: The rate wanted.
            mode: ``default`` resamples the whole recording as a stream and cuts windows from it; ``published`` does what the
                published Pipeline does: windows cut in source samples, no tail, each resampled by itself in float64.

        Raises:
            RecordingError: ``too_short`` or ``audio_too_long`` by :class:`ReadOptions`.
            WindowError: The rate makes no sense.
        """
        if rate_hz < 1:
            raise WindowError(f"rate {rate_hz!r}: expected a positive number of samples a second.")
        slow = self._options.slow_down
        if slow <= 0 or (slow != 1 and mode == "published"):
            raise WindowError(
                f"slowed down {slow} times: expected more than 0, and 1 in the published mode."
            )
        limit_hz = slow * (self._options.band_limit_hz or rate_hz / 2)
        conditioner = Conditioner(self._findings, limit_hz, published=mode == "published")
        cut = self._published if mode == "published" else self._streamed
        silent = seen = 0
        for heard, waveform in cut(conditioner, plan, rate_hz):
            window = Window(heard.index, heard.start_s / slow, heard.end_s / slow)
            quiet = bool(waveform.size and waveform.max() - waveform.min() <= SILENCE)
            silent, seen = silent + quiet, seen + 1
            flags = conditioner.flags(window.start_s, window.end_s)
            yield WindowAudio(window, waveform, (*flags, "silent") if quiet else flags)
        if seen and silent == seen:
            self._findings.add("silent")

    def waveform(self, rate_hz: int) -> np.ndarray:
        """Decode the whole recording as one float32 waveform, mono in [-1, 1]; memory is its length."""
        conditioner = Conditioner(self._findings, rate_hz / 2)
        blocks = resampled(self._native(conditioner), self.rate_hz, rate_hz)
        return np.concatenate([np.zeros(0, np.float32), *blocks])

    def _native(self, conditioner: Conditioner) -> Iterator[np.ndarray]:
        """Yield the blocks of one pass and keep count."""
        opened = self._begin()
        try:
            for block in conditioner.blocks(opened):
                self.duration_s = max(self.duration_s, conditioner.samples / self.rate_hz)
                self._check_length(self.duration_s, complete=False)
                yield block
        finally:
            opened.close()
        self._check_length(self.duration_s, complete=True)

    def _check_length(self, duration_s: float, *, complete: bool) -> None:
        least, most = self._options.min_duration_s, self._options.max_duration_s
        if most is not None and duration_s > most:
            raise RecordingError(
                f"{self.name}: at least {duration_s:.2f} s long; at most {most:.2f} s are allowed.",
                "audio_too_long",
            )
        if complete and duration_s < least:
            raise RecordingError(
                f"{self.name}: {duration_s:.2f} s long; expected at least {least:.2f} s.",
                "too_short",
            )

    def _streamed(
        self, conditioner: Conditioner, plan: WindowPlan, rate_hz: int
    ) -> Iterator[tuple[Window, np.ndarray]]:
        belt, index = Belt("float32"), 0
        source_hz = self.rate_hz / self._options.slow_down
        for block in resampled(self._native(conditioner), source_hz, rate_hz):
            belt.append(block)
            decoded_s = conditioner.samples / source_hz
            while belt.end >= round((plan.start_s(index) + plan.window_s) * rate_hz) and is_full(
                plan.start_s(index) + plan.window_s, decoded_s
            ):
                start_s = plan.start_s(index)
                yield self._cut(belt, Window(index, start_s, start_s + plan.window_s), rate_hz)
                index += 1
                belt.let_go(round(plan.start_s(index) * rate_hz))
        duration_s = conditioner.samples / source_hz
        while is_full(plan.start_s(index) + plan.window_s, duration_s):
            start_s = plan.start_s(index)
            end_s = min(start_s + plan.window_s, duration_s)
            yield self._cut(belt, Window(index, start_s, end_s), rate_hz)
            index += 1
        tail = tail_window(index, duration_s, plan)
        if tail is not None:
            yield tail, belt.take(round(tail.start_s * rate_hz), belt.end)

    @staticmethod
    def _cut(belt: Belt, window: Window, rate_hz: int) -> tuple[Window, np.ndarray]:
        return window, belt.take(round(window.start_s * rate_hz), round(window.end_s * rate_hz))

    def _published(
        self, conditioner: Conditioner, plan: WindowPlan, rate_hz: int
    ) -> Iterator[tuple[Window, np.ndarray]]:
        belt, index = Belt("float64"), 0
        length, hop = published_samples(self.rate_hz, plan)
        for block in self._native(conditioner):
            belt.append(block)
            while belt.end >= index * hop + length:
                first = index * hop
                window = Window(index, first / self.rate_hz, (first + length) / self.rate_hz)
                yield window, self._published_waveform(belt.take(first, first + length), rate_hz)
                index += 1
                belt.let_go(index * hop)
        if not index:
            for window, first, end in published_windows(belt.end, self.rate_hz, plan):
                yield window, self._published_waveform(belt.take(first, end), rate_hz)

    def _published_waveform(self, native: np.ndarray, rate_hz: int) -> np.ndarray:
        return np.clip(resample_kaiser(native, self.rate_hz, rate_hz), -1.0, 1.0)


def open_recording(
    source: str | os.PathLike[str] | bytes | np.ndarray | Sequence[Any] | Any,
    *,
    rate_hz: int | None = None,
    options: ReadOptions | None = None,
) -> Recording:
    """Open a recording and make sure that it can be read.

    Args:
        source: A path; the bytes of a file; a binary file object; or samples as array, nested list or tensor, of which the shorter
            axis is the channels. Whole numbers are scaled by the range of their type.
        rate_hz: Sample rate of an array; files say their own.
        options: What to allow; ``None`` takes the defaults.

    Raises:
        RecordingError: It cannot be read; its ``code`` is a key of ``FAULTS``.
    """
    options, findings = options or ReadOptions(), Findings()
    file = _byte_source(source)
    if file is None:
        return _array_recording(source, rate_hz, options, findings)
    facts = examine(file, options, findings)

    def begin() -> Pass:
        return FilePass(file, facts, options, findings)

    return Recording(file.name, begin, options, findings)


def _byte_source(source: Any) -> ByteSource | None:
    if isinstance(source, str | Path) or (
        hasattr(source, "__fspath__") and not hasattr(source, "read")
    ):
        return PathSource(os.fspath(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return MemorySource(bytes(source))
    if isinstance(source, io.IOBase) or hasattr(source, "read"):
        return FileSource(source)
    return None


def _array_recording(
    source: Any, rate_hz: int | None, options: ReadOptions, findings: Findings
) -> Recording:
    name = "<array>"
    samples = as_samples(source, name)
    if rate_hz is None:
        raise RecordingError(
            f"{name}: an array says nothing of its sample rate. Pass rate_hz, for example 48000.",
            "bad_array",
        )
    check_rate(name, rate_hz, samples.shape[1], options)
    native_hz = options.force_rate_hz or int(rate_hz)
    return Recording(name, lambda: ArrayPass(samples, native_hz), options, findings)
