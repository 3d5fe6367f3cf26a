"""libsndfile as a reader: one pass over a file in blocks of ``(samples, channels)``.

The surprise: ``soundfile.blocks()`` repeats the last block when a file ends early, so blocks are read one by one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO, Literal

import numpy as np

from NatureLM.audio.sources import ByteSource
from NatureLM.errors import RecordingError

BLOCK_SAMPLES = 65_536
"""Samples of all channels together that are read at once."""

_UNKNOWN_LENGTH = 1 << 50


class SoundfileReader:
    """A file opened by libsndfile.

    Attributes:
        rate_hz: Sample rate.
        channels: Number of channels.
        expected_samples: Samples a channel that libsndfile expects, if it knows.
        exceeds_one: Samples may pass full scale without being wrong: the format is lossy.

    Raises:
        RecordingError: libsndfile cannot read it.
    """

    def __init__(self, source: ByteSource) -> None:
        import soundfile

        self._name, self._errors = (
            source.name,
            (soundfile.SoundFileError, RuntimeError, OSError, ValueError, AssertionError),
        )
        with ExitStack() as stack:
            raw = stack.enter_context(source.open())
            try:
                self._file = stack.enter_context(soundfile.SoundFile(_handle(raw), closefd=False))
            except self._errors as error:
                reason = getattr(error, "error_string", "") or error
                raise RecordingError(f"{source.name}: {reason}", "undecodable") from error
            self._stack = stack.pop_all()
        self.rate_hz, self.channels = int(self._file.samplerate), int(self._file.channels)
        frames = int(self._file.frames)
        self.expected_samples = frames if 0 <= frames < _UNKNOWN_LENGTH else None
        self.exceeds_one = False

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def read(self, dtype: Literal["float32", "float64"]) -> Iterator[np.ndarray]:
        """Yield the samples in blocks.

        Raises:
            RecordingError: The file is damaged here; all that came before is good.
        """
        size = max(1024, BLOCK_SAMPLES // self.channels)
        while True:
            try:
                block = self._file.read(size, dtype=dtype, always_2d=True)
            except self._errors as error:
                raise RecordingError(f"{self._name}: {error}", "undecodable") from error
            if not len(block):
                return
            yield block


def _handle(file: BinaryIO) -> Any:
    """Give libsndfile the descriptor where there is one: no callback into Python for each read."""
    if os.name == "nt":
        return file
    try:
        return file.fileno()
    except OSError:
        return file
