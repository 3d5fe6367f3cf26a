"""Recordings that came with a request: base64 or an allowed file into a waveform, bounded before anything is decoded in full.

Knows audio and limits, no HTTP. The surprise: a missing file and a forbidden one get the same words, so that nobody can feel
their way along the disk.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from NatureLM.audio.options import ReadOptions
from NatureLM.audio.recording import open_recording
from NatureLM.errors import RecordingError
from NatureLM.serve.limits import Limits

PayloadKind = Literal["base64_wav", "file_path", "file_url"]
TOO_MUCH = ("audio_too_long", "audio_too_large")
"""Codes of recordings that are refused for their size."""


@dataclass(frozen=True)
class Payload:
    """One recording of a request.

    Attributes:
        kind: How it is carried.
        data: Base64 text, or a path.
    """

    kind: PayloadKind
    data: str


@dataclass(frozen=True)
class Heard:
    """What the model hears of a recording.

    Attributes:
        waveform: Mono at the model's rate.
        given_s: Length of the recording.
        heard_s: Length of what is heard, from its start.
    """

    waveform: np.ndarray
    given_s: float
    heard_s: float


def kinds_taken(limits: Limits) -> list[PayloadKind]:
    """List the payload types that this server takes."""
    return ["base64_wav", "file_path"] if limits.allowed_folders else ["base64_wav"]


def hear(payload: Payload, rate_hz: int, most_s: float, limits: Limits) -> Heard:
    """Decode a payload.

    Args:
        payload: The recording.
        rate_hz: The model's rate.
        most_s: How much of it the model is to hear.
        limits: What is refused.

    Raises:
        RecordingError: It cannot be read, or is refused.
    """
    content = (
        _file(payload.data, limits)
        if payload.kind == "file_path"
        else _base64(payload.data, limits)
    )
    recording = open_recording(content, options=ReadOptions(max_duration_s=limits.max_audio_s))
    waveform = recording.waveform(rate_hz)
    heard = waveform[: max(1, round(most_s * rate_hz))]
    if not len(heard):
        raise RecordingError("no sample could be decoded", "no_audio")
    return Heard(heard, recording.duration_s, len(heard) / rate_hz)


def _base64(text: str, limits: Limits) -> bytes:
    if len(text) * 3 // 4 > limits.max_audio_bytes + 3:
        raise _too_large(len(text) * 3 // 4, limits)
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RecordingError(f"not base64 ({error})", "not_base64") from error
    if not content:
        raise RecordingError("the recording holds no bytes", "OE004 empty")
    return content


def _too_large(size: int, limits: Limits) -> RecordingError:
    return RecordingError(
        f"about {size:,} bytes; at most {limits.max_audio_bytes:,} are taken", "audio_too_large"
    )


def _file(name: str, limits: Limits) -> bytes:
    refused = RecordingError("no such file in an allowed folder", "file_refused")
    try:
        path = Path(name).resolve(strict=True)
        if not any(path.is_relative_to(folder.resolve()) for folder in limits.allowed_folders):
            raise refused
        handle = os.open(
            path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise refused from error
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise refused
        if facts.st_size > limits.max_audio_bytes:
            raise _too_large(facts.st_size, limits)
        return _whole(handle, limits.max_audio_bytes)
    finally:
        os.close(handle)


def _whole(handle: int, most: int) -> bytes:
    """Read an open file, no further than it may be large."""
    blocks, left = [], most
    while left and (block := os.read(handle, min(left, 2**20))):
        blocks.append(block)
        left -= len(block)
    return b"".join(blocks)
