import json

import pytest

from NatureLM import cli
from NatureLM.errors import FormatError
from NatureLM.eval.compare import compare
from NatureLM.eval.score import ScoreSettings
from NatureLM.scoring.rows import PredictionFile, PredictionRow

FAST = ScoreSettings(resamples=200)


def run(name, right, total=60, **more):
    """A run that has the first ``right`` rows right."""
    rows = [
        PredictionRow(
            n,
            "lifestage",
            "adult" if n < right else "nestling",
            "adult",
            f"id{n}",
            more.get("recording", f"id{n}"),
        )
        for n in range(total)
    ]
    return PredictionFile(tuple(rows), name=name)


def test_a_run_against_itself_shows_no_difference():
    found = compare(run("a", 30), run("b", 30), FAST).components["lifestage"]
    assert found.differences["accuracy_normalised"].interval.value == 0
    assert (found.mcnemar.only_first, found.mcnemar.only_second, found.p_value) == (0, 0, 1)


def test_a_better_run_is_found_better_and_swapping_flips_the_sign():
    found = compare(run("a", 20), run("b", 40), FAST).components["lifestage"]
    swapped = compare(run("b", 40), run("a", 20), FAST).components["lifestage"]
    change, back = (x.differences["accuracy_normalised"].interval for x in (found, swapped))
    assert change.low > 0
    assert (back.value, back.low) == (-change.value, pytest.approx(-change.high))
    assert found.p_value == swapped.p_value < 0.001


def test_rows_are_paired_by_id_not_by_place():
    first = run("a", 30)
    reverse = PredictionFile(first.rows[::-1], name="b")
    found = compare(first, reverse, FAST).components["lifestage"]
    assert (found.mcnemar.only_first, found.mcnemar.only_second) == (0, 0)


def test_rows_in_one_file_only_are_left_out_and_counted():
    found = compare(run("a", 30), run("b", 30, total=50), FAST)
    assert found.left_out == 10
    assert found.components["lifestage"].rows == 50
    assert found.warnings == ("10 row(s) are in one file only and left out",)


def test_rows_cut_from_one_recording_are_not_taken_for_independent():
    def cut(name, right):
        rows = [
            PredictionRow(
                n, "lifestage", "adult" if n < right else "nestling", "adult", str(n), f"r{n // 20}"
            )
            for n in range(60)
        ]
        return PredictionFile(tuple(rows), name=name)

    found = compare(cut("a", 20), cut("b", 40), FAST).components["lifestage"]
    assert found.mcnemar.p_value < 0.001
    assert found.p_value == found.differences["accuracy_normalised"].p_value > 0.05


def test_p_values_are_corrected_for_looking_at_several_components():
    def two(name, right):
        more = [PredictionRow(99, "zf-indiv", "One", "One", "z", "z")]
        return PredictionFile((*run(name, right).rows, *more), name=name)

    found = compare(two("a", 20), two("b", 26), FAST).components
    assert found["lifestage"].p_holm == pytest.approx(2 * found["lifestage"].p_value)
    assert found["zf-indiv"].p_holm == 1


def test_different_references_are_refused():
    other = PredictionFile((PredictionRow(1, "lifestage", "adult", "nestling", "id1"),), name="b")
    with pytest.raises(FormatError, match="different references: 'adult' and 'nestling'"):
        compare(run("a", 3), other, FAST)


def test_files_that_share_nothing_are_refused():
    other = PredictionFile((PredictionRow(1, "zf-indiv", "One", "One", "x"),), name="b")
    with pytest.raises(FormatError, match="a and b share no row"):
        compare(run("a", 3), other, FAST)


def write(path, file):
    rows = (
        {"prediction": r.prediction, "label": r.label, "dataset_name": r.dataset, "id": r.id}
        for r in file.rows
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_the_command_prints_a_table_or_json(tmp_path, capsys):
    paths = [
        write(tmp_path / "a.jsonl", run("a", 20)),
        write(tmp_path / "b.jsonl", run("b", 40, total=59)),
    ]
    assert cli.main(["evaluate", "compare", *paths, "--resamples", "50"]) == 0
    printed = capsys.readouterr()
    assert "lifestage" in printed.out
    assert "0/20" in printed.out
    assert "1 row(s) are in one file only" in printed.err
    assert cli.main(["evaluate", "compare", *paths, "--resamples", "50", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["components"]["lifestage"]["mcnemar"]["only_second"] == 20


def test_a_broken_file_is_refused(tmp_path, capsys):
    good = write(tmp_path / "a.jsonl", run("a", 20))
    assert cli.main(["evaluate", "compare", good, str(tmp_path / "none.jsonl")]) == 2
    assert "cannot be read" in capsys.readouterr().err
