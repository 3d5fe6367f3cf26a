"""Sound files made for tests: whole ones in every format, and raw WAV headers with anything in them."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import soundfile as sf

RATE_HZ = 48_000


def tone(
    seconds: float, rate_hz: int = RATE_HZ, hz: float = 1500.0, *, level: float = 0.3
) -> np.ndarray:
    """Write a tone with a little noise, float32."""
    count = round(seconds * rate_hz)
    noise = np.random.default_rng(0).standard_normal(count)
    wave = level * np.sin(2 * np.pi * hz * np.arange(count) / rate_hz)
    return (wave + 0.01 * level * noise).astype(np.float32)


def encoded(
    samples: np.ndarray, form: str, subtype: str | None = None, rate_hz: int = RATE_HZ
) -> bytes:
    """Encode with libsndfile, in blocks: one long write of Vorbis crashes it."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    buffer = io.BytesIO()
    with sf.SoundFile(buffer, "w", rate_hz, channels, format=form, subtype=subtype) as file:
        for first in range(0, len(samples), 24_000):
            file.write(samples[first : first + 24_000])
    return buffer.getvalue()


def muxed(samples: np.ndarray, container: str, codec: str, rate_hz: int = RATE_HZ) -> bytes:
    """Encode with FFmpeg."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz)
        stream.layout = "mono"
        wanted = stream.codec_context.format.name if stream.codec_context.format else "fltp"
        resampler = av.AudioResampler(format=wanted, layout="mono", rate=rate_hz)
        for first in range(0, len(samples), 1024):
            block = np.ascontiguousarray(samples[None, first : first + 1024])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate_hz, first
            for ready in resampler.resample(frame):
                output.mux(stream.encode(ready))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def wav(
    data: bytes = b"",
    *,
    rate_hz: int = RATE_HZ,
    channels: int = 1,
    bits: int = 16,
    tag: int = 1,
    block_bytes: int | None = None,
    declared: int | None = None,
    after: bytes = b"",
    extra: bytes = b"",
) -> bytes:
    """Write a WAV file with any header."""
    block = channels * bits // 8 if block_bytes is None else block_bytes
    form = struct.pack(
        "<HHIIHH", tag, channels, rate_hz % 2**32, rate_hz * block % 2**32, block % 2**16, bits
    )
    form += extra
    size = len(data) if declared is None else declared
    body = (
        b"fmt "
        + struct.pack("<I", len(form))
        + form
        + b"data"
        + struct.pack("<I", size)
        + data
        + after
    )
    return b"RIFF" + struct.pack("<I", min(4 + len(body), 2**32 - 1)) + b"WAVE" + body


def pcm(samples: np.ndarray) -> bytes:
    """Write 16-bit samples."""
    return np.clip(np.round(samples * 32768.0), -32768, 32767).astype("<i2").tobytes()


def pcm_wav(samples: np.ndarray, rate_hz: int = RATE_HZ) -> bytes:
    """Write a plain 16-bit WAV file."""
    return wav(pcm(samples), rate_hz=rate_hz)
