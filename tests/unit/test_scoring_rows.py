import csv
import json
import random

import pytest

from NatureLM.errors import FormatError
from NatureLM.scoring.official_reader import NOTHING
from NatureLM.scoring.rows import read_predictions


def jsonl(tmp_path, *rows):
    path = tmp_path / "p.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    return path


def row(prediction="call", label="song", name="call-type", **more):
    return {"prediction": prediction, "label": label, "dataset_name": name, **more}


def test_text_stays_as_it_is(tmp_path):
    texts = ["None", "", " padded ", "1", "null", "a\u2028b", "tab\there", "🐗", "nan"]
    file = read_predictions(jsonl(tmp_path, *(row(text) for text in texts)))
    assert [each.prediction for each in file.rows] == texts
    assert not file.faults


def test_csv_keeps_none_empty_commas_newlines_and_numbers(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(
        "\ufeffid,prediction,label,dataset_name,extra\n"
        'a,None,None,hiceas,1\nb,,"Minke whale",hiceas,2\nc,"Fin, Finback Whale",Walrus,watkins,3\n'
        'd,"two\nlines",1,zf-indiv,4\n',
        encoding="utf-8",
    )
    file = read_predictions(path)
    assert [each.prediction for each in file.rows] == [
        "None",
        "",
        "Fin, Finback Whale",
        "two\nlines",
    ]
    assert [each.label for each in file.rows] == ["None", "Minke whale", "Walrus", "1"]
    assert not file.faults
    assert file.official_stop == "AttributeError: 'float' object has no attribute 'split'"


def test_a_csv_whose_labels_read_as_missing_stops_the_official_tool(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("prediction,label,dataset_name\nnothing,None,hiceas\n", encoding="utf-8")
    stop = read_predictions(path).official_stop
    assert stop == 'a missing value in place of the label "None" (row 1)'


def test_the_cells_that_pandas_takes_for_missing_are_known():
    pandas = pytest.importorskip("pandas")
    assert pandas._libs.parsers.STR_NA_VALUES == NOTHING


WORDS = [
    "1",
    "2.5",
    "None",
    "",
    "nan",
    "NA",
    "a",
    "1e5",
    " 7",
    "007",
    "inf",
    "1_0",
    "True",
    "FALSE",
    "\u0661",
]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("seed", range(60))
def test_what_the_official_tool_reads_is_what_pandas_reads(tmp_path, kind, seed):
    pandas = pytest.importorskip("pandas")
    rng = random.Random(seed)
    rows = [row(text) for text in rng.choices(rng.sample(WORDS, 3), k=rng.randint(1, 4))]
    path = tmp_path / f"p.{kind}"
    if kind == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        column = pandas.read_csv(path)["prediction"]
    else:
        path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
        column = pandas.read_json(path, lines=True)["prediction"]
    strange = next((type(x).__name__ for x in column if not isinstance(x, str)), None)
    stop = read_predictions(path).official_stop
    assert (stop is None) == (strange is None)
    assert not strange or strange.rstrip("_0123456789") in stop


def test_bad_rows_are_named_and_the_rest_is_kept(tmp_path):
    path = jsonl(
        tmp_path,
        row(),
        "",
        "{broken",
        "[1, 2]",
        row(None),
        {"prediction": "x", "label": "y"},
        {"prediction": "x", "dataset_name": "cbi"},
        '{"prediction": "\udcff", "label": "y", "dataset_name": "cbi"}',
        row(prediction={"a": 1}),
        row(label=["A", "B"]),
        row(label=[]),
        row(prediction=7),
        row(prediction=float("nan")),
        row(prediction=True),
    )
    file = read_predictions(path)
    faults = {(fault.row, fault.column) for fault in file.faults}
    assert faults == {
        (3, ""), (4, ""), (5, "prediction"), (6, "dataset_name"), (7, "label"), (8, ""),
        (9, "prediction"), (13, "prediction"), (14, "prediction"),
    }  # fmt: skip
    assert [each.number for each in file.rows] == [1, 5, 9, 10, 11, 12, 13, 14]
    assert [each.prediction for each in file.rows if each.number in (5, 9, 12)] == [None, None, "7"]
    assert [each.label for each in file.rows if each.number in (10, 11)] == ["A, B", "None"]
    assert str(file.faults[2]) == "row 5, prediction: null or missing; expected text"


def test_optional_columns(tmp_path):
    file = read_predictions(
        jsonl(
            tmp_path,
            row(id=3, recording="r1", scores={"call": 0.5}, confidence=0.25),
            row(id="b"),
            row(scores={"call": "high"}, confidence=2),
        )
    )
    first, second, third = file.rows
    assert (first.id, first.recording, first.confidence) == ("3", "r1", 0.25)
    assert first.scores == {"call": 0.5}
    assert (second.recording, second.scores, second.confidence) == ("b", None, None)
    assert (third.scores, third.confidence) == (None, None)
    assert [(fault.row, fault.column) for fault in file.faults] == [
        (3, "scores"),
        (3, "confidence"),
    ]


def test_scores_in_a_csv_are_json(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(
        'prediction,label,dataset_name,scores,confidence\ncall,song,call-type,"{""call"": 1}",0.5\n'
        "call,song,call-type,,\ncall,song\n",
        encoding="utf-8",
    )
    file = read_predictions(path)
    assert [(each.scores, each.confidence) for each in file.rows] == [
        ({"call": 1.0}, 0.5),
        (None, None),
    ]
    assert [str(fault) for fault in file.faults] == ["row 3: 2 cells; the header has 5"]


@pytest.mark.parametrize(
    ("predictions", "stop"),
    [
        (["1", "2"], "AttributeError: 'int' object has no attribute 'split'"),
        (["1", "2.5"], "AttributeError: 'float' object has no attribute 'split'"),
        (["1", "two"], None),
        (["a", None], "AttributeError: 'float' object has no attribute 'split'"),
        (["None", "a"], None),
        ([7, "a"], "AttributeError: 'int' object has no attribute 'split'"),
    ],
)
def test_what_stops_the_official_tool_is_recorded(tmp_path, predictions, stop):
    file = read_predictions(jsonl(tmp_path, *(row(text) for text in predictions)))
    assert file.official_stop == stop
    assert bool(file.faults) == bool(stop and 7 not in predictions)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "holds no rows"),
        ("a.csv", "", "holds no rows"),
        ("a.csv", "prediction,label\nx,y\n", "dataset_name are missing; found prediction, label"),
        ("a.jsonl", '{"prediction": "x"}\n', "label, dataset_name are missing"),
        ("a.jsonl", "not json at all\n", "are missing; first fault: row 1"),
    ],
)
def test_a_file_without_usable_rows_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(FormatError, match=message):
        read_predictions(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FormatError, match="cannot be read"):
        read_predictions(tmp_path / "nowhere.jsonl")
