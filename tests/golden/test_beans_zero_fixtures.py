"""The official scorers' recorded outputs, file by file. Whatever lies in the folder is a case: no name is known here.

``NATURELM_BEANS_ZERO_FIXTURES`` points the same tests at another set of the same layout.
"""

import json
import os
from pathlib import Path

import pytest

from NatureLM.scoring.beans_next import NextRow, conservative_labels, score_beans_next
from NatureLM.scoring.beans_zero import score_official
from NatureLM.scoring.rows import read_predictions
from NatureLM.scoring.vocabulary import beans_zero_components

FOLDER = Path(
    os.environ.get("NATURELM_BEANS_ZERO_FIXTURES") or Path(__file__).parent / "beans_zero"
)
FILES = sorted(
    path.relative_to(FOLDER).as_posix()
    for path in (*FOLDER.rglob("*.jsonl"), *FOLDER.rglob("*.csv"))
    if path.relative_to(FOLDER).parts[0] not in ("expected", "processed", "beans_next")
)
CASES = sorted(path.name for path in (FOLDER / "beans_next").glob("*") if path.is_dir())


def lines(path):
    text = path.read_bytes().decode("utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def expected(name):
    return json.loads((FOLDER / "expected" / name).with_suffix(".json").read_text("utf-8"))


def stub_spice(answers, references):
    return [((37 * row) % 101) / 100 for row in range(len(answers))]


def test_there_are_fixtures():
    assert FILES
    assert CASES


@pytest.mark.parametrize("name", FILES)
def test_a_file_scores_as_the_official_tool_does(name):
    wanted, file = expected(name), read_predictions(FOLDER / name)
    if "upstream_raises" in wanted:
        message = f"{wanted['upstream_raises']}: {wanted['upstream_message']}"
        assert file.official_stop == message
        assert file.faults
        return
    score = score_official(file.rows)
    if "processed_any_of" in wanted:
        pairs = zip(score.processed, wanted["processed_any_of"], strict=True)
        assert all(answer in admissible for answer, admissible in pairs)
        return
    assert list(score.processed) == [row["processed"] for row in lines(FOLDER / "processed" / name)]
    assert set(score.metrics) == set(wanted["metrics"])
    for dataset, metrics in wanted["metrics"].items():
        tolerance = 2e-6 if "mAP" in metrics else 1e-12
        if "mAP" in metrics:
            metrics["mAP"] = wanted["mAP_stable_order"][dataset]
        assert dict(score.metrics[dataset]) == pytest.approx(metrics, abs=tolerance, rel=0)
    silent = set(wanted["datasets_without_metrics"])
    assert silent == set(score.errors) | set(score.unknown)


@pytest.mark.parametrize("name", FILES)
def test_captions_score_as_the_official_tool_would(name):
    wanted = expected(name).get("captioning")
    if wanted is None:
        return
    rows = read_predictions(FOLDER / name).rows
    captions = score_official(rows, spice=stub_spice).captioning
    assert captions.cider.per_row == pytest.approx(wanted["cider_x10_per_sample"], abs=1e-9, rel=0)
    assert captions.cider.mean == pytest.approx(wanted["cider_x10"], abs=1e-9, rel=0)
    assert captions.spider == pytest.approx(wanted["spider_with_stub_spice"], abs=1e-9, rel=0)
    silent = score_official(rows)
    assert silent.captioning.spider is None
    assert silent.errors["captioning"].startswith("spider_score not computed: ")


@pytest.mark.parametrize("case", CASES)
def test_a_beans_next_run_scores_as_its_offline_scorer_does(case):
    folder = FOLDER / "beans_next" / case
    summary = json.loads((folder / "expected" / "summary.json").read_text("utf-8"))
    targets = lines(folder / "input" / "processed_predictions.jsonl")
    rows = [
        NextRow(row["sample_id"], tuple(row["predictions"]), beside["targets"], row["error"])
        for row, beside in zip(lines(folder / "input" / "predictions.jsonl"), targets, strict=True)
    ]
    scores, means = score_beans_next(rows, summary["task_type"])
    for score, wanted in zip(
        scores, lines(folder / "expected" / "scored_predictions.jsonl"), strict=True
    ):
        assert score.processed == wanted["processed"]
        assert score.error == wanted["error"]
        if wanted["scores"] is None:
            assert score.scores is None
        else:
            assert dict(score.scores) == pytest.approx(wanted["scores"], abs=1e-12)
    assert dict(means.mean) == pytest.approx(summary["mean"], abs=1e-12)
    assert (means.n_samples, means.n_errors) == (summary["n_samples"], summary["n_errors"])


def test_the_conservative_reader_names_only_what_is_clearly_named():
    path = FOLDER / "beans_next" / "runner_conservative_detection.jsonl"
    vocabulary = beans_zero_components()["rfcx"].vocabulary
    for row in lines(path) if path.exists() else ():
        found = conservative_labels(row["prediction"], vocabulary)
        assert found == row["segments"]
        assert ", ".join(found) == row["text"]
