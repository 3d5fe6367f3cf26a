"""Resampling as the published model was fed: a windowed sinc read from a table, in float64.

Own numpy code for the parity mode; everything else is resampled by soxr. The surprise: the step through the table is cut to a
whole number, which makes the filter a hair asymmetric; the published numbers carry that, so it is kept.
"""

from __future__ import annotations

import functools

import numpy as np

ZERO_CROSSINGS = 50
STEPS = 8192
ROLLOFF = 0.9173473712608761
BETA = 12.984585247040012
"""The published filter: zero crossings a side, table entries a crossing, cutoff over Nyquist, Kaiser beta."""

_BLOCK = 2048
_PHASES = 1024


def resample_kaiser(waveform: np.ndarray, source_hz: int, target_hz: int) -> np.ndarray:
    """Resample a waveform with the published filter.

    Args:
        waveform: One-dimensional; computed in float64.
        source_hz: Its rate.
        target_hz: The rate wanted.

    Returns:
        float64, ``int(samples * target_hz / source_hz)`` long.
    """
    signal = np.asarray(waveform, dtype=np.float64)
    if source_hz == target_hz:
        return signal.copy()
    count = int(signal.size * float(target_hz) / float(source_hz))
    ratio = float(target_hz) / source_hz
    times = np.arange(count) * (1.0 / ratio)
    whole = times.astype(np.int64)
    fractions = times - whole
    kernel = _kernel(ratio)
    padded = np.pad(signal, (kernel.left - 1, kernel.right + 1))
    stretches = np.lib.stride_tricks.sliding_window_view(padded, kernel.left + kernel.right)
    result = np.empty(count)
    groups = _groups(fractions)
    if not groups:
        _one_by_one(result, stretches, whole, fractions, kernel)
        return result
    weights = kernel.weights(fractions[[members[0] for members in groups]])
    for members, row in zip(groups, weights, strict=True):
        result[members] = np.einsum("ij,j->i", _rows(stretches, whole[members]), row)
    return result


def _groups(fractions: np.ndarray) -> list[np.ndarray]:
    """Group output samples that stand at the same place between two input samples; no groups when there are too many."""
    _, group, sizes = np.unique(np.round(fractions, 9), return_inverse=True, return_counts=True)
    if not 0 < sizes.size <= _PHASES:
        return []
    return np.split(np.argsort(group, kind="stable"), np.cumsum(sizes)[:-1])


def _rows(stretches: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Take stretches; at even distances without copying them."""
    step = int(starts[1] - starts[0]) if starts.size > 1 else 1
    if step > 0 and np.all(np.diff(starts) == step):
        return stretches[starts[0] : starts[-1] + 1 : step]
    return stretches[starts]


def _one_by_one(
    result: np.ndarray,
    stretches: np.ndarray,
    whole: np.ndarray,
    fractions: np.ndarray,
    kernel: _Kernel,
) -> None:
    """Resample between rates that hardly have a common measure: weights of their own for every sample."""
    for first in range(0, result.size, _BLOCK):
        part = slice(first, first + _BLOCK)
        weights = kernel.weights(fractions[part])
        result[part] = np.einsum("ij,ij->i", stretches[whole[part]], weights)


@functools.lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """Tabulate the right half of the filter, ends included."""
    length = STEPS * ZERO_CROSSINGS
    sinc = ROLLOFF * np.sinc(ROLLOFF * np.linspace(0, ZERO_CROSSINGS, num=length + 1))
    return np.kaiser(2 * length + 1, BETA)[length:] * sinc


class _Kernel:
    """The filter at one ratio: its weights for any place between two input samples."""

    def __init__(self, ratio: float) -> None:
        self.scale = min(1.0, ratio)
        self.step = int(self.scale * STEPS)
        self.table = _table() * self.scale
        self.slopes = np.diff(self.table, append=self.table[-1])
        self.left = self.right = self.table.size // self.step + 1

    def weights(self, fractions: np.ndarray) -> np.ndarray:
        """Return the weights of the ``left + right`` input samples around each place, oldest first."""
        after = self.scale * fractions
        left = self._wing(after)[:, ::-1]
        return np.concatenate([left, self._wing(self.scale - after)], axis=1)

    def _wing(self, distance: np.ndarray) -> np.ndarray:
        place = distance * STEPS
        offset = place.astype(np.int64)
        taps = np.arange(self.left)
        index = offset[:, None] + taps * self.step
        inside = taps < ((self.table.size - offset) // self.step)[:, None]
        index = np.where(inside, index, 0)
        weight = self.table[index] + (place - offset)[:, None] * self.slopes[index]
        return np.where(inside, weight, 0.0)


@functools.lru_cache(maxsize=8)
def _kernel(ratio: float) -> _Kernel:
    return _Kernel(ratio)
