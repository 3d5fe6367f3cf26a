"""What a file says about itself before it is decoded, and what is wrong with that.

One function a format, one row in ``HEADERS``. Decodes nothing. The surprise: an Ogg stream says that it is complete only by a
bit in its last page.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from NatureLM.audio.riff import read_wav_facts
from NatureLM.audio.sniff import HEAD_BYTES, Kind, id3_size, mp3_frame
from NatureLM.audio.sources import ByteSource
from NatureLM.errors import RecordingError


@dataclass(frozen=True)
class Facts:
    """What is known of a file before it is decoded.

    Attributes:
        kind: The type of content.
        rate_hz: Sample rate in the header, if it was read.
        channels: Channels in the header, if they were read.
        samples: Samples a channel that should come out, if the header says so exactly.
        reader: Who decodes the file first.
        av_options: Options for PyAV's demultiplexer.
        flags: Codes of what is wrong but harmless.
    """

    kind: Kind
    rate_hz: int | None = None
    channels: int | None = None
    samples: int | None = None
    reader: str = "av"
    av_options: dict[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def read_facts(source: ByteSource, kind: Kind) -> Facts:
    """Read the header of a file, as far as its format has a row in ``HEADERS``.

    Raises:
        RecordingError: The header cannot be right, or there is no audio behind it.
    """
    read = HEADERS.get(kind.name)
    return read(source, kind) if read else Facts(kind, reader=kind.reader)


def _wav(source: ByteSource, kind: Kind) -> Facts:
    facts = read_wav_facts(source)
    header = facts.header
    options = {"ignore_length": "1"} if facts.to_the_end else {}
    reader = "av" if facts.to_the_end else kind.reader
    return Facts(kind, header.rate_hz, header.channels, facts.samples, reader, options, facts.flags)


def _aiff(source: ByteSource, kind: Kind) -> Facts:
    """Walk the chunks of an AIFF file for a sound chunk that is cut off or empty."""
    at = 12
    with source.open() as file:
        while at + 8 <= source.size:
            file.seek(at)
            name, size = struct.unpack(">4sI", file.read(8))
            if name == b"SSND":
                if source.size <= at + 16:
                    raise RecordingError(
                        f"{source.name}: an AIFF header and no samples after it.", "no_audio"
                    )
                cut = at + 8 + size > source.size
                return Facts(kind, reader=kind.reader, flags=("truncated",) if cut else ())
            at += 8 + size + size % 2
    raise RecordingError(f"{source.name}: an AIFF file without a sound chunk.", "no_audio")


def _flac(source: ByteSource, kind: Kind) -> Facts:
    with source.open() as file:
        start = id3_size(file.read(10))
        file.seek(start + 4)
        block = file.read(38)
        if len(block) < 22 or block[0] & 0x7F:
            raise RecordingError(
                f"{source.name}: a FLAC file that ends before it describes its audio.", "bad_header"
            )
        packed = int.from_bytes(block[14:22], "big")
        audio_at, last = start + 8 + int.from_bytes(block[1:4], "big"), block[0] & 0x80
        while not last:
            file.seek(audio_at)
            head = file.read(4)
            if len(head) < 4:
                break
            last, audio_at = head[0] & 0x80, audio_at + 4 + int.from_bytes(head[1:], "big")
        file.seek(audio_at)
        content = file.read(HEAD_BYTES)
    rate_hz, channels, samples = packed >> 44, (packed >> 41 & 7) + 1, packed & (1 << 36) - 1
    if not content.strip(b"\0"):
        if samples:
            raise RecordingError(
                f"{source.name}: the header announces {samples:,} samples, the file holds none.",
                "FL001 stub",
            )
        raise RecordingError(f"{source.name}: a FLAC header and no samples after it.", "no_audio")
    return Facts(kind, rate_hz, channels, samples or None, kind.reader)


def _ogg(source: ByteSource, kind: Kind) -> Facts:
    """Look for the bit in the last page that says that the stream is complete."""
    with source.open() as file:
        file.seek(max(0, source.size - 2 * HEAD_BYTES))
        tail = file.read(2 * HEAD_BYTES)
    at = tail.rfind(b"OggS")
    page = tail[at:] if at >= 0 else b""
    whole = len(page) >= 27 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
    ended = whole and bool(page[5] & 4)
    return Facts(kind, reader=kind.reader, flags=() if ended else ("truncated",))


def _mp3(source: ByteSource, kind: Kind) -> Facts:
    """Compare the bytes that a Xing header announces with the bytes that are there."""
    with source.open() as file:
        start = id3_size(file.read(10))
        file.seek(start)
        head = file.read(HEAD_BYTES)
    found = next(
        ((at, f) for at in range(min(4096, len(head))) if (f := mp3_frame(head, at))), None
    )
    if found is None:
        return Facts(kind, reader=kind.reader)
    at, frame = found
    xing = head[at + 4 + frame.side_bytes :][:16]
    if xing[:4] not in (b"Xing", b"Info") or len(xing) < 16:
        return Facts(kind, reader=kind.reader)
    has_frames, has_bytes = xing[7] & 1, xing[7] & 2
    announced = int.from_bytes(xing[12:16] if has_frames else xing[8:12], "big") if has_bytes else 0
    cut = source.size - start - at < announced
    return Facts(kind, reader=kind.reader, flags=("truncated",) if cut else ())


def _wave64(source: ByteSource, kind: Kind) -> Facts:
    with source.open() as file:
        announced = int.from_bytes(file.read(24)[16:], "little")
    return Facts(kind, reader=kind.reader, flags=("truncated",) if announced > source.size else ())


def _au(source: ByteSource, kind: Kind) -> Facts:
    with source.open() as file:
        head = file.read(12)
    begin, size = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
    cut = size != 0xFFFF_FFFF and begin + size > source.size
    return Facts(kind, reader=kind.reader, flags=("truncated",) if cut else ())


def _caf(source: ByteSource, kind: Kind) -> Facts:
    at, cut = 8, False
    with source.open() as file:
        while at + 12 <= source.size and not cut:
            file.seek(at)
            size = struct.unpack(">4sq", file.read(12))[1]
            if size < 0:
                break
            at += 12 + size
            cut = at > source.size
    return Facts(kind, reader=kind.reader, flags=("truncated",) if cut else ())


HEADERS: dict[str, Callable[[ByteSource, Kind], Facts]] = {
    "WAV": _wav,
    "AIFF": _aiff,
    "FLAC": _flac,
    "OGG": _ogg,
    "MP3": _mp3,
    "Wave64": _wave64,
    "AU": _au,
    "CAF": _caf,
}
"""Name of a kind -> what reads its header."""
