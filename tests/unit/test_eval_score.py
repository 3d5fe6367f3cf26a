import json
import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from NatureLM import cli
from NatureLM.errors import DependencyError, FormatError
from NatureLM.eval.score import ScoreSettings, evaluate_file, evaluate_rows
from NatureLM.eval.spice import find_spice
from NatureLM.eval.taxa import lookup_in
from NatureLM.scoring.rows import PredictionRow
from NatureLM.scoring.taxonomic import Ranks

FIXTURES = Path(__file__).parents[1] / "golden" / "beans_zero"


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(prediction, label, name="lifestage", **more):
    return {"prediction": prediction, "label": label, "dataset_name": name, **more}


def shown(capsys, *arguments):
    code = cli.main(["evaluate", "score", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_json_holds_both_scorers_and_every_reason(capsys):
    code, out, err = shown(
        capsys, FIXTURES / "all_components_shuffled.jsonl", "--json", "--resamples", 20
    )
    found = json.loads(out)
    assert code == 0
    assert len(found["official"]["metrics"]) == 21
    assert found["official"]["not_computed"]["captioning"].startswith(
        "spider_score not computed: SPICE needs"
    )
    assert set(found["corrected"]) == set(found["official"]["metrics"]) | {"captioning"}
    captions = found["corrected"]["captioning"]
    assert captions["not_computed"]["spider"].startswith("not computed: SPICE needs")
    accuracy = found["corrected"]["watkins"]["intervals"]["accuracy_normalised"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert "official targets" in err


@pytest.mark.parametrize(
    ("scorer", "absent"), [("official", "corrected"), ("corrected", "official")]
)
def test_one_scorer_alone(capsys, scorer, absent):
    path = FIXTURES / "cls_small.jsonl"
    code, out, _ = shown(capsys, path, "--scorer", scorer, "--json", "--resamples", 0)
    found = json.loads(out)
    assert code == 0
    assert found[scorer]
    assert found[absent] is None


def test_tables_fit_80_columns_and_say_what_is_missing(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = shown(capsys, FIXTURES / "all_components_shuffled.jsonl", "--resamples", 20)
    assert code == 0
    assert "unseen-species-cmn" in out
    assert "…" not in out
    assert "mAP not computed: the file has no scores of labels" in out
    assert all(len(line) <= 80 for line in out.splitlines() if "─" in line)


@pytest.mark.parametrize("name", ["null_prediction", "numeric_only_predictions"])
def test_rows_that_stop_the_official_tool_are_named(capsys, name):
    code, out, err = shown(capsys, FIXTURES / "crash" / f"{name}.jsonl", "--json")
    found = json.loads(out)
    assert code == 3
    assert found["row_errors"]
    assert found["official"]["official_tool_stops_with"].startswith("AttributeError")
    assert "row 2, prediction: " in err


def test_many_row_errors_are_counted_not_poured_out(capsys, tmp_path):
    path = write(
        tmp_path / "p.jsonl", row("adult", "adult"), *(row(None, "adult") for _ in range(30))
    )
    code, _, err = shown(capsys, path)
    assert code == 3
    assert err.count("null or missing") == 10
    assert "and 20 more row errors" in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no rows"),
        (
            '{"prediction": "a", "label": "b", "dataset_name": "mine"}\n',
            "no row of a known component, only: mine",
        ),
    ],
)
def test_a_file_of_nothing_known_is_refused(capsys, tmp_path, content, message):
    path = tmp_path / "p.jsonl"
    path.write_text(content, encoding="utf-8")
    code, out, err = shown(capsys, path)
    assert (code, out) == (2, "")
    assert message in err


def test_a_csv_scores_as_its_json_lines(tmp_path):
    lines = (FIXTURES / "det.jsonl").read_bytes().decode("utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    import csv

    path = tmp_path / "det.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(
            file, ["prediction", "label", "dataset_name"], extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows(rows)
    settings = ScoreSettings(resamples=0)
    first, second = evaluate_file(path, settings), evaluate_file(FIXTURES / "det.jsonl", settings)
    assert first.official.metrics == second.official.metrics
    assert first.official.processed == second.official.processed
    assert first.file.official_stop


def test_confidence_and_scores_give_calibration():
    rows = [
        PredictionRow(1, "lifestage", "adult", "adult", confidence=0.9),
        PredictionRow(2, "lifestage", "adult", "nestling", scores={"adult": 0.6, "nestling": 0.4}),
        PredictionRow(3, "lifestage", "adult", "adult", scores={"adult": -1.0, "nestling": 3.0}),
        PredictionRow(4, "lifestage", "adult", "adult"),
    ]
    found = evaluate_rows(rows, ScoreSettings(resamples=0)).calibration["lifestage"]
    assert found.rows == 2
    assert found.ece == pytest.approx((0.1 + 0.6) / 2)


def test_taxonomic_credit_comes_from_the_labels_or_a_lookup():
    label = "Chordata Aves Passeriformes Calyptophilidae Calyptophilus tertius"
    other = "Chordata Aves Passeriformes Calyptophilidae Calyptophilus frugivorus"
    rows = [
        PredictionRow(1, "unseen-family-tax", other, label),
        PredictionRow(2, "lifestage", "adult", "adult"),
    ]
    found = evaluate_rows(rows, ScoreSettings(resamples=0)).taxonomic
    assert set(found) == {"unseen-family-tax"}
    assert found["unseen-family-tax"].accuracy == {"species": 0, "genus": 1, "family": 1}
    ranks = {"adult": Ranks("A a", "A", "F")}
    looked = evaluate_rows(rows, ScoreSettings(resamples=0, lookup=ranks.get)).taxonomic
    assert looked["lifestage"].accuracy["species"] == 1


def test_a_taxonomy_becomes_a_lookup():
    class Taxon:
        def __init__(self, scientific):
            self.scientific, self.genus, self.family = scientific, scientific.split(" ")[0], "F"

    class Taxonomy:
        def find(self, name):
            return {"Wren": Taxon("Troglodytes troglodytes"), "Engine": Taxon("")}.get(name)

    look = lookup_in(Taxonomy())
    assert look("Wren") == Ranks("Troglodytes troglodytes", "Troglodytes", "F")
    assert look("Engine") is None
    assert look("Nobody") is None


def test_a_component_without_a_single_prediction_is_not_silently_absent():
    rows = [
        PredictionRow(1, "lifestage", None, "adult"),
        PredictionRow(2, "zf-indiv", "One", "One"),
    ]
    found = evaluate_rows(rows, ScoreSettings(resamples=0))
    assert found.official.errors == {"lifestage": "no metrics: no row has a prediction"}
    assert "lifestage" not in found.official.missing
    assert found.corrected.components["lifestage"].metrics["accuracy_normalised"] == 0


@pytest.mark.parametrize("cached", [True, False])
def test_common_names_earn_credit_from_the_cached_names(tmp_path, monkeypatch, capsys, cached):
    labels, birds = tmp_path / "labels.txt", tmp_path / "birds.csv"
    labels.write_text(
        "Turdus merula_Eurasian Blackbird\nTurdus pilaris_Fieldfare\n", encoding="utf-8"
    )
    birds.write_text(
        "scientific_name,ebird_order,ebird_family\nTurdus merula,Passeriformes,Turdidae\n"
        "Turdus pilaris,Passeriformes,Turdidae\n",
        encoding="utf-8",
    )
    files = {"birdnet-labels": labels, "birdnames-ebird": birds} if cached else {}
    monkeypatch.setitem(sys.modules, "NatureLM.models.parts", SimpleNamespace(cached=files.get))
    path = write(tmp_path / "p.jsonl", row("Fieldfare", "Eurasian Blackbird", "cbi"))
    code, out, err = shown(capsys, path, "--json", "--taxonomy")
    if cached:
        credit = json.loads(out)["corrected"]["cbi"]["taxonomic"]
        assert credit["accuracy"] == {"species": 0, "genus": 1, "family": 1}
        assert code == 0
    else:
        assert code == 2
        assert "naturelm models pull pocket" in err


def test_rows_of_no_benchmark_are_refused():
    with pytest.raises(FormatError, match="no row of a known component"):
        evaluate_rows([PredictionRow(1, "mine", "a", "b")])


JAVA = """#!{python}
import json, sys
if "{mode}" == "broken":
    sys.exit("OutOfMemoryError")
asked = json.load(open(sys.argv[sys.argv.index("-jar") + 2]))
told = [{{"image_id": row["image_id"], "scores": {{"All": {{"f": 0.25 if row["test"] else float("nan")}}}}}} for row in asked]
json.dump(told[:1] if "{mode}" == "short" else told, open(sys.argv[sys.argv.index("-out") + 1], "w"))
"""


def jars(folder, *names):
    (folder / "lib").mkdir()
    for name in names or (
        "spice-1.0.jar",
        "lib/stanford-corenlp-3.6.0.jar",
        "lib/stanford-corenlp-3.6.0-models.jar",
    ):
        (folder / name).touch()
    return folder


def java(tmp_path, monkeypatch, mode):
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text(JAVA.format(python=sys.executable, mode=mode), encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for Java is a script")
@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("works", None),
        ("broken", "exit code 1: OutOfMemoryError"),
        ("short", "SPICE scored 1 of 2 captions"),
    ],
)
def test_spice_runs_through_java_and_says_why_when_it_does_not(tmp_path, monkeypatch, mode, reason):
    java(tmp_path, monkeypatch, mode)
    rows = [
        PredictionRow(1, "captioning", "a bird", "a bird"),
        PredictionRow(2, "captioning", "", "a frog"),
    ]
    settings = ScoreSettings(resamples=0, spice_folder=jars(tmp_path))
    found = evaluate_rows(rows, settings)
    if reason is None:
        assert found.official.captioning.spice == 0.125
        assert found.official.metrics["captioning"]["spider_score"] == pytest.approx(
            (found.official.captioning.cider.mean / 10 + 0.125) / 2
        )
        assert found.corrected.components["captioning"].headline == "spider"
    else:
        assert reason in found.official.errors["captioning"]
        assert reason in found.corrected.components["captioning"].not_computed["spider"]


def test_what_spice_lacks_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("NATURELM_SPICE", raising=False)
    with pytest.raises(DependencyError, match="--spice-jars or NATURELM_SPICE"):
        find_spice()
    with pytest.raises(DependencyError, match=r"stanford-corenlp-3\.6\.0-models\.jar, not found"):
        find_spice(jars(tmp_path, "spice-1.0.jar"))
    monkeypatch.setenv("NATURELM_SPICE", str(tmp_path))
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (tmp_path / "lib" / name).touch()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DependencyError, match="no java on the PATH"):
        find_spice()


def test_scoring_imports_no_torch():
    import subprocess

    code = "import sys, NatureLM.cli.evaluate_score; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
