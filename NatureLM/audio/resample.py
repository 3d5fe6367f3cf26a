"""The one resampler: soxr at high quality, as a stream.

The surprise: fed block by block it gives the very samples that it gives for the whole recording at once, so windows may be cut
from its output without a seam.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

QUALITY = "HQ"
_LARGEST = 65_536


def resampled(
    blocks: Iterator[np.ndarray], source_hz: float, target_hz: int
) -> Iterator[np.ndarray]:
    """Resample a stream of one-dimensional float32 blocks; at equal rates they pass untouched.

    Args:
        blocks: The waveform at the source rate.
        source_hz: Its rate.
        target_hz: The rate wanted.

    Yields:
        Blocks of any length, in all ``round(samples * target_hz / source_hz)`` samples, within full scale.
    """
    if source_hz == target_hz:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(source_hz, target_hz, 1, dtype="float32", quality=QUALITY)
    for block in blocks:
        for first in range(0, len(block), _LARGEST):
            part = np.ascontiguousarray(block[first : first + _LARGEST], dtype=np.float32)
            yield _within(stream.resample_chunk(part))
    yield _within(stream.resample_chunk(np.zeros(0, np.float32), last=True))


def _within(block: np.ndarray) -> np.ndarray:
    """Cut off what the filter adds beyond full scale."""
    return np.clip(block, -1.0, 1.0)
