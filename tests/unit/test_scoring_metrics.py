"""Our metrics against scikit-learn's on random labels."""

import numpy as np
import pytest
from sklearn import metrics as sk

from NatureLM.scoring.classification import (
    accuracy,
    balanced_accuracy,
    count_labels,
    macro,
    micro,
    weighted,
)
from NatureLM.scoring.detection import (
    average_precision,
    count_sets,
    mean_average_precision,
    presence,
    samples_f1,
    tied_average_precision,
)

LABELS = list("abcdef")


@pytest.fixture(params=range(4))
def rng(request):
    return np.random.default_rng(request.param)


def test_single_labels_agree_with_scikit_learn(rng):
    truth, given = (list(rng.choice(LABELS[:size], 60)) for size in (4, 6))
    counts = count_labels(truth, given)
    for name, ours in (
        ("weighted", weighted(counts)),
        ("macro", macro(counts)),
        ("micro", micro(counts)),
    ):
        theirs = sk.precision_recall_fscore_support(truth, given, average=name, zero_division=0)
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx(theirs[:3], abs=1e-12)
    assert accuracy(truth, given) == sk.accuracy_score(truth, given)
    assert balanced_accuracy(counts) == pytest.approx(
        sk.recall_score(truth, given, average="macro", labels=sorted(set(truth)))
    )


def test_label_sets_agree_with_scikit_learn(rng):
    truth, given = (rng.random((50, 6)) < 0.3 for _ in range(2))
    sets = [[{LABELS[i] for i in np.flatnonzero(row)} for row in rows] for rows in (truth, given)]
    counts = count_sets(*sets, LABELS)
    for name, ours in (
        ("weighted", weighted(counts)),
        ("macro", macro(counts)),
        ("micro", micro(counts)),
    ):
        theirs = sk.precision_recall_fscore_support(truth, given, average=name, zero_division=0)
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx(theirs[:3], abs=1e-12)
    assert samples_f1(*sets) == pytest.approx(
        sk.f1_score(truth, given, average="samples", zero_division=1)
    )


def test_presence_counts_every_row_once(rng):
    sets = [[set(rng.choice(LABELS, rng.integers(0, 2))) for _ in range(40)] for _ in range(2)]
    there = presence(*sets)
    assert there.found + there.missed + there.imagined + there.agreed_none == 40
    assert there.found + there.missed == sum(map(bool, sets[0]))
    assert there.found + there.imagined == sum(map(bool, sets[1]))


def test_tied_average_precision_is_scikit_learns(rng):
    relevant = rng.random(80) < 0.3
    for scores in (rng.random(80), rng.integers(0, 4, 80) / 4):
        theirs = sk.average_precision_score(relevant, scores)
        assert tied_average_precision(relevant, scores) == pytest.approx(theirs)


def test_without_ties_both_average_precisions_agree(rng):
    relevant, scores = rng.random(80) < 0.3, rng.random(80)
    assert average_precision(relevant, scores) == pytest.approx(
        tied_average_precision(relevant, scores)
    )


def test_nothing_relevant_is_zero_and_left_out_of_the_mean():
    nothing = np.zeros(3, dtype=bool)
    assert average_precision(nothing, np.ones(3)) == 0
    assert tied_average_precision(nothing, np.ones(3)) == 0
    found = mean_average_precision([{"a"}, set()], [{"a": 0.9}, {"a": 0.1}], ["a", "b"])
    assert found == {"a": 1.0}


def test_a_label_without_a_score_ranks_last():
    found = mean_average_precision([{"a"}, set()], [{}, {"a": -3.0}], ["a"])
    assert found == {"a": 0.5}
