"""Every layout of the same rows gives the same rows and the same sound; nothing that is not wanted is read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from NatureLM.errors import DownloadError, ManifestError, RecordingError
from NatureLM.eval.prepare import prepare
from NatureLM.eval.sources import SOURCES, open_source, parquet
from NatureLM.eval.sources.columns import rate_of
from NatureLM.eval.sources.record import RawAudio, audio_cell
from NatureLM.eval.tasks.beans_zero import GENERAL_QUESTION, BeansZero
from NatureLM.scoring.vocabulary import Component
from tests import mini_beans


@pytest.fixture(scope="module")
def content():
    return mini_beans.rows(2, 0.3)


@pytest.fixture(scope="module")
def folders(content, tmp_path_factory):
    root = tmp_path_factory.mktemp("layouts")
    return {
        "parquet": mini_beans.write_parquet(root / "parquet", content),
        "arrow": mini_beans.write_arrow(root / "arrow", content),
        "jsonl": mini_beans.write_jsonl(root / "jsonl", content),
    }


@pytest.mark.parametrize("kind", list(SOURCES))
def test_a_layout_gives_the_rows_in_order_and_their_sound(kind, folders, content):
    source = open_source(folders[kind])
    assert [row.columns["id"] for row in source.rows()] == [row["id"] for row in content]
    read = list(source.audio(lambda row: row.columns["dataset_name"] in ("watkins", "gibbons")))
    wanted = [row for row in content if row["dataset_name"] in ("watkins", "gibbons")]
    assert [row.columns["id"] for row, _ in read] == [row["id"] for row in wanted]
    task = BeansZero(source)
    heard = [prepare(e, 16_000) for e in task.examples(lambda o: o.component == "watkins")]
    for example, row in zip(
        heard, [r for r in wanted if r["dataset_name"] == "watkins"], strict=True
    ):
        assert example.error is None
        seconds = len(row["audio"]) / 44_100
        assert len(example.waveforms[0]) == pytest.approx(16_000 * seconds, abs=2)


def test_layouts_agree_on_what_the_model_hears(folders):
    heard = {}
    for kind, folder in folders.items():
        examples = BeansZero(open_source(folder)).examples(lambda o: o.component == "rfcx")
        heard[kind] = [prepare(example, 16_000).waveforms[0] for example in examples]
    for waveforms in heard.values():
        for waveform, other in zip(waveforms, heard["parquet"], strict=True):
            np.testing.assert_allclose(waveform, other, atol=1e-6)


def test_the_datasets_library_writes_what_we_read(content, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [dict(row, audio=row["audio"].tolist()) for row in content[:5]]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    source = open_source(tmp_path / "saved")
    assert [row.columns["id"] for row, _ in source.audio(lambda _: True)] == [r["id"] for r in rows]
    (_, audio), *_ = source.audio(lambda _: True)
    np.testing.assert_allclose(audio.content, content[0]["audio"], atol=1e-7)


def test_encoded_audio_in_the_hub_layout_is_decoded(tmp_path):
    import io

    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.full(8000, 0.25), 8000, format="FLAC")
    table = pa.table(
        {
            "id": ["a"],
            "dataset_name": ["cbi"],
            "output": ["American Robin"],
            "instruction_text": ["What?"],
            "audio": [{"bytes": file.getvalue(), "path": "a.flac"}],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    (example,) = BeansZero.open(str(tmp_path / "x.parquet")).examples(lambda _: True)
    assert len(prepare(example, 16_000).waveforms[0]) == pytest.approx(16_000, abs=2)


def test_row_groups_without_a_wanted_row_are_not_decoded(folders, content, monkeypatch):
    asked = []
    iter_batches = pq.ParquetFile.iter_batches

    def spy(self, *args, row_groups, columns, **more):
        asked.append((row_groups, columns))
        return iter_batches(self, *args, row_groups=row_groups, columns=columns, **more)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    source = open_source(folders["parquet"])
    wanted = content[13]["id"]
    assert len(list(source.audio(lambda row: row.columns["id"] == wanted))) == 1
    assert asked == [([2], ["audio"])]


def test_the_revision_changes_with_the_data_only(folders, content, tmp_path):
    same = mini_beans.write_parquet(tmp_path / "same", content)
    assert open_source(same).revision == open_source(folders["parquet"]).revision
    changed = [dict(content[0], output="Walrus"), *content[1:]]
    other = mini_beans.write_parquet(tmp_path / "other", changed)
    assert open_source(other).revision != open_source(same).revision


@pytest.mark.parametrize(
    ("cell", "rate", "code"),
    [
        (None, 16_000, "no_audio"),
        ([], 16_000, "no_audio"),
        ([0.1], None, "no_rate"),
        ("", None, "no_audio"),
    ],
)
def test_a_cell_without_sound_says_why(cell, rate, code):
    with pytest.raises(RecordingError) as caught:
        audio_cell(cell, rate, Path(), "here:1")
    assert caught.value.code == code


def test_faulty_cells_are_examples_with_an_error_not_an_end(tmp_path):
    good = mini_beans.rows(1, 0.3, ("cbi", "watkins", "esc50"))
    faulty = [
        dict(good[0], audio=None),
        dict(good[1], metadata="{broken"),
        dict(good[2], audio=np.full(100, np.nan, np.float32)),
    ]
    again = [dict(row, id=row["id"] + "-good") for row in good]
    path = mini_beans.write_parquet(tmp_path / "data", faulty + again, shards=1)
    task = BeansZero.open(str(path))
    prepared = [prepare(e, 16_000, "published") for e in task.examples(lambda _: True)]
    codes = [p.error.code if p.error else None for p in prepared]
    assert codes == ["no_audio", "no_rate", "not_audio", None, None, None]


def test_rates_come_from_the_metadata():
    assert rate_of({"metadata": '{"sample_rate": 44100}'}) == 44_100
    assert rate_of({"metadata": {"sample_rate": "22050"}}) == 22_050
    assert rate_of({"sample_rate": 8000, "metadata": "{}"}) == 8000
    for nothing in ({}, {"metadata": "[]"}, {"metadata": '{"sample_rate": "fast"}'}):
        assert rate_of(nothing) is None


def test_tables_that_cannot_be_used_are_refused_by_name(tmp_path):
    with pytest.raises(ManifestError, match=r"no \*\.parquet"):
        open_source(tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ManifestError, match=r"x\.parquet"):
        list(open_source(tmp_path).rows())
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "x.parquet")
    with pytest.raises(ManifestError, match="no column 'audio'"):
        list(open_source(tmp_path).rows())
    pq.write_table(pa.table({"id": ["1"], "audio": [[0.1]]}), tmp_path / "x.parquet")
    with pytest.raises(ManifestError, match="dataset_name, output are missing"):
        list(BeansZero.open(str(tmp_path)).outlines())
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(ManifestError, match=r"found \.txt"):
        open_source(tmp_path / "x.txt")
    with pytest.raises(ManifestError, match="not a hub id"):
        open_source("/nowhere/at/all")


def test_arrow_in_the_file_format_reads_too_and_rubbish_does_not(content, tmp_path):
    path = tmp_path / "x.arrow"
    with (
        pa.OSFile(str(path), "wb") as sink,
        pyarrow.ipc.new_file(sink, mini_beans.SCHEMA) as writer,
    ):
        writer.write_table(mini_beans.table(content[:3]))
    assert [r.columns["id"] for r in open_source(path).rows()] == [r["id"] for r in content[:3]]
    path.write_bytes(b"not arrow at all, not even close")
    with pytest.raises(ManifestError, match=r"x\.arrow"):
        list(open_source(path).rows())


def test_the_hub_is_left_alone_when_offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DownloadError, match="offline variables"):
        open_source("nobody/nothing-of-this-name")


def test_the_hub_is_streamed_by_columns(monkeypatch, folders, content):
    import huggingface_hub

    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    root = folders["parquet"]
    names = [str(p.relative_to(root)) for p in sorted(root.rglob("*.parquet"))]
    info = SimpleNamespace(
        sha="f00", siblings=[SimpleNamespace(rfilename=n) for n in [*names, "README.md"]]
    )
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: info)

    class Files:
        def open(self, path, mode):
            assert mode == "rb"
            return (root / path.removeprefix("datasets/owner/name@f00/")).open("rb")

    monkeypatch.setattr(huggingface_hub, "HfFileSystem", Files)
    source = open_source("owner/name")
    assert source.revision == "hub:f00"
    assert [row.columns["id"] for row in source.rows()] == [row["id"] for row in content]


def test_an_id_that_comes_twice_stays_two_examples(content, tmp_path):
    path = mini_beans.write_parquet(tmp_path / "twice", [content[0], content[0]], shards=1)
    task = BeansZero.open(str(path))
    names = [o.name for o in task.outlines()]
    assert len(set(names)) == 2
    assert [e.outline.name for e in task.examples(lambda _: True)] == names


def test_published_inference_asks_long_lists_the_general_question(folders):
    queries = {
        parity: {
            o.component: o.query for o in BeansZero.open(str(folders["parquet"]), parity).outlines()
        }
        for parity in ("ours", "published")
    }
    changed = {c for c, q in queries["published"].items() if q != queries["ours"][c]}
    assert changed == {"enabirds", "rfcx", "dcase"}
    assert {queries["published"][c] for c in changed} == {GENERAL_QUESTION}
    assert not any("<Audio" in q for q in queries["ours"].values())


def test_a_long_list_has_more_than_eight_labels_none_included(folders, monkeypatch):
    lists = {
        name: Component(name, "detection", tuple(f"l{i}" for i in range(count)))
        for name, count in (("seven", 7), ("eight", 8))
    }
    monkeypatch.setattr("NatureLM.eval.tasks.beans_zero.beans_zero_components", lambda: lists)
    task = BeansZero(open_source(folders["parquet"]), "published")
    asked = {name: task.query_of(name, {"instruction": "Which?"}) for name in lists}
    assert asked == {"seven": "Which?", "eight": GENERAL_QUESTION}


def test_published_audio_is_padded_to_the_components_longest_stretch(folders):
    task = BeansZero.open(str(folders["parquet"]), "published")
    seconds = {
        e.outline.component: len(prepare(e, 16_000, "published").waveforms[0]) / 16_000
        for e in task.examples(lambda _: True)
    }
    assert seconds.pop("esc50") == 5
    assert seconds.pop("watkins") == seconds.pop("humbugdb") == 3
    assert set(seconds.values()) == {10}


def test_long_recordings_are_cut_the_same_way_whole_or_not():
    from NatureLM.audio.kaiser import resample_kaiser
    from NatureLM.eval.task import Example, Outline

    rng = np.random.default_rng(0)
    samples = rng.uniform(-1, 1, 44_100 * 4)
    outline = Outline("a", "watkins", "q", "r", max_duration_s=3.0)
    heard = prepare(Example(outline, RawAudio(samples, 44_100)), 16_000, "published").waveforms[0]
    whole = np.clip(resample_kaiser(samples, 44_100, 16_000)[:48_000], -1, 1)
    np.testing.assert_allclose(heard, whole, atol=1e-9)
    assert heard.dtype == np.float64
    assert len(prepare(Example(outline, RawAudio(samples, 44_100)), 16_000).waveforms[0]) == 48_000


def test_parquet_batches_are_smaller_than_row_groups():
    assert parquet.AUDIO_BATCH_ROWS <= 64
