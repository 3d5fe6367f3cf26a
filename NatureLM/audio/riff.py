"""The header of a WAV file, read for what decoders pass over in silence: impossible numbers, stubs, wrong sizes.

Knows RIFF, RIFX, RF64 and BW64, decodes nothing. The surprise: a size of 0xFFFFFFFF is no fault but the mark of a stream, and a
size of 0 in front of audio is what a recorder leaves that lost power.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from NatureLM.audio.sources import ByteSource
from NatureLM.errors import RecordingError

STREAMED_FROM = 0x7FFF_F000
"""Declared sizes from here on are what programs write that do not know the size yet."""

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE, _MS_ADPCM, _IMA_ADPCM = 1, 3, 6, 7, 0xFFFE, 2, 0x11
_LINEAR = (_PCM, _FLOAT, _ALAW, _MULAW)


@dataclass(frozen=True)
class WavHeader:
    """What the header of a WAV file says, and what the file holds.

    Attributes:
        tag: Format tag, of an extensible header the one inside.
        channels: Number of channels.
        rate_hz: Sample rate.
        block_bytes: Bytes of one sample of all channels, or of a block of a compressed format.
        bits: Bits a sample.
        samples_per_block: Of ADPCM, else 0.
        data_at: Where the audio begins; 0 while it is not found.
        declared_bytes: Size of the audio in the header.
        available_bytes: Bytes from ``data_at`` to the end of the file.
    """

    tag: int
    channels: int
    rate_hz: int
    block_bytes: int
    bits: int
    samples_per_block: int = 0
    data_at: int = 0
    declared_bytes: int = 0
    available_bytes: int = 0


@dataclass(frozen=True)
class WavFacts:
    """What follows from a header for whoever decodes the file.

    Attributes:
        header: The header.
        samples: Samples a channel that the file holds; ``None`` for compressed formats.
        flags: Codes of what is wrong but harmless.
        to_the_end: The size in the header is to be passed over: everything to the end of the file is audio.
    """

    header: WavHeader
    samples: int | None
    flags: tuple[str, ...] = ()
    to_the_end: bool = False


def read_wav_facts(source: ByteSource) -> WavFacts:
    """Read the header of a WAV file and judge it.

    Raises:
        RecordingError: ``bad_header``, ``no_audio`` or ``FL001 stub``.
    """
    with source.open() as file:
        header = _read(source, file)
        _check_numbers(source.name, header)
        chunks_follow = not header.declared_bytes and _is_chunks(file, header.data_at, source.size)
    return _judge(source, header, chunks_follow=chunks_follow)


def _chunks(file: BinaryIO, first: int, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Walk the chunks: name, where the content begins, declared size."""
    at, count = first, 0
    while at + 8 <= size and count < 10_000:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        name, length = head[:4], struct.unpack(order + "I", head[4:])[0]
        yield name, at + 8, length
        at, count = at + 8 + length + length % 2, count + 1


def _read(source: ByteSource, file: BinaryIO) -> WavHeader:
    order = ">" if file.read(4) == b"RIFX" else "<"
    header: WavHeader | None = None
    wide: int | None = None
    for name, at, length in _chunks(file, 12, source.size, order):
        if name == b"ds64":
            content = file.read(16)
            wide = struct.unpack("<Q", content[8:16])[0] if len(content) == 16 else None
        elif name == b"fmt ":
            header = _format(source.name, file.read(min(length, 64)), order)
        elif name == b"data":
            if header is None:
                raise RecordingError(
                    f"{source.name}: audio without a description of it (no 'fmt ' chunk before 'data').",
                    "bad_header",
                )
            declared = wide if wide is not None and length in (0xFFFF_FFFF, 0) else length
            return replace(
                header,
                data_at=at,
                declared_bytes=declared,
                available_bytes=max(0, source.size - at),
            )
    if header is None:
        raise RecordingError(
            f"{source.name}: a WAV header that ends before it describes any audio.", "bad_header"
        )
    return header


def _format(name: str, content: bytes, order: str) -> WavHeader:
    if len(content) < 14:
        raise RecordingError(
            f"{name}: the 'fmt ' chunk has {len(content)} bytes; expected at least 14.",
            "bad_header",
        )
    tag, channels, rate_hz, _, block_bytes = struct.unpack(order + "HHIIH", content[:14])
    bits = struct.unpack(order + "H", content[14:16])[0] if len(content) >= 16 else 0
    if tag == _EXTENSIBLE and len(content) >= 26:
        tag = struct.unpack(order + "H", content[24:26])[0]
    adpcm = tag in (_MS_ADPCM, _IMA_ADPCM) and len(content) >= 20
    samples = struct.unpack(order + "H", content[18:20])[0] if adpcm else 0
    return WavHeader(tag, channels, rate_hz, block_bytes, bits, samples)


def _check_numbers(name: str, header: WavHeader) -> None:
    if header.tag in _LINEAR and not 1 <= header.bits <= 64:
        raise RecordingError(
            f"{name}: the header says {header.bits} bits a sample; expected 8 to 64.", "bad_header"
        )
    if header.block_bytes == 0:
        raise RecordingError(f"{name}: the header says 0 bytes a sample.", "bad_header")
    if header.tag in (_MS_ADPCM, _IMA_ADPCM):
        preamble = (7 if header.tag == _MS_ADPCM else 4) * header.channels
        most = (header.block_bytes - preamble) * 2 // max(1, header.channels) + 2
        if header.block_bytes <= preamble or not 0 < header.samples_per_block <= most:
            raise RecordingError(
                f"{name}: an ADPCM block of {header.block_bytes} bytes cannot hold {header.samples_per_block} samples "
                f"of {header.channels} channels.",
                "bad_header",
            )


def _is_chunks(file: BinaryIO, first: int, size: int) -> bool:
    """Say whether nothing but further chunks stands from here to the end of the file."""
    if first >= size:
        return False
    end = first
    for name, at, length in _chunks(file, first, size, "<"):
        if not all(32 <= letter < 127 for letter in name) or at + length > size:
            return False
        end = at + length + length % 2
    return end >= size


def _judge(source: ByteSource, header: WavHeader, *, chunks_follow: bool) -> WavFacts:
    declared, available = header.declared_bytes, header.available_bytes
    if not header.data_at or (not declared and (not available or chunks_follow)):
        raise RecordingError(f"{source.name}: a WAV header and no samples after it.", "no_audio")
    if not available:
        if declared >= STREAMED_FROM:
            raise RecordingError(
                f"{source.name}: a WAV header and no samples after it.", "no_audio"
            )
        raise RecordingError(
            f"{source.name}: the header announces {declared:,} bytes of audio, the file holds none: a stub that a "
            "recorder laid out and never filled.",
            "FL001 stub",
        )
    flags, to_the_end = _size_flags(source.size, declared, available)
    held = available if to_the_end or declared > available else declared
    linear = header.tag in _LINEAR
    return WavFacts(header, held // header.block_bytes if linear else None, flags, to_the_end)


def _size_flags(file_bytes: int, declared: int, available: int) -> tuple[tuple[str, ...], bool]:
    if not declared:
        return ("FL012",), True
    if declared < available and available - declared >= 0xFFFF_0000:
        return ("size_wrapped",), True
    if declared <= available or STREAMED_FROM <= declared <= 0xFFFF_FFFF:
        return (), False
    return (("FL005",) if declared <= file_bytes else ("truncated",)), False
