"""One pass over the samples of a source, whoever decodes it: libsndfile first where it is sound, FFmpeg where it is not.

Knows readers and headers, mixes and resamples nothing. The surprise: when libsndfile gives up, FFmpeg starts anew and goes on
at the very sample, so that whoever listens sees one stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from NatureLM.audio.av_reader import AvReader
from NatureLM.audio.headers import Facts, read_facts
from NatureLM.audio.options import Findings, ReadOptions, check_rate
from NatureLM.audio.sniff import KNOWN_SUFFIXES, sniff_file
from NatureLM.audio.soundfile_reader import SoundfileReader
from NatureLM.audio.sources import ByteSource
from NatureLM.errors import RecordingError

Precision = Literal["float32", "float64"]

_SLACK_S = 0.1
"""How much earlier than announced a lossy stream may end: what an encoder pads."""


@dataclass(frozen=True)
class Shape:
    """What a decoder says about a recording once it is open.

    Attributes:
        rate_hz: Native sample rate, forced or not.
        channels: Number of channels.
        expected_samples: Samples a channel that should come, if known.
        exceeds_one: The format is lossy, so samples may pass full scale a little.
    """

    rate_hz: int
    channels: int
    expected_samples: int | None
    exceeds_one: bool


class Pass(Protocol):
    """A recording opened for one pass."""

    shape: Shape

    def blocks(self, precision: Precision) -> Iterator[np.ndarray]:
        """Yield ``(samples, channels)`` at the native rate, full scale at 1."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def examine(source: ByteSource, options: ReadOptions, findings: Findings) -> Facts:
    """Find out what a file is and judge its header.

    Raises:
        RecordingError: The file is empty, no audio, or its header cannot be right.
    """
    if not source.size:
        raise RecordingError(f"{source.name}: the file is empty (0 bytes).", "OE004 empty")
    try:
        with source.open() as file:
            kind = sniff_file(file)
        if not kind.reader:
            raise RecordingError(f"{source.name}: not audio but {kind.name}.", "not_audio")
        facts = read_facts(source, kind)
    except OSError as error:
        raise RecordingError(f"{source.name}: {error.strerror or error}.", "unreadable") from error
    if facts.rate_hz is not None and facts.channels is not None:
        check_rate(source.name, facts.rate_hz, facts.channels, options)
    for flag in facts.flags:
        findings.add(flag)
    if source.suffix in KNOWN_SUFFIXES and source.suffix not in kind.suffixes:
        findings.add("suffix_mismatch")
    return facts


class FilePass:
    """A file opened for one pass.

    Raises:
        RecordingError: No decoder can read it.
    """

    def __init__(
        self, source: ByteSource, facts: Facts, options: ReadOptions, findings: Findings
    ) -> None:
        self._source, self._facts, self._findings = source, facts, findings
        self._reader = self._open()
        header_hz, channels = self._reader.rate_hz, self._reader.channels
        try:
            check_rate(source.name, header_hz, channels, options)
        except RecordingError:
            self.close()
            raise
        if options.force_rate_hz is not None and options.force_rate_hz != header_hz:
            findings.add("forced_rate")
        expected = facts.samples or self._reader.expected_samples
        self.shape = Shape(
            options.force_rate_hz or header_hz, channels, expected, self._reader.exceeds_one
        )

    def _open(self) -> SoundfileReader | AvReader:
        if self._facts.reader == "soundfile":
            try:
                return SoundfileReader(self._source)
            except RecordingError:
                return AvReader(self._source, self._facts, self._findings)
        try:
            return AvReader(self._source, self._facts, self._findings)
        except RecordingError:
            if self._facts.kind.name != "OGG":
                raise
            return SoundfileReader(self._source)

    def close(self) -> None:
        """Let go of the file."""
        self._reader.close()

    def blocks(self, precision: Precision) -> Iterator[np.ndarray]:
        """Yield ``(samples, channels)`` at the native rate, full scale at 1."""
        position = 0
        for block in self._read(precision):
            position += len(block)
            yield block
        expected = self.shape.expected_samples
        exact = self._facts.samples is not None
        slack = 0 if exact else _SLACK_S * self.shape.rate_hz
        trusted = exact or self._facts.kind.name not in ("MP3", "AAC", "OGG")
        if trusted and expected is not None and position < expected - slack:
            self._findings.add("truncated")

    def _read(self, precision: Precision) -> Iterator[np.ndarray]:
        if isinstance(self._reader, AvReader):
            yield from self._reader.read(precision)
            return
        position, failed = 0, False
        try:
            for block in self._reader.read(precision):
                position += len(block)
                yield block
        except RecordingError:
            failed = True
        announced = max(self._facts.samples or 0, self._reader.expected_samples or 0)
        if failed or position < announced:
            yield from self._go_on(precision, position)

    def _go_on(self, precision: Precision, position: int) -> Iterator[np.ndarray]:
        """Let FFmpeg read what libsndfile could not, from the sample on where it stopped."""
        try:
            reader = AvReader(self._source, self._facts, self._findings)
        except RecordingError:
            self._findings.add("truncated")
            return
        try:
            if reader.rate_hz != self._reader.rate_hz:
                self._findings.add("truncated")
                return
            for block in reader.read(precision, position):
                self._findings.add("decoder_fallback")
                yield block
        finally:
            reader.close()


class ArrayPass:
    """Samples in memory as one pass.

    Args:
        samples: ``(samples, channels)``, full scale at 1.
        rate_hz: Their rate.
    """

    def __init__(self, samples: np.ndarray, rate_hz: int) -> None:
        self._samples = samples
        self.shape = Shape(rate_hz, samples.shape[1], len(samples), exceeds_one=False)

    def close(self) -> None:
        """Nothing to let go of."""

    def blocks(self, precision: Precision) -> Iterator[np.ndarray]:
        """Yield ``(samples, channels)`` at the native rate, full scale at 1."""
        for first in range(0, len(self._samples), 65_536):
            yield self._samples[first : first + 65_536].astype(precision)
