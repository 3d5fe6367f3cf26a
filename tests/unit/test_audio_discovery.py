"""Recordings found: order, suffixes of any case, patterns, hidden files, links, and sources that lead nowhere."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from NatureLM.audio.discovery import Search, find_recordings, read_paths
from NatureLM.errors import RecordingError

FILES = [
    "b.wav",
    "a.WAV",
    "c.Mp3",
    "notes.txt",
    "deep/x.flac",
    "deep/er/y.OPUS",
    "deep/._x.flac",
    ".hidden/z.wav",
    "deep/[1].wav",
    "site*/w.ogg",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*sources: str | Path, search: Search | None = None) -> list[str]:
    return [path.as_posix() for path in find_recordings(sources, search)]


def test_a_folder_in_order_with_suffixes_of_any_case(folder: Path) -> None:
    search = Search()
    expected = [
        "a.WAV",
        "b.wav",
        "c.Mp3",
        "deep/[1].wav",
        "deep/er/y.OPUS",
        "deep/x.flac",
        "site*/w.ogg",
    ]
    assert names(".", search=search) == expected
    assert (search.hidden, search.other, search.repeated) == (2, 1, 0)
    assert names(folder) == [f"{folder.as_posix()}/{name}" for name in expected]


@pytest.mark.usefixtures("folder")
def test_files_are_taken_as_named_and_once() -> None:
    search = Search()
    assert names(
        "notes.txt", ".hidden/z.wav", "b.wav", "./b.wav", "deep", "deep/x.flac", search=search
    ) == ["notes.txt", ".hidden/z.wav", "b.wav", "deep/[1].wav", "deep/er/y.OPUS", "deep/x.flac"]
    assert search.repeated == 2


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (
            "*",
            [
                "a.WAV",
                "b.wav",
                "c.Mp3",
                "deep/[1].wav",
                "deep/er/y.OPUS",
                "deep/x.flac",
                "site*/w.ogg",
            ],
        ),
        ("*.wav", ["b.wav"]),
        ("*.[wW]*", ["a.WAV", "b.wav"]),
        ("*.txt", ["notes.txt"]),
        ("**/*.flac", ["deep/x.flac"]),
        ("deep/**", ["deep/[1].wav", "deep/er/y.OPUS", "deep/x.flac"]),
        ("deep/[1].wav", ["deep/[1].wav"]),
        ("site*", ["site*/w.ogg"]),
    ],
)
@pytest.mark.usefixtures("folder")
def test_patterns(pattern: str, expected: Sequence[str]) -> None:
    assert names(pattern) == list(expected)


@pytest.mark.usefixtures("folder")
def test_links_are_followed_and_loops_are_not() -> None:
    Path("deep/up").symlink_to("..")
    Path("linked").symlink_to("deep")
    Path("again.wav").symlink_to("a.WAV")
    Path("broken.wav").symlink_to("nowhere.wav")
    expected = ["a.WAV", "b.wav", "broken.wav", "c.Mp3"]
    got = names(".")
    assert got[:4] == expected
    assert len(got) == len({Path(name).resolve() for name in got}) == 8


@pytest.mark.usefixtures("folder")
def test_what_leads_nowhere_gets_its_row_beside_others() -> None:
    Path("empty").mkdir()
    assert names("gone.wav", "b.wav", "*.xyz", "empty") == ["gone.wav", "b.wav", "*.xyz", "empty"]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("gone.wav", "missing"),
        ("*.xyz", "no_recordings"),
        ("empty", "no_recordings"),
        ("nul\0", "missing"),
        ("n" * 5000, "missing"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_nothing_at_all_is_an_error(source: str, code: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(RecordingError) as caught:
        names(source)
    assert caught.value.code == code
    assert not names()


def test_lists_of_paths() -> None:
    assert read_paths(io.StringIO("a.wav\r\nb \u2028c.wav\n\n[x].wav")) == [
        "a.wav",
        "b \u2028c.wav",
        "[x].wav",
    ]
    assert read_paths(io.BytesIO(b"a\nb.wav\0gr\xfcn.wav\0")) == [
        "a\nb.wav",
        os.fsdecode(b"gr\xfcn.wav"),
    ]
    assert read_paths(io.StringIO("")) == []
