"""Labels of every form become windows with the right truth, and the question fits the labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from NatureLM.audio.windows import WindowPlan
from NatureLM.cli import main
from NatureLM.errors import ManifestError
from NatureLM.eval.prepare import prepare
from NatureLM.eval.questions import label_type, question_for
from NatureLM.eval.sources.labels import Event, read_labels
from NatureLM.eval.tasks.recordings import Recordings, RecordingsOptions, joined
from NatureLM.scoring.vocabulary import Component
from tests import tiny


def put(path: Path, seconds: float = 1.0, level: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = level * np.sin(np.arange(int(16_000 * seconds)) / 5)
    soundfile.write(path, samples, 16_000)
    return path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "recordings"
    put(root / "American_Robin" / "a.wav")
    put(root / "American_Robin" / "b.wav", 2.5)
    put(root / "Lark" / "c.FLAC")
    return root


def outlines(root, labels, **options):
    return list(Recordings(root, labels, RecordingsOptions(**options)).outlines())


def test_a_folder_a_label(folder):
    labels = read_labels(folder, "folders")
    assert {path.name: [e.label for e in events] for path, events in labels.events.items()} == {
        "a.wav": ["American Robin"],
        "b.wav": ["American Robin"],
        "c.FLAC": ["Lark"],
    }
    task = Recordings(folder, labels, RecordingsOptions(plan=WindowPlan(1.0, 1.0)))
    assert task.components["recordings"].task == "classification"
    found = list(task.outlines())
    assert [o.reference for o in found] == ["American Robin"] * 4 + ["Lark"]
    assert len({o.name for o in found}) == 5
    assert {o.recording for o in found} == {
        "American_Robin/a.wav",
        "American_Robin/b.wav",
        "Lark/c.FLAC",
    }


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_a_table_of_recordings(folder, tmp_path, separator):
    table = tmp_path / "labels.csv"
    lines = [
        "File,Species,notes",
        "American_Robin/a.wav,Turdus migratorius,x",
        "c.FLAC,Alauda arvensis,",
        "b,None,",
    ]
    table.write_text("\n".join(lines).replace(",", separator) + "\n", "utf-8")
    labels = read_labels(folder, str(table))
    assert {p.name: [e.label for e in es] for p, es in labels.events.items()} == {
        "a.wav": ["Turdus migratorius"],
        "c.FLAC": ["Alauda arvensis"],
        "b.wav": ["None"],
    }
    task = Recordings(folder, labels, RecordingsOptions())
    assert task.label_type == "scientific name"
    assert "scientific name" in task.question


def test_several_labels_of_a_recording_make_detection(folder, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("recording,labels\na.wav,Robin; Lark\nb.wav,Lark\n")
    task = Recordings(folder, read_labels(folder, str(table)), RecordingsOptions())
    assert task.components["recordings"].task == "detection"
    assert [o.reference for o in task.outlines()] == ["Lark, Robin", "Lark"]


def test_events_count_for_the_windows_that_they_lie_in(folder, tmp_path):
    table = tmp_path / "events.csv"
    table.write_text(
        "recording,start_s,end_s,label\nb.wav,0.2,0.9,Robin\nb.wav,0.95,1.3,Lark\nb.wav,2.45,2.46,Wren\na.wav,0,1,Robin\n"
    )
    labels = read_labels(folder, str(table))
    assert labels.timed
    found = {o.id: o.reference for o in outlines(folder, labels, plan=WindowPlan(1.0, 1.0))}
    assert found == {
        "American_Robin/b.wav#0-1": "Robin",
        "American_Robin/b.wav#1-2": "Lark",
        "American_Robin/b.wav#2-2.5": "Wren",
        "American_Robin/a.wav#0-1": "Robin",
    }
    quiet = {o.id: o.reference for o in outlines(folder, labels, plan=WindowPlan(0.5, 0.5))}
    assert quiet["American_Robin/b.wav#1.5-2"] == "None"


def test_raven_tables_are_named_after_their_recording(folder, tmp_path):
    tables = tmp_path / "raven"
    tables.mkdir()
    head = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tAnnotation\n"
    (tables / "b.Table.1.selections.txt").write_text(
        head + "1\tSpectrogram 1\t1\t0.5\t0.9\t0\t8000\tRobin\n"
    )
    (tables / "c.selections.txt").write_text(head)
    labels = read_labels(folder, str(tables))
    found = {p.name: events for p, events in labels.events.items()}
    assert found == {"b.wav": (Event("Robin", 0.5, 0.9),), "c.FLAC": ()}
    assert labels.timed


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("recording,label\nnowhere.wav,Robin\n", "no such recording"),
        ("recording,colour\na.wav,red\n", "--label-column"),
        ("label\nRobin\n", "expected a column such as recording"),
        ("recording,start,end,label\na.wav,zero,1,Robin\n", "expected seconds"),
        ("recording,start,end,label\na.wav,-1,1,Robin\n", "0 or more"),
        ("", "no rows"),
    ],
)
def test_a_table_that_cannot_be_used_says_where(folder, tmp_path, content, said):
    table = tmp_path / "labels.csv"
    table.write_text(content)
    with pytest.raises(ManifestError, match=said):
        read_labels(folder, str(table))


def test_the_column_can_be_named(folder, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("recording,Colour\na.wav,red\n")
    assert [
        e.label for es in read_labels(folder, str(table), "colour").events.values() for e in es
    ] == ["red"]


class Names:
    def by_common(self, name):
        return name if name in ("Hermit thrush", "Gray wolf") else None

    def by_scientific(self, name):
        return name if name == "Turdus merula" else None


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["call", "Song"], "call type"),
        (["Adult", "juvenile", "None"], "life stage"),
        (["Turdus merula", "Alauda arvensis"], "scientific name"),
        (["Turdidae", "Corvidae"], "family"),
        (["Passeriformes", "Anura"], "order"),
        (["Chordata Aves Passeriformes Turdidae Turdus merula"], "taxonomic name"),
        (["red", "green"], None),
        (["None"], None),
    ],
)
def test_labels_are_told_by_their_spelling(labels, kind):
    assert label_type(labels) == kind


def test_a_taxonomy_decides_before_the_spelling():
    assert label_type(["Hermit thrush", "Gray wolf"]) == "scientific name"
    assert label_type(["Hermit thrush", "Gray wolf"], Names()) == "common name"
    assert label_type(["Turdus merula"], Names()) == "scientific name"


def test_questions_name_few_options_and_ask_openly_for_many():
    assert (
        question_for(["a", "b"], "", several=False)
        == "Which of these is present in the audio? a, b, None"
    )
    assert question_for(["a", "None"], "common name", several=True).startswith(
        "Which of these, if any"
    )
    many = [str(i) for i in range(20)]
    assert question_for(many, "common name", several=True).endswith("if any?")
    assert "focal species" in question_for(many, "common name", several=False)


def test_every_recording_is_heard_where_its_windows_are(folder):
    task = Recordings(
        folder, read_labels(folder, "folders"), RecordingsOptions(plan=WindowPlan(1.0, 1.0))
    )
    heard = [prepare(e, 16_000) for e in task.examples(lambda o: "b.wav" in o.id)]
    assert [p.samples for p in heard] == [16_000, 16_000, 8_000]
    whole, _ = soundfile.read(folder / "American_Robin" / "b.wav", dtype="float32")
    joined_up = np.concatenate([p.waveforms[0] for p in heard])
    np.testing.assert_allclose(joined_up, whole, atol=2e-3)


def test_a_recording_that_cannot_be_read_is_a_failed_example(folder):
    (folder / "Lark" / "broken.wav").write_bytes(b"this is not audio")
    task = Recordings(folder, read_labels(folder, "folders"), RecordingsOptions())
    codes = [prepare(e, 16_000).error for e in task.examples(lambda _: True)]
    assert sorted(str(e.code) for e in codes if e) == ["not_audio"]
    assert len(codes) == len(list(task.outlines())) == 4


def row(recording, prediction, confidence=0.5, error=None):
    return {
        "recording": recording,
        "prediction": prediction,
        "confidence": confidence,
        "error_code": error,
        "id": "x",
    }


def test_windows_are_joined_by_the_votes_of_those_that_heard_something():
    component = Component("recordings", "classification", ("A", "B"))
    rows = [
        row("r", "None"),
        row("r", "None"),
        row("r", "B", 0.9),
        row("s", "A", 0.2),
        row("s", "B", 0.8),
        row("t", "None"),
    ]
    found = {r["id"]: r["prediction"] for r in joined(rows, component)}
    assert found == {"r": "B", "s": "B", "t": "None"}
    detection = Component("recordings", "detection", ("A", "B"))
    rows = [
        row("r", "A"),
        row("r", "None"),
        row("r", "B, A"),
        row("s", "None"),
        row("u", "", None, "x"),
    ]
    assert [r["prediction"] for r in joined(rows, detection)] == ["A, B", "None", "None"]


@pytest.fixture
def stub(monkeypatch):
    model = tiny.stub_model(["American Robin"])
    monkeypatch.setattr("NatureLM.infer.device.load_model", lambda *_, **__: model)
    return model


def test_the_command_judges_recordings_and_keeps_windows(folder, stub, tmp_path, capfd):
    (folder / "Lark" / "broken.wav").write_bytes(b"this is not audio")
    out = tmp_path / "out"
    arguments = [
        "evaluate",
        "recordings",
        str(folder),
        "--labels",
        "folders",
        "--out",
        str(out),
        "--resamples",
        "10",
    ]
    code = main(
        [
            *arguments,
            "--window-length-seconds",
            "1",
            "--controls",
            "silence",
            "--baselines",
            "majority,none",
        ]
    )
    assert code == 3
    predictions = [
        json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()
    ]
    assert sorted(r["id"] for r in predictions) == [
        "American_Robin/a.wav", "American_Robin/b.wav", "Lark/broken.wav", "Lark/c.FLAC",
    ]  # fmt: skip
    assert len((out / "windows.jsonl").read_text().splitlines()) == 6
    card = json.loads((out / "card.json").read_text())
    assert card["scores"]["corrected"]["recordings"]["metrics"]["accuracy_normalised"] == 0.5
    assert "asked:" in capfd.readouterr().err
    assert (out / "report.html").exists()


@pytest.mark.pocket
def test_the_pocket_model_is_judged_on_labelled_recordings(tmp_path):
    put(tmp_path / "recordings" / "None" / "hum.wav", 3.0, 0.01)
    code = main(
        ["evaluate", "recordings", str(tmp_path / "recordings"), "--labels", "folders", "--model", "pocket", "--device", "cpu",
         "--question", "What is the common name for the focal species in the audio?", "--out", str(tmp_path / "out"),
         "--resamples", "0"]
    )  # fmt: skip
    assert code == 0
    assert json.loads((tmp_path / "out" / "card.json").read_text())["model"] == "pocket"
