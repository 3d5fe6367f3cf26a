"""A miniature BEANS-Zero in the published layout, from its shards to the report, by the command itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from NatureLM.cli import main
from NatureLM.scoring.rows import read_predictions
from NatureLM.scoring.vocabulary import beans_zero_components
from tests import mini_beans, tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return mini_beans.write_parquet(
        tmp_path_factory.mktemp("mini") / "BEANS-Zero", mini_beans.rows(3, 0.55)
    )


@pytest.fixture
def stub(monkeypatch):
    model = tiny.stub_model(["Walrus", "None", "One", "a bird sings in the rain"])
    monkeypatch.setattr("NatureLM.infer.device.load_model", lambda *_, **__: model)
    return model


def rows_of(path: Path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def evaluate(data, out, *more):
    return main(
        [
            "evaluate",
            "beans-zero",
            "--data",
            str(data),
            "--out",
            str(out),
            "--resamples",
            "20",
            *more,
        ]
    )


def test_all_components_from_shards_to_report(data, stub, tmp_path, capfd):
    assert evaluate(data, tmp_path) == 0
    predictions = rows_of(tmp_path / "predictions.jsonl")
    assert len(predictions) == 66
    assert {row["dataset_name"] for row in predictions} == set(beans_zero_components())
    for name in ("processed.jsonl", "scored.jsonl"):
        stage = rows_of(tmp_path / name)
        assert [row["id"] for row in stage] == [row["id"] for row in predictions]
    file = read_predictions(tmp_path / "predictions.jsonl")
    assert file.official_stop is None
    assert not file.faults
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["model"] == "scripted"
    assert card["data_revision"].startswith("sha256:")
    assert set(card["scores"]["corrected"]) == set(beans_zero_components())
    assert "captioning" in card["scores"]["corrected"]
    assert (tmp_path / "report.html").read_text().startswith("<!")
    assert "66 of 66 examples" in capfd.readouterr().err
    asked = len(stub.queries)
    assert evaluate(data, tmp_path) == 0
    assert len(stub.queries) == asked


def test_published_settings_run_too(data, stub, tmp_path):
    assert (
        evaluate(
            data, tmp_path, "--parity", "published", "--tasks", "rfcx,lifestage", "--limit", "2"
        )
        == 0
    )
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["settings"]["parity"] == "published"
    assert run["settings"]["generation"]["num_beams"] == 2
    assert sum("if any?" in query for query in stub.queries) == 2


def test_a_part_says_that_its_official_scores_do_not_compare(data, stub, tmp_path, capfd):
    assert evaluate(data, tmp_path / "a", "--subset", "1pct") == 0
    assert "not comparable" in capfd.readouterr().err
    ids = (tmp_path / "a" / "ids.txt").read_text().split()
    assert len(ids) == 22
    assert evaluate(data, tmp_path / "b", "--ids", str(tmp_path / "a" / "ids.txt")) == 0
    one, two = (rows_of(tmp_path / n / "predictions.jsonl") for n in "ab")
    assert [row["id"] for row in one] == [row["id"] for row in two]


def test_controls_panels_alphas_and_baselines_are_in_the_report(data, stub, tmp_path, monkeypatch):
    monkeypatch.setattr(type(stub), "prompt", lambda _self, query, _count: query, raising=False)
    code = evaluate(
        data, tmp_path, "--tasks", "gibbons,esc50,zf-indiv",
        "--controls", "all", "--panels", "all", "--alphas", "0,0.5,1", "--baselines", "all",
    )  # fmt: skip
    assert code == 0
    record = json.loads((tmp_path / "controls.json").read_text())
    assert set(record) == {"controls", "panel options", "panel paraphrase", "alphas", "baselines"}
    assert set(record["controls"]["gibbons"]["arms"]) == {
        "silence",
        "noise",
        "swapped",
        "text-only",
    }
    assert set(record["panel options"]) == {"gibbons"}
    report = (tmp_path / "report.html").read_text()
    for title in (
        "Is the audio used?",
        "order of the options",
        "wording",
        "Merging alpha",
        "baselines",
    ):
        assert title in report
    assert report.count("<svg") + report.count("image/svg") >= 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--tasks", "walrus"), "--tasks walrus"),
        (("--limit", "0"), "limit 0"),
        (("--controls", "loud"), "control 'loud'"),
        (("--alphas", "2"), "alpha 2"),
        (("--alphas", "x"), "--alphas x"),
        (("--ids", "/nowhere"), "--ids /nowhere"),
        (("--batch-size", "0"), "--batch-size 0"),
        (("--merging-alpha", "3"), "--merging-alpha 3"),
    ],
)
def test_wrong_options_are_refused_before_any_work(data, stub, tmp_path, capfd, more, said):
    assert evaluate(data, tmp_path / "out", *more) == 2
    assert said in capfd.readouterr().err
    assert not stub.queries


def test_no_data_is_a_sentence(stub, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["evaluate", "beans-zero", "--data", "no/where", "--out", str(tmp_path)]) == 2
    assert "no such file or folder" in capfd.readouterr().err


def test_failed_examples_make_the_exit_code_say_so(stub, tmp_path):
    content = mini_beans.rows(1, 0.55, ("cbi",))
    content.append(dict(content[0], id="broken", audio=None))
    path = mini_beans.write_parquet(tmp_path / "data", content, shards=1)
    assert evaluate(path, tmp_path / "out") == 3
    assert json.loads((tmp_path / "out" / "card.json").read_text())["failures"] == {"no_audio": 1}


@pytest.mark.pocket
def test_the_pocket_model_runs_it_end_to_end(data, tmp_path):
    root = Path(__file__).parents[2]
    command = [
        sys.executable, "-m", "NatureLM", "evaluate", "beans-zero", "--data", str(data), "--model", "pocket",
        "--out", str(tmp_path), "--limit", "1", "--resamples", "20", "--max-new-tokens", "20", "--device", "cpu",
    ]  # fmt: skip
    done = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    predictions = rows_of(tmp_path / "predictions.jsonl")
    assert len(predictions) == 22
    assert all(row["error"] is None for row in predictions)
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["model"] == "pocket"
    assert card["licences"]["weights"] == "CC BY-NC-SA 4.0"
