import numpy as np
import pytest

from NatureLM.scoring.calibration import calibrate
from NatureLM.scoring.corrected import score_corrected
from NatureLM.scoring.figures import figures, intervals
from NatureLM.scoring.rows import PredictionRow
from NatureLM.scoring.statistics import (
    bootstrap,
    clusters_of,
    draws,
    holm,
    mcnemar,
    paired_bootstrap,
)
from NatureLM.scoring.taxonomic import (
    Ranks,
    first_of,
    ranks_of_binomial,
    ranks_of_lineage,
    taxonomic_credit,
)


def mean_of(values):
    return lambda weights: {"mean": float(values @ weights / weights.sum())}


def test_rows_of_one_recording_are_drawn_together():
    clusters = clusters_of(["a", "b", "a", "", "", "b"])
    assert list(clusters) == [0, 1, 0, 2, 3, 1]
    for weights in draws(clusters, 50):
        assert weights[0] == weights[2]
        assert weights[1] == weights[5]


def test_intervals_are_wider_when_rows_hang_together():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.random(40) < 0.5, 5).astype(float)
    apart = bootstrap(mean_of(values), np.arange(200))["mean"]
    together = bootstrap(mean_of(values), np.repeat(np.arange(40), 5))["mean"]
    assert apart.low <= apart.value <= apart.high
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_the_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(1).random(400)
    found = bootstrap(mean_of(values), np.arange(400), 4000)["mean"]
    half = 1.96 * values.std() / 20
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)


def test_the_same_seed_gives_the_same_interval():
    values, clusters = np.random.default_rng(2).random(30), np.arange(30)
    assert bootstrap(mean_of(values), clusters, 100, 7) == bootstrap(
        mean_of(values), clusters, 100, 7
    )
    assert bootstrap(mean_of(values), clusters, 100, 7) != bootstrap(
        mean_of(values), clusters, 100, 8
    )


def test_a_run_does_not_differ_from_itself_and_does_from_a_better_one():
    first = np.random.default_rng(3).random(100) < 0.5
    same = paired_bootstrap(mean_of(first), mean_of(first), np.arange(100))["mean"]
    assert (same.interval.low, same.interval.high, same.p_value) == (0, 0, 1)
    better = paired_bootstrap(mean_of(first), mean_of(np.ones(100)), np.arange(100))["mean"]
    assert better.interval.low > 0
    assert better.p_value < 0.01


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    [(0, 0, 1), (1, 5, 0.21875), (3, 3, 1), (0, 10, 2 / 1024)],
)
def test_mcnemar_is_the_exact_binomial(only_first, only_second, p_value):
    first = [True] * only_first + [False] * only_second + [True, False]
    second = [False] * only_first + [True] * only_second + [True, False]
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p_value == pytest.approx(p_value)


def test_holm_steps_down():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert list(found) == ["a", "b", "c"]


def test_calibration_of_a_known_case():
    found = calibrate([0.95, 0.95, 0.15, 1.0], [True, False, False, True])
    assert [(each.low, each.rows, each.accuracy) for each in found.bins] == [
        (0.1, 1, 0.0), (0.9, 3, pytest.approx(2 / 3)),
    ]  # fmt: skip
    assert found.ece == pytest.approx((0.15 + 3 * abs(2.9 / 3 - 2 / 3)) / 4)
    assert found.coverage == (0.25, 0.75, 1.0)
    assert found.risk == pytest.approx((0, 1 / 3, 0.5))
    assert calibrate([], []) is None


def test_a_long_risk_curve_is_thinned_but_keeps_its_ends():
    sure = np.random.default_rng(0).random(5000)
    found = calibrate(sure.tolist(), (sure > 0.5).tolist())
    assert len(found.coverage) <= 200
    assert found.coverage[-1] == 1
    assert found.risk[-1] == pytest.approx((sure <= 0.5).mean())


def _score(name, pairs):
    rows = [PredictionRow(n, name, p, t, str(n), str(n // 2)) for n, (p, t) in enumerate(pairs)]
    return score_corrected(rows).components[name]


CASES = {
    "lifestage": [
        ("adult", "adult"),
        ("juvenile", "adult"),
        ("nestling", "nestling"),
        ("?", "adult"),
        (None, "adult"),
    ],
    "gibbons": [
        ("Gibbon duet", "Gibbon duet"),
        ("None", "Single pulse gibbon call"),
        ("Gibbon duet, Single pulse gibbon call", "Gibbon duet"),
        ("None", "None"),
    ],
    "captioning": [("a bird sings", "a bird sings"), ("a frog", "a frog calls"), ("x", "y z")],
}


@pytest.mark.parametrize("name", CASES)
def test_figures_on_equal_weights_are_the_scores(name):
    score = _score(name, CASES[name])
    for metric, value in figures(score)(np.ones(len(score.outcomes), dtype=int)).items():
        assert value == pytest.approx(score.metrics[metric]), metric


@pytest.mark.parametrize("name", ["lifestage", "gibbons"])
def test_a_weight_counts_as_that_many_rows(name):
    weights = [3, 0, 2, 1, 1][: len(CASES[name])]
    repeated = [
        pair for pair, weight in zip(CASES[name], weights, strict=True) for _ in range(weight)
    ]
    assert figures(_score(name, CASES[name]))(np.array(weights)) == pytest.approx(
        figures(_score(name, repeated))(np.ones(len(repeated), dtype=int))
    )


def test_intervals_hold_the_value():
    found = intervals(_score("lifestage", CASES["lifestage"] * 10), 200)
    assert set(found) == {"accuracy_normalised", "balanced_accuracy", "f1_macro", "f1_micro"}
    assert all(each.low <= each.value <= each.high for each in found.values())


LINEAGE = "Chordata Aves Passeriformes Turdidae Turdus {}"


def test_ranks_are_read_off_names():
    assert ranks_of_lineage(LINEAGE.format("merula")) == Ranks(
        "Turdus merula", "Turdus", "Turdidae"
    )
    assert ranks_of_lineage("Turdus merula") is None
    assert ranks_of_binomial("Turdus merula") == Ranks("Turdus merula", "Turdus")
    assert ranks_of_binomial("Common Blackbird") is None
    look = first_of(ranks_of_binomial, lambda _: Ranks(family="Turdidae"))
    assert look("Turdus merula") == Ranks("Turdus merula", "Turdus", "Turdidae")
    assert first_of(ranks_of_binomial)("dog") is None


def test_a_near_miss_earns_its_rank():
    labels = {
        "right": Ranks("A a", "A", "F"), "sister": Ranks("A b", "A", "F"),
        "cousin": Ranks("B a", "B", "F"), "stranger": Ranks("C a", "C", "G"),
    }  # fmt: skip
    rows = [PredictionRow(n, "c", given, "right") for n, given in enumerate([*labels, "nonsense"])]
    from NatureLM.scoring.vocabulary import Component

    score = score_corrected(rows, {"c": Component("c", "classification", tuple(labels))})
    credit = taxonomic_credit(score.components["c"].outcomes, labels.get)
    assert credit.rows == {"species": 5, "genus": 5, "family": 5}
    assert credit.accuracy == pytest.approx({"species": 0.2, "genus": 0.4, "family": 0.6})
    assert [each.label for each in credit.families] == ["F", "G"]
    assert taxonomic_credit(score.components["c"].outcomes, lambda _: None) is None
