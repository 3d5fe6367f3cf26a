"""FFmpeg as a reader, packet by packet: what a damaged file still holds comes out, and at its right time.

Samples are placed by their time stamps; what could not be decoded becomes silence and a gap. The surprise: MP3 and AAC streams
have no time stamps of their own, so the length of a gap in them is told from the bytes that were lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Literal

import numpy as np

from NatureLM.audio.headers import Facts
from NatureLM.audio.options import Findings
from NatureLM.audio.soundfile_reader import BLOCK_SAMPLES
from NatureLM.audio.sources import ByteSource
from NatureLM.errors import RecordingError

FORMATS: dict[str, str] = {
    "WAV": "wav", "FLAC": "flac", "OGG": "ogg", "MP3": "mp3", "AAC": "aac", "AIFF": "aiff", "MP4": "mov", "Matroska": "matroska",
    "CAF": "caf", "AU": "au", "Wave64": "w64", "VOC": "voc", "NIST Sphere": "nistsphere", "ASF": "asf", "Monkey's Audio": "ape",
    "WavPack": "wv", "True Audio": "tta", "TAK": "tak", "AMR": "amr", "RealMedia": "rm", "FLV": "flv", "AC-3": "ac3", "AVI": "avi",
    "8SVX": "iff",
}  # fmt: skip
"""Kind -> the only demultiplexer that may read it: a playlist never opens other files."""

LONGEST_GAP_S = 60.0
"""Longer jumps in time are damaged time stamps, not gaps, unless the file is large enough to have held them."""

_BY_BYTES = ("mp3", "aac")

_SURE_GAP = 8192
"""Samples beyond which a jump cannot be a whim of a block size."""


def _errors() -> tuple[type[Exception], ...]:
    import av

    return (
        av.FFmpegError,
        ValueError,
        OSError,
        AttributeError,
        TypeError,
        IndexError,
        OverflowError,
    )


class AvReader:
    """A file opened by FFmpeg, its first frame decoded.

    Attributes:
        rate_hz: Sample rate of the first frame, which may differ from the header's.
        channels: Number of channels of the first frame.
        expected_samples: Samples a channel that the container expects, if it knows.
        exceeds_one: Samples may pass full scale without being wrong: the format is lossy.

    Raises:
        RecordingError: ``undecodable`` or ``no_audio``.
    """

    def __init__(self, source: ByteSource, facts: Facts, findings: Findings) -> None:
        import av

        self._size, self._findings = source.size, findings
        options = dict(facts.av_options)
        with ExitStack() as stack:
            file = stack.enter_context(source.open())
            try:
                self._container = stack.enter_context(
                    av.open(
                        file,
                        format=FORMATS.get(facts.kind.name),
                        options=options,
                        metadata_errors="replace",
                        buffer_size=1 << 17,
                    )
                )
                self._stream = next(iter(self._container.streams.audio), None)
            except _errors() as error:
                message = f"{source.name}: {_reason(error)}"
                if facts.kind.name == "MP4":
                    message += "; an MP4 file that was cut off has lost the index at its end"
                raise RecordingError(f"{message}.", "undecodable") from error
            if self._stream is None:
                raise RecordingError(
                    f"{source.name}: a {facts.kind.name} file without a sound track.", "no_audio"
                )
            self._frames = _Frames(self._container, self._stream)
            self._first = self._frames.first()
            if self._first is None:
                code = "undecodable" if self._frames.failures else "no_audio"
                raise RecordingError(f"{source.name}: no sample could be decoded.", code)
            self._stack = stack.pop_all()
        self.rate_hz, self.channels = (
            int(self._first.sample_rate),
            int(self._first.layout.nb_channels),
        )
        self.expected_samples = self._expected()
        self.exceeds_one = not str(self._stream.codec_context.name).startswith("pcm_")

    def _expected(self) -> int | None:
        stream: Any = self._stream
        duration, base = stream.duration, stream.time_base
        if duration is None and self._container.duration is not None:
            return round(self._container.duration * self.rate_hz / 1_000_000)
        return (
            None if duration is None or not base else round(float(duration * base) * self.rate_hz)
        )

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def read(self, dtype: Literal["float32", "float64"], start: int = 0) -> Iterator[np.ndarray]:
        """Yield the samples in blocks, once.

        Args:
            dtype: Type of the samples.
            start: The sample to begin with; what is decoded before it is thrown away.
        """
        position, held = 0, 0
        waiting: list[np.ndarray] = []
        for block in self._placed(dtype, start):
            position += len(block)
            wanted = block[max(0, len(block) - max(0, position - start)) :]
            if waiting and waiting[0].shape[1] != wanted.shape[1]:
                yield np.concatenate(waiting)
                waiting, held = [], 0
            if len(wanted):
                waiting.append(wanted)
                held += wanted.size
            if held >= BLOCK_SAMPLES:
                yield np.concatenate(waiting)
                waiting, held = [], 0
        if waiting:
            yield np.concatenate(waiting)

    def _placed(self, dtype: str, start: int) -> Iterator[np.ndarray]:
        """Yield frames and the silence between them."""
        container = self._container.format.name
        clock = _Clock(self._stream, self._first, self.rate_hz, container)
        position = gaps = 0
        for frame, lost, following in _with_following(self._frames.all(self._first)):
            if frame.sample_rate != self.rate_hz:
                self._findings.add("rate_change")
                return
            gap = clock.gap(frame, following, position, lost)
            if gap and not self._believable(gaps + gap):
                clock.forget(gap)
                gap = 0
            gaps += gap
            primed = not position and gap < _SURE_GAP
            if gap and not primed and position + gap > start:
                self._findings.add_gap(position / self.rate_hz, (position + gap) / self.rate_hz)
            for first in range(0, gap, BLOCK_SAMPLES):
                yield np.zeros((min(BLOCK_SAMPLES, gap - first), self.channels), dtype)
            position += gap + frame.samples
            yield _samples(frame, dtype)
        if self._frames.unfinished:
            self._findings.add("truncated")

    def _believable(self, gaps: int) -> bool:
        """Say whether gaps may add up to that many samples: what the bytes of the file could have held, and a minute."""
        per_byte = self._frames.samples_a_byte
        return gaps <= max(2 * self._size * per_byte, LONGEST_GAP_S * self.rate_hz)


def _with_following(frames: Iterator[tuple[Any, int]]) -> Iterator[tuple[Any, int, Any]]:
    """Yield each frame, what was lost before it, and the frame after it."""
    held: tuple[Any, int] | None = None
    for frame, lost in frames:
        if held:
            yield *held, frame
        held = frame, lost
    if held:
        yield *held, None


class _Frames:
    """The decoded frames of a stream and the bytes that were lost between them."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self.failures = 0
        self.unfinished = False
        self._lost = self._good = self._samples = 0
        self._running = self._decode()

    def first(self) -> Any:
        """Take the first frame; ``None`` when there is none."""
        return next(self._running, None)

    def all(self, first: Any) -> Iterator[tuple[Any, int]]:
        """Yield every frame, led by the one taken before, with the samples that the bytes lost before it stand for."""
        yield first, 0
        self._samples = first.samples
        for frame in self._running:
            lost, self._lost = self._lost, 0
            yield frame, round(lost * self.samples_a_byte)
            self._samples += frame.samples

    @property
    def samples_a_byte(self) -> float:
        """How many samples a byte stands for, by what was decoded so far."""
        return self._samples / self._good if self._good else 0.0

    def _decode(self) -> Iterator[Any]:
        errors = _errors()
        for packet in self._packets():
            size = packet.size or 0
            try:
                frames = packet.decode()
            except errors:
                self.failures += 1
                self._lost += size
                self.unfinished = True
                continue
            self._good += size
            if frames:
                self.unfinished = False
            yield from frames

    def _packets(self) -> Iterator[Any]:
        errors, failures = _errors(), 0
        packets = self._container.demux(self._stream)
        while failures < 16:
            try:
                packet = next(packets, None)
            except errors:
                failures += 1
                self.failures += 1
                self.unfinished = True
                packets = self._container.demux(self._stream)
                continue
            if packet is None:
                return
            yield packet


class _Clock:
    """Tells from time stamps how many samples are missing before a frame."""

    def __init__(self, stream: Any, first: Any, rate_hz: int, container: str) -> None:
        base = first.time_base or stream.time_base
        self._rate = rate_hz
        self._seconds = float(base) if base else 0.0
        start = stream.start_time
        self._origin = first.pts if start is None or first.pts is None else min(start, first.pts)
        self._tolerance = max(2 * self._seconds, 0.005) * rate_hz
        self._by_bytes = container in _BY_BYTES
        self._shift = 0

    def gap(self, frame: Any, following: Any, position: int, lost: int) -> int:
        """Return how many samples are missing before a frame.

        Args:
            frame: The frame.
            following: The one after it: the stamps of Vorbis jump ahead for a single frame where the block size changes.
            position: Where the frame would stand if nothing was missing.
            lost: Samples that the bytes lost before it stand for.
        """
        at = self._place(frame)
        if at is None:
            return 0
        gap = at - position if at - position > self._tolerance else 0
        after = self._place(following) if following is not None else None
        confirmed = after is None or abs(after - at - frame.samples) <= self._tolerance
        if gap < _SURE_GAP and not (confirmed and following is not None):
            gap = 0
        if self._by_bytes and lost > gap:
            whole = max(1, round(lost / frame.samples)) * frame.samples
            self._shift += whole - gap
            return whole
        return gap

    def _place(self, frame: Any) -> int | None:
        if frame.pts is None or self._origin is None or not self._seconds:
            return None
        return round((frame.pts - self._origin) * self._seconds * self._rate) + self._shift

    def forget(self, gap: int) -> None:
        """Take a gap for an error of the time stamps, here and from here on."""
        self._shift -= gap


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"the decoder says: {text}"


def _samples(frame: Any, dtype: str) -> np.ndarray:
    """Return a frame as ``(samples, channels)`` with full scale at 1."""
    array = frame.to_ndarray()
    columns = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    if columns.dtype.kind == "f":
        return columns.astype(dtype)
    bits = 8 * columns.dtype.itemsize
    centre = 1 << bits - 1 if columns.dtype.kind == "u" else 0
    return ((columns.astype(np.float64) - centre) / (1 << bits - 1)).astype(dtype)
