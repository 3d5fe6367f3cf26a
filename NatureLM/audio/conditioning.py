"""Native blocks made fit for a model: finite, one channel, centred, within full scale; and what had to be done, as flags.

The one downmix lives here (the mean of the channels). The surprise: an offset is removed only when it is really one, so that
ordinary recordings pass bit for bit; in the published mode nothing is touched but samples that are not numbers (only looked at).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from NatureLM.audio.decoding import Pass, Precision
from NatureLM.audio.options import Findings, Stretch

LEAD_SAMPLES = 1 << 20
"""What an offset is measured on: 22 s at 48 kHz."""

_LOSSY_PEAK = 1.5
_OFFSET, _OFFSET_OF_DEVIATION = 0.01, 0.25
_SPECTRUM = 2048
_QUIET = 1e-8
"""Mean square below which a spectrum says nothing: -80 dB of full scale."""


@dataclass
class Conditioner:
    """One pass of conditioning.

    Attributes:
        findings: Where flags of the whole recording go.
        limit_hz: The highest frequency that the model hears.
        published: Touch nothing but samples that are not numbers.
        samples: Samples given out so far.
        rate_hz: Native rate, known once blocks flow.
    """

    findings: Findings
    limit_hz: float
    published: bool = False
    samples: int = 0
    rate_hz: int = 0
    _stretches: deque[Stretch] = field(default_factory=deque)

    def blocks(self, opened: Pass) -> Iterator[np.ndarray]:
        """Yield one-dimensional blocks at the native rate.

        Args:
            opened: A recording opened for this pass.
        """
        self.rate_hz = opened.shape.rate_hz
        peak = _LOSSY_PEAK if opened.shape.exceeds_one else 1.0
        precision: Precision = "float64" if self.published else "float32"
        mixed = self._mixed(opened.blocks(precision), peak)
        centred = mixed if self.published else self._centred(mixed)
        for block in centred:
            self._listen_above(block)
            self.samples += len(block)
            yield block

    def flags(self, start_s: float, end_s: float) -> tuple[str, ...]:
        """Return the codes that hold somewhere between two times, and forget what ended before."""
        while self._stretches and self._stretches[0].end_s < start_s - 60:
            self._stretches.popleft()
        marked = [s.code for s in self._stretches if s.start_s < end_s and s.end_s > start_s]
        gaps = [
            "gap"
            for start, end in self.findings.gaps
            if start < end_s and max(end, start + 1e-9) > start_s
        ]
        return tuple(dict.fromkeys(gaps[:1] + marked))

    def _mark(self, code: str, first: int, count: int) -> None:
        self.findings.add(code)
        start_s, end_s = first / self.rate_hz, (first + count) / self.rate_hz
        last = self._stretches[-1] if self._stretches else None
        if (
            last
            and last.code == code
            and start_s - last.end_s < 1.0
            and end_s - last.start_s < 60.0
        ):
            start_s, _ = last.start_s, self._stretches.pop()
        self._stretches.append(Stretch(code, start_s, end_s))

    def _mixed(self, blocks: Iterator[np.ndarray], peak: float) -> Iterator[np.ndarray]:
        first = 0
        for block in blocks:
            low, high = (float(block.min()), float(block.max())) if block.size else (0.0, 0.0)
            clean = block
            if not np.isfinite(low + high):
                clean = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
                low, high = float(clean.min()), float(clean.max())
                self._mark("not_finite", first, len(block))
            if max(high, -low) > peak:
                self._mark("overrange", first, len(block))
            if max(high, -low) > 1.0 and not self.published:
                clean = np.clip(clean, -1.0, 1.0)
            first += len(block)
            yield _mono(clean)

    def _centred(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        lead: list[np.ndarray] = []
        held = 0
        for block in blocks:
            lead.append(block)
            held += len(block)
            if held >= LEAD_SAMPLES:
                break
        offset = _offset(np.concatenate(lead), self.rate_hz) if lead else 0.0
        if offset:
            self._mark("dc_offset", 0, held)
        lead.reverse()
        while lead:
            yield _shifted(lead.pop(), offset)
        for block in blocks:
            if offset:
                self._mark("dc_offset", self.samples, len(block))
            yield _shifted(block, offset)

    def _listen_above(self, block: np.ndarray) -> None:
        """Note where most of the energy lies above what the model hears, in files that reach well beyond that."""
        if self.rate_hz < 4 * self.limit_hz or len(block) < _SPECTRUM:
            return
        frames = block[: len(block) // _SPECTRUM * _SPECTRUM].reshape(-1, _SPECTRUM)
        power = np.abs(np.fft.rfft(frames * np.hanning(_SPECTRUM).astype(block.dtype), axis=1)) ** 2
        hz_a_bin = self.rate_hz / _SPECTRUM
        split, floor = int(self.limit_hz / hz_a_bin) + 1, max(1, int(100 / hz_a_bin))
        above, below = power[:, split:].sum(1), power[:, floor:split].sum(1)
        loud = (above > 4 * below) & (above > _QUIET * _SPECTRUM**2 / 4)
        if np.count_nonzero(loud) >= 2:
            places = np.flatnonzero(loud)
            count = int(places[-1] - places[0] + 1) * _SPECTRUM
            self._mark(
                f"energy_above_{self.limit_hz / 1000:g}kHz",
                self.samples + int(places[0]) * _SPECTRUM,
                count,
            )


def _mono(block: np.ndarray) -> np.ndarray:
    if block.shape[1] == 1:
        return np.ascontiguousarray(block[:, 0])
    if block.shape[1] == 2:
        return (block[:, 0] + block[:, 1]) * block.dtype.type(0.5)
    return block.mean(axis=1)


def _shifted(block: np.ndarray, offset: float) -> np.ndarray:
    return np.clip(block - block.dtype.type(offset), -1.0, 1.0) if offset else block


def _offset(lead: np.ndarray, rate_hz: int) -> float:
    """Return the offset of a waveform; 0 when it is none to speak of, or only a low note."""
    offset = float(lead.mean(dtype=np.float64))
    if lead.min() == lead.max():
        return offset
    if len(lead) < rate_hz / 2 or abs(offset) < max(
        _OFFSET, _OFFSET_OF_DEVIATION * float(lead.std(dtype=np.float64))
    ):
        return 0.0
    halves = [float(half.mean(dtype=np.float64)) for half in np.array_split(lead, 2)]
    return offset if abs(halves[0] - halves[1]) < 0.5 * abs(offset) else 0.0
