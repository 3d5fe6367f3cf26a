"""The records of a source: one row without its audio, and one audio cell.

Knows no file format. The surprise: published rows hold their sample rate in a JSON string, not beside the audio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from NatureLM.errors import RecordingError

AUDIO_COLUMN = "audio"


@dataclass(frozen=True)
class Row:
    """One row without its audio.

    Attributes:
        columns: Every column but the audio, as read.
        where: File and row number, for messages.
    """

    columns: Mapping[str, Any]
    where: str


@dataclass(frozen=True)
class RawAudio:
    """One audio cell, not yet decoded.

    Attributes:
        content: Amplitudes, an encoded file's bytes, or a path.
        rate_hz: Rate of the amplitudes; encoded files know their own.
    """

    content: NDArray[Any] | bytes | Path
    rate_hz: int | None = None


Wanted = Callable[[Row], bool]


class Source(Protocol):
    """A table of rows, read without and with its audio.

    Attributes:
        name: What the user called it.
        revision: Changes when the data change.
    """

    name: str
    revision: str

    def rows(self) -> Iterator[Row]:
        """Give every row without audio, in the table's order."""
        ...

    def audio(self, wanted: Wanted) -> Iterator[tuple[Row, RawAudio | RecordingError]]:
        """Give the rows that ``wanted`` accepts, with audio or the reason why it cannot be had."""
        ...


def audio_cell(value: Any, rate_hz: int | None, root: Path, where: str) -> RawAudio:
    """Read one audio cell of any known shape: float list, bytes, ``{bytes, path}``, ``{array, sampling_rate}`` or path.

    Raises:
        RecordingError: The cell is empty or of another shape.
    """
    if isinstance(value, Mapping):
        return _struct_cell(value, rate_hz, root, where)
    if isinstance(value, bytes) and value:
        return RawAudio(value)
    if isinstance(value, str) and value:
        return RawAudio(root / value)
    if isinstance(value, list | tuple | np.ndarray) and len(value):
        samples = np.asarray(value, dtype=None if isinstance(value, np.ndarray) else np.float64)
        if rate_hz is None:
            raise RecordingError(
                f"{where}: amplitudes without a sample rate in metadata", "no_rate"
            )
        return RawAudio(samples, rate_hz)
    raise RecordingError(f"{where}: no audio in the row", "no_audio")


def _struct_cell(value: Mapping[str, Any], rate_hz: int | None, root: Path, where: str) -> RawAudio:
    if value.get("bytes"):
        return RawAudio(bytes(value["bytes"]))
    if value.get("array") is not None:
        rate = value.get("sampling_rate") or value.get("sample_rate") or rate_hz
        return audio_cell(value["array"], rate, root, where)
    return audio_cell(value.get("path"), rate_hz, root, where)
