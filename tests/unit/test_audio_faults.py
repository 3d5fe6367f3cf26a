"""Everything a file can do to reading, with the outcome that the user is promised: a fault with its code, or a flag."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import pytest

from NatureLM.audio.flags import FAULTS, FLAGS, describe
from NatureLM.audio.options import ReadOptions
from NatureLM.audio.recording import Recording, WindowAudio, open_recording
from NatureLM.audio.windows import WindowPlan
from NatureLM.errors import RecordingError
from tests import sounds

TONE = sounds.tone(12.0)
DATA = sounds.pcm(TONE)
NOISE = np.random.default_rng(0).integers(0, 256, 50_000, dtype=np.uint8).tobytes()


@dataclass(frozen=True)
class Read:
    recording: Recording
    windows: list[WindowAudio]

    @property
    def flags(self) -> set[str]:
        return set(self.recording.flags)

    @property
    def waveform(self) -> np.ndarray:
        return np.concatenate([audio.waveform for audio in self.windows])


def read(content: bytes, rate_hz: int = 48_000, options: ReadOptions | None = None) -> Read:
    recording = open_recording(content, options=options)
    windows = list(recording.windows(WindowPlan(), rate_hz))
    for audio in windows:
        assert audio.waveform.dtype == np.float32
        assert np.isfinite(audio.waveform).all()
        assert np.abs(audio.waveform).max() <= 1
    assert set(recording.flags) <= set(FLAGS)
    return Read(recording, windows)


FAULTY = {
    "no bytes": (b"", "OE004 empty", "empty"),
    "header only": (sounds.wav(), "no_audio", "no samples"),
    "header and another chunk": (sounds.wav(after=b"LIST" + struct.pack("<I", 4) + b"INFO"), "no_audio", "no samples"),
    "stub": (sounds.wav(declared=50_000_000), "FL001 stub", "stub"),
    "stream without audio": (sounds.wav(declared=0xFFFFFFFF), "no_audio", "no samples"),
    "FLAC stub": (sounds.encoded(TONE, "FLAC")[:42] + bytes(9000), "FL001 stub", "announces"),
    "zeros": (bytes(5000), "not_audio", "zero bytes"),
    "random": (NOISE, "not_audio", "unknown binary"),
    "text": (b"a line of text\n" * 99, "not_audio", "text"),
    "HTML": (b"<!DOCTYPE html><html><body>404</body></html>", "not_audio", "HTML"),
    "JSON": (b'{"error": "not found"}', "not_audio", "JSON"),
    "playlist": (b"#EXTM3U\nfile:///etc/passwd\n", "not_audio", "text"),
    "ZIP": (b"PK\x03\x04" + bytes(99), "not_audio", "ZIP"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(99), "not_audio", "PNG"),
    "RIFF but not WAVE": (b"RIFF\x10\0\0\0WEBPVP8 " + bytes(99), "not_audio", "WebP"),
    "rate 0": (sounds.wav(DATA, rate_hz=0), "bad_header", "0 Hz"),
    "rate 4e9": (sounds.wav(DATA, rate_hz=4_000_000_000), "bad_header", "4000000000"),
    "rate 1": (sounds.wav(DATA, rate_hz=1), "implausible_rate", "force-rate"),
    "rate 2 MHz": (sounds.wav(DATA, rate_hz=2_000_000), "implausible_rate", "force-rate"),
    "0 bits": (sounds.wav(DATA, bits=0, block_bytes=2), "bad_header", "0 bits"),
    "0 channels": (sounds.wav(DATA, channels=0, block_bytes=2), "bad_header", "0 channels"),
    "65 channels": (sounds.wav(DATA, channels=65), "bad_header", "65 channels"),
    "0 bytes a sample": (sounds.wav(DATA, block_bytes=0), "bad_header", "0 bytes"),
    "ADPCM overflow": (sounds.wav(DATA, tag=0x11, bits=4, block_bytes=1024, extra=struct.pack("<HH", 2, 0xFFFF)), "bad_header", "ADPCM"),
    "ADPCM block too small": (sounds.wav(DATA, tag=0x11, bits=4, channels=2, block_bytes=3, extra=struct.pack("<HH", 2, 505)), "bad_header", "ADPCM"),
    "header cut": (sounds.wav(DATA)[:20], "bad_header", "fmt"),
    "audio before its description": (b"RIFF\x24\0\0\0WAVEdata\x04\0\0\0\0\0\0\0", "bad_header", "fmt"),
    "FLAC head": (sounds.encoded(TONE, "FLAC")[:20], "bad_header", "FLAC"),
    "AIFF without sound": (sounds.encoded(TONE, "AIFF")[:40], "no_audio", "AIFF"),
    "Ogg head": (sounds.encoded(TONE, "OGG")[:100], "undecodable", "file"),
    "M4A without its index": (sounds.muxed(TONE, "ipod", "aac")[:30_000], "undecodable", "index"),
    "ID3 and nothing": (b"ID3\x04\0\0\0\0\0\x10" + bytes(16), "undecodable", "decoder"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTY)
def test_faults(case: str) -> None:
    content, code, words = FAULTY[case]
    with pytest.raises(RecordingError, match=words) as caught:
        read(content)
    assert caught.value.code == code
    assert code in FAULTS
    assert str(caught.value).startswith("<bytes>: ")
    assert "object at 0x" not in str(caught.value)


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


TELLING = {
    "whole": (sounds.wav(DATA), set(), 12.0),
    "cut half-way": (sounds.wav(DATA)[: len(DATA) // 2], {"truncated"}, 6.0),
    "size 0 before audio": (sounds.wav(DATA, declared=0), {"FL012"}, 12.0),
    "size of a stream": (sounds.wav(DATA, declared=0xFFFFFFFF), set(), 12.0),
    "size of a sox pipe": (sounds.wav(DATA, declared=0x7FFFF000), set(), 12.0),
    "size of the file": (sounds.wav(DATA, declared=len(DATA) + 44), {"FL005"}, 12.0),
    "a chunk after the audio": (sounds.wav(DATA, after=b"guan" + struct.pack("<I", 8) + b"GUANO|V:"), set(), 12.0),
    "8 kHz": (sounds.wav(sounds.pcm(sounds.tone(12.0, 8000)), rate_hz=8000), {"bandwidth_4kHz"}, 12.0),
    "forced rate": (sounds.wav(DATA), set(), 12.0),
    "FLAC cut": (_half(sounds.encoded(TONE, "FLAC")), {"truncated", "decoder_fallback"}, 5.97),
    "MP3 cut": (_half(sounds.encoded(TONE, "MP3")), {"truncated"}, 5.95),
    "Vorbis cut": (_half(sounds.encoded(TONE, "OGG", "VORBIS")), {"truncated"}, 5.37),
    "Opus cut": (_half(sounds.encoded(TONE, "OGG", "OPUS")), {"truncated"}, 4.97),
    "AIFF cut": (_half(sounds.encoded(TONE, "AIFF")), {"truncated"}, 6.0),
    "W64 cut": (_half(sounds.encoded(TONE, "W64")), {"truncated"}, 6.0),
    "AU cut": (_half(sounds.encoded(TONE, "AU")), {"truncated"}, 6.0),
    "CAF cut": (_half(sounds.encoded(TONE, "CAF")), {"truncated"}, 5.96),
    "Matroska cut": (_half(sounds.muxed(TONE, "matroska", "flac")), {"truncated"}, 5.95),
}  # fmt: skip


@pytest.mark.parametrize("case", TELLING)
def test_flags_and_what_is_there(case: str) -> None:
    content, flags, seconds = TELLING[case]
    got = read(content)
    assert got.flags == flags
    assert got.recording.duration_s == pytest.approx(seconds, abs=0.05)
    assert got.windows[-1].window.end_s == pytest.approx(got.recording.duration_s)
    assert len(got.waveform) == pytest.approx(got.recording.duration_s * 48_000, abs=2)
    assert all(
        describe(flag) in note
        for flag, note in zip(got.recording.flags, got.recording.notes, strict=True)
    )


@pytest.mark.parametrize(
    ("form", "subtype"), [("MP3", None), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS")]
)
def test_garbage_in_the_middle_is_a_gap_and_the_rest_keeps_its_time(
    form: str, subtype: str | None
) -> None:
    marked = TONE.copy()
    marked[480_000:] = sounds.tone(2.0, hz=6000.0)
    content = bytearray(sounds.encoded(marked, form, subtype))
    middle = len(content) // 2
    content[middle : middle + 4000] = NOISE[:4000]
    got = read(bytes(content))
    assert "gap" in got.flags
    ((start_s, end_s),) = got.recording.gaps
    assert 4.5 < start_s < 6.5 < end_s + 0.5 < 8.0
    assert got.recording.duration_s == pytest.approx(12.0, abs=0.05)
    assert "gap" in got.windows[0].flags
    assert "gap" not in got.windows[1].flags
    assert any(f"{start_s:.2f}-{end_s:.2f} s" in note for note in got.recording.notes)
    late = np.abs(np.fft.rfft(got.waveform[485_000:565_000])).argmax() * 48_000 / 80_000
    early = np.abs(np.fft.rfft(got.waveform[400_000:470_000])).argmax() * 48_000 / 70_000
    assert late == pytest.approx(6000, abs=5)
    assert early == pytest.approx(1500, abs=5)


def test_samples_beyond_full_scale_and_no_numbers() -> None:
    wild = TONE.copy()
    wild[1000], wild[-1000] = 1e30, -1e30
    got = read(sounds.encoded(wild, "WAV", "FLOAT"), 16_000)
    assert got.flags == {"overrange"}
    broken = TONE.copy()
    broken[[5, 6, 7]] = np.nan, np.inf, -np.inf
    got = read(sounds.encoded(broken, "WAV", "FLOAT"))
    assert got.flags == {"not_finite"}
    assert not got.waveform[5:8].any()
    np.testing.assert_array_equal(got.waveform[8:], TONE[8:])
    assert [audio.flags for audio in got.windows] == [("not_finite",), ()]


def test_digital_silence() -> None:
    half = np.concatenate([TONE[:480_000], np.zeros(480_000, np.float32)])
    got = read(sounds.pcm_wav(half))
    assert [audio.flags for audio in got.windows] == [(), ("silent",)]
    assert "silent" not in got.flags
    assert read(sounds.pcm_wav(np.zeros(500_000))).flags == {"silent"}
    quiet = np.random.default_rng(0).choice([-1, 0, 1], 480_000) / 32768
    assert not read(sounds.pcm_wav(quiet)).flags


def test_an_offset_is_removed_only_when_it_is_one() -> None:
    got = read(sounds.pcm_wav(0.3 * TONE + 0.3))
    assert got.flags == {"dc_offset"}
    assert abs(float(got.waveform.mean())) < 1e-4
    assert read(sounds.pcm_wav(np.full(480_000, 0.25))).flags == {"dc_offset", "silent"}
    for ordinary in (TONE, TONE + 0.003, sounds.tone(0.01, hz=20.0), sounds.tone(3.0, hz=0.2)):
        file = sounds.encoded(ordinary.astype(np.float32), "WAV", "FLOAT")
        np.testing.assert_array_equal(read(file).waveform, ordinary.astype(np.float32))


def test_nine_samples() -> None:
    content = sounds.wav(DATA[:18])
    got = read(content)
    assert got.windows[0].window.end_s == 9 / 48_000
    assert len(got.waveform) == 9
    with pytest.raises(RecordingError, match=r"expected at least 0\.50 s") as caught:
        read(content, options=ReadOptions(min_duration_s=0.5))
    assert caught.value.code == "too_short"


def test_too_long_is_told_before_it_is_decoded() -> None:
    content = sounds.encoded(np.zeros(48_000 * 60), "FLAC")
    with pytest.raises(RecordingError, match=r"at most 30\.00 s") as caught:
        open_recording(content, options=ReadOptions(max_duration_s=30.0))
    assert caught.value.code == "audio_too_long"


def test_ultrasound() -> None:
    bat = sounds.wav(sounds.pcm(sounds.tone(3.0, 384_000, 45_000.0)), rate_hz=384_000)
    assert read(bat, 16_000).flags == {"energy_above_8kHz"}
    assert read(bat, 48_000).flags == {"energy_above_24kHz"}
    assert not read(bat, 48_000, ReadOptions(band_limit_hz=96_000)).flags
    low = sounds.wav(sounds.pcm(sounds.tone(3.0, 384_000, 3000.0)), rate_hz=384_000)
    assert not read(low, 16_000).flags
    assert not read(sounds.pcm_wav(np.random.default_rng(0).normal(0, 0.1, 480_000)), 16_000).flags
    slow = read(bat, 16_000, ReadOptions(slow_down=10.0))
    assert not slow.flags
    assert [(audio.window.start_s, audio.window.end_s) for audio in slow.windows] == [
        (0, 1),
        (1, 2),
        (2, 3),
    ]
    heard = np.abs(np.fft.rfft(slow.windows[0].waveform)).argmax() * 16_000 / 160_000
    assert heard == pytest.approx(4500, abs=1)


def test_a_forced_rate_is_believed() -> None:
    got = read(sounds.wav(DATA, rate_hz=1), options=ReadOptions(force_rate_hz=24_000))
    assert got.flags == {"forced_rate"}
    assert got.recording.duration_s == 24.0


def test_phantoms_of_a_cut_mp3_do_not_appear() -> None:
    """The header of the MP3 promises 12 s; repeating the last block up to there would make a second window."""
    got = read(_half(sounds.encoded(TONE, "MP3")))
    assert len(got.windows) == 1


def test_every_code_has_a_meaning() -> None:
    assert describe("energy_above_12kHz").startswith("Most of the energy lies above 12 kHz")
    assert describe("mystery") == "mystery"
    assert all(text.endswith(".") for text in (*FLAGS.values(), *FAULTS.values()))


def test_the_published_mode_flags_and_does_not_touch() -> None:
    loud = np.where(np.arange(96_000) == 500, 3.0, sounds.tone(1.0, 96_000, 30_000.0)).astype(
        np.float32
    )
    recording = open_recording(sounds.encoded(loud, "WAV", "FLOAT", 96_000))
    (audio,) = recording.windows(WindowPlan(1.0, 1.0), 96_000, "published")
    assert set(audio.flags) == set(recording.flags) == {"overrange"}
    np.testing.assert_array_equal(audio.waveform, np.clip(loud, -1, 1))
    (audio,) = recording.windows(WindowPlan(1.0, 1.0), 16_000, "published")
    assert "energy_above_8kHz" in audio.flags
    offset = open_recording(np.full(48_000, 0.25), rate_hz=48_000)
    (audio,) = offset.windows(WindowPlan(1.0, 1.0), 48_000, "published")
    assert (audio.waveform == 0.25).all()
