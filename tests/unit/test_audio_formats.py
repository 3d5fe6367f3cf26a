"""Every format is the same recording; content decides, not the name; paths of any shape; where bytes may come from."""

from __future__ import annotations

import gc
import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from NatureLM.audio.recording import open_recording
from NatureLM.audio.windows import WindowPlan
from NatureLM.errors import RecordingError, WindowError
from tests import sounds

TONE = sounds.tone(3.0)

LOSSLESS = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAVEX", "PCM_16"), ("RF64", "PCM_16"),
    ("RF64", "PCM_24"), ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT"), ("AU", "PCM_16"), ("CAF", "PCM_24"), ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"), ("NIST", "PCM_16"), ("VOC", "PCM_16"),
]  # fmt: skip
LOSSY = [
    ("WAV", "ULAW"),
    ("WAV", "ALAW"),
    ("WAV", "PCM_U8"),
    ("WAV", "IMA_ADPCM"),
    ("WAV", "MS_ADPCM"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", None),
]
MUXED = [("ipod", "aac"), ("adts", "aac"), ("mp4", "alac"), ("matroska", "flac"), ("webm", "libopus"), ("ogg", "flac"), ("wv", "wavpack"), ("tta", "tta"), ("ac3", "ac3")]  # fmt: skip


def whole(content: bytes, rate_hz: int = sounds.RATE_HZ) -> np.ndarray:
    recording = open_recording(content)
    waveform = recording.waveform(rate_hz)
    assert not recording.flags
    return waveform


@pytest.mark.parametrize(("form", "subtype"), LOSSLESS)
def test_lossless_formats_give_what_went_in(form: str, subtype: str) -> None:
    got = whole(sounds.encoded(TONE, form, subtype))
    np.testing.assert_allclose(got, TONE, atol=2**-15, rtol=0)


@pytest.mark.parametrize(("form", "subtype"), LOSSY)
def test_lossy_formats_give_about_that(form: str, subtype: str | None) -> None:
    _is_about_the_tone(whole(sounds.encoded(TONE, form, subtype)))


@pytest.mark.parametrize(("container", "codec"), MUXED)
def test_what_only_ffmpeg_reads(container: str, codec: str) -> None:
    try:
        content = sounds.muxed(TONE, container, codec)
    except (ValueError, OSError):
        pytest.skip(f"this FFmpeg does not write {codec}")
    _is_about_the_tone(whole(content))


def _is_about_the_tone(got: np.ndarray) -> None:
    assert len(got) == pytest.approx(len(TONE), abs=5000)
    middle = got[48_000:96_000]
    assert np.abs(np.fft.rfft(middle)).argmax() == pytest.approx(1500, abs=1)
    assert middle.std() == pytest.approx(TONE.std(), rel=0.05)


def test_ordinary_recordings_pass_bit_for_bit() -> None:
    np.testing.assert_array_equal(
        whole(sounds.pcm_wav(TONE)), np.round(TONE * 32768) / np.float32(32768)
    )


def test_channels_are_mixed_by_their_mean() -> None:
    left, right, third = TONE, sounds.tone(3.0, hz=500.0), np.zeros_like(TONE)
    for columns in ([left, right], [left, right, third], [left, right, third, left]):
        got = whole(sounds.encoded(np.stack(columns, 1), "WAV", "FLOAT"))
        np.testing.assert_allclose(got, np.mean(columns, axis=0), atol=1e-7)


def test_more_than_four_gigabytes(tmp_path: Path) -> None:
    """A file with a hole: 64-bit sizes are read, and nothing of it is held in memory."""
    path = tmp_path / "long.wav"
    data = 5 * 2**30
    head = (
        b"RF64\xff\xff\xff\xffWAVEds64"
        + (28).to_bytes(4, "little")
        + (data + 72).to_bytes(8, "little")
        + data.to_bytes(8, "little")
    )
    head += (
        (data // 2).to_bytes(8, "little") + bytes(4) + sounds.wav()[12:36] + b"data\xff\xff\xff\xff"
    )
    with path.open("wb") as file:
        file.write(head + sounds.pcm(TONE))
        file.truncate(len(head) + data)
    recording = open_recording(path)
    first = next(recording.windows(WindowPlan(1.0, 1.0), 48_000))
    assert recording.expected_s == data / 2 / 48_000
    assert not recording.flags
    np.testing.assert_allclose(first.waveform, TONE[:48_000], atol=2**-15)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    for name, form, flags in [("a.wav", "MP3", ("suffix_mismatch",)), ("b.MP3", "MP3", ()), ("c.dat", "FLAC", ()), ("d", "WAV", ()), ("e.flac", "WAV", ("suffix_mismatch",)), ("f.opus", "OGG", ())]:  # fmt: skip
        path = tmp_path / name
        path.write_bytes(sounds.encoded(TONE, form))
        assert open_recording(path).flags == flags, name


@pytest.mark.parametrize(
    "name",
    [
        "with space.wav",
        "\N{FROG FACE} caf\u00e9.wav",
        "cafe\u0301.wav",
        "line\nbreak.wav",
        "-x.wav",
        "[a-z]*.wav",
        "a*.wav",
        "#%20&?.wav",
        "pipe:0",
        "-",
    ],
)
def test_names_of_any_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(sounds.encoded(TONE, "MP3") if ":" in name else sounds.pcm_wav(TONE))
    recording = open_recording(name)
    assert recording.name == name
    assert len(recording.waveform(16_000)) == 48_000


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_no_text_and_very_long_ones(tmp_path: Path) -> None:
    name = os.fsdecode(b"gr\xfcn\xff.wav")
    (tmp_path / name).write_bytes(sounds.pcm_wav(TONE))
    assert open_recording(tmp_path / name).name == os.fspath(tmp_path / name)
    deep = tmp_path / ("d" * 150) / ("e" * 150)
    deep.mkdir(parents=True)
    (deep / "x.wav").write_bytes(sounds.pcm_wav(TONE))
    assert len(open_recording(deep / "x.wav").waveform(48_000)) == len(TONE)
    with pytest.raises(RecordingError):
        open_recording(tmp_path / ("n" * 300 + ".wav"))


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    cases = {tmp_path / "nowhere.wav": "missing", tmp_path: "not_a_file", tmp_path / "pipe.wav": "not_a_file", Path(os.devnull): "not_a_file", "nul\0.wav": "missing"}  # fmt: skip
    for path, code in cases.items():
        with pytest.raises(RecordingError) as caught:
            open_recording(path)
        assert caught.value.code == code


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "closed.wav"
    path.write_bytes(sounds.pcm_wav(TONE))
    path.chmod(0)
    with pytest.raises(RecordingError, match="permission") as caught:
        open_recording(path)
    path.chmod(stat.S_IRUSR)
    assert caught.value.code == "no_permission"


def test_bytes_and_file_objects(tmp_path: Path) -> None:
    content = sounds.encoded(TONE, "FLAC")
    path = tmp_path / "a.flac"
    path.write_bytes(content)
    expected = open_recording(path).waveform(16_000)

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self._rest = content

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:
            part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
            buffer[: len(part)] = part
            return len(part)

    with path.open("rb") as file:
        for source in (
            content,
            bytearray(content),
            memoryview(content),
            io.BytesIO(content),
            file,
            Pipe(),
        ):
            np.testing.assert_array_equal(open_recording(source).waveform(16_000), expected)
        recording = open_recording(file)
        one, two = (recording.windows(WindowPlan(1.0, 1.0), 48_000) for _ in range(2))
        for left, right in zip(one, two, strict=True):
            np.testing.assert_array_equal(left.waveform, right.waveform)


class Tensor:
    """What a tensor looks like from outside."""

    dtype = "torch.float32"

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> np.ndarray:
        return self._values


@pytest.mark.parametrize(
    "source",
    [
        TONE,
        TONE.astype(np.float64),
        np.stack([TONE, TONE]),
        np.stack([TONE, TONE], 1),
        TONE[None],
        TONE.tolist(),
        Tensor(TONE),
        (np.round(TONE * 32768)).astype(np.int16),
        (TONE.astype(np.float64) * 2**31).astype(np.int32),
        np.round(TONE * 128 + 128).astype(np.uint8),
    ],
    ids=[
        "float32",
        "float64",
        "(c,n)",
        "(n,c)",
        "(1,n)",
        "list",
        "tensor",
        "int16",
        "int32",
        "uint8",
    ],
)
def test_arrays(source: object) -> None:
    recording = open_recording(source, rate_hz=48_000)
    atol = 5e-3 if getattr(source, "dtype", None) == np.uint8 else 2e-5
    np.testing.assert_allclose(recording.waveform(48_000), TONE, atol=atol)
    assert recording.name == "<array>"
    assert not recording.flags


@pytest.mark.parametrize(
    ("source", "rate_hz", "code"),
    [
        (np.zeros(0), 48_000, "no_audio"),
        (np.zeros((2, 3, 4)), 48_000, "bad_array"),
        (np.zeros((100, 100)), 48_000, "bad_array"),
        (np.arange(100), 48_000, "bad_array"),
        (np.zeros(9, bool), 48_000, "bad_array"),
        (np.zeros(9, complex), 48_000, "bad_array"),
        (["a", "b"], 48_000, "bad_array"),
        ([[1.0], [1.0, 2.0]], 48_000, "bad_array"),
        (TONE, None, "bad_array"),
        (TONE, 1, "implausible_rate"),
        (TONE, 0, "bad_header"),
    ],
)
def test_arrays_that_are_no_audio(source: object, rate_hz: int | None, code: str) -> None:
    with pytest.raises(RecordingError) as caught:
        open_recording(source, rate_hz=rate_hz)
    assert caught.value.code == code


def test_rates_that_make_no_sense() -> None:
    recording = open_recording(TONE, rate_hz=48_000)
    with pytest.raises(WindowError):
        next(recording.windows(WindowPlan(), 0))


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="needs Linux to tell what a process holds"
)
def test_an_hour_passes_in_the_memory_of_a_window(tmp_path: Path) -> None:
    path = tmp_path / "hour.flac"
    noise = (np.random.default_rng(0).standard_normal(80_000) * 0.001).astype(np.float32)
    with sf.SoundFile(path, "w", 8000, 1) as file:
        for _ in range(360):
            file.write(noise)
    gc.collect()
    peak = before = _resident_mb()
    windows = seconds = 0
    for audio in open_recording(path).windows(WindowPlan(10.0, 5.0), 8000):
        windows, seconds = windows + 1, audio.window.end_s
        peak = max(peak, _resident_mb())
    assert (windows, seconds) == (719, 3600.0)
    assert peak - before < 50, "the hour as samples would be 110 MB"


def test_resampling_is_that_of_soxr_at_high_quality(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(sounds.pcm_wav(TONE))
    heard = (np.round(TONE * 32768) / 32768).astype(np.float32)
    np.testing.assert_array_equal(
        open_recording(path).waveform(16_000), soxr.resample(heard, 48_000, 16_000, "HQ")
    )
