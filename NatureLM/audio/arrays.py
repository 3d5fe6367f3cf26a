"""Arrays, lists and tensors as recordings: which axis is time, and where full scale lies.

Knows numpy only; a tensor is anything that can become an array. The surprise: whole numbers are scaled by the range of their
type, which the published Pipeline does not do (it clamps them to noise).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from NatureLM.audio.options import MOST_CHANNELS
from NatureLM.errors import RecordingError


def as_samples(source: Any, name: str) -> np.ndarray:
    """Return ``(samples, channels)`` in floating point, full scale at 1.

    Args:
        source: Array, nested list or tensor with one axis, or with two of which the shorter one is the channels.
        name: The recording, for messages.

    Raises:
        RecordingError: ``bad_array`` or ``no_audio``.
    """
    array = _array(source, name)
    if array.ndim not in (1, 2):
        raise RecordingError(
            f"{name}: an array of shape {array.shape}; expected (samples,) or (channels, samples).",
            "bad_array",
        )
    if not array.size:
        raise RecordingError(f"{name}: an array without samples.", "no_audio")
    columns = (
        array[:, None]
        if array.ndim == 1
        else array.T
        if array.shape[0] <= array.shape[1]
        else array
    )
    if columns.shape[1] > MOST_CHANNELS:
        raise RecordingError(
            f"{name}: an array of shape {array.shape} has {columns.shape[1]} channels; expected at most {MOST_CHANNELS}.",
            "bad_array",
        )
    return _scaled(columns, name)


def _array(source: Any, name: str) -> np.ndarray:
    if hasattr(source, "detach"):
        source = source.detach().cpu()
        source = source.float() if "bfloat16" in str(source.dtype) else source
        source = source.numpy()
    try:
        return np.asarray(source)
    except ValueError as error:
        raise RecordingError(
            f"{name}: no array can be made of this ({error}).", "bad_array"
        ) from error


def _scaled(columns: np.ndarray, name: str) -> np.ndarray:
    kind, bits = columns.dtype.kind, 8 * columns.dtype.itemsize
    if kind == "f":
        return columns.astype(np.float64) if bits > 64 else columns
    if kind == "i" and bits == 64 and np.abs(columns).max() <= 1:
        return columns.astype(np.float64)
    if kind not in "iu" or bits == 64:
        raise RecordingError(
            f"{name}: samples of type {columns.dtype} have no full scale to go by; pass int16, int32, uint8 or floats in [-1, 1].",
            "bad_array",
        )
    centre = 1 << bits - 1 if kind == "u" else 0
    return (columns.astype(np.float64) - centre) / (1 << bits - 1)
