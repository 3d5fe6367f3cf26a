import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from NatureLM.scoring.beans_zero import process, score_official
from NatureLM.scoring.calibration import calibrate
from NatureLM.scoring.captioning import cider
from NatureLM.scoring.corrected import score_corrected
from NatureLM.scoring.detection import average_precision, tied_average_precision
from NatureLM.scoring.matching import edit_distance
from NatureLM.scoring.rows import PredictionRow
from NatureLM.scoring.statistics import holm
from NatureLM.scoring.vocabulary import beans_zero_components, split_labels

COMPONENTS = beans_zero_components()
SINGLE = [each for each in COMPONENTS.values() if each.task == "classification"]
LISTS = [each for each in COMPONENTS.values() if each.task == "detection"]

texts = st.text(alphabet="abcñ ,.🐗", max_size=24)


@st.composite
def single_rows(draw):
    component = draw(st.sampled_from(SINGLE))
    labels = st.sampled_from(component.labels)
    answers = labels | labels.map(str.upper) | labels.map(lambda x: f"It is a {x}.") | texts
    pairs = draw(st.lists(st.tuples(answers, labels), min_size=1, max_size=12))
    return rows_of(component.name, pairs)


@st.composite
def list_rows(draw):
    component = draw(st.sampled_from(LISTS))
    lists = st.lists(st.sampled_from(component.vocabulary), max_size=3, unique=True)
    joined = lists.map(lambda labels: ", ".join(labels) or "None")
    pairs = draw(st.lists(st.tuples(joined | texts, joined), min_size=1, max_size=12))
    return rows_of(component.name, pairs)


def rows_of(name, pairs):
    return [
        PredictionRow(n, name, given, label, str(n), str(n))
        for n, (given, label) in enumerate(pairs)
    ]


def corrected(rows):
    return score_corrected(rows).components[rows[0].dataset]


@given(texts, texts, texts)
def test_edit_distance_is_a_metric(a, b, c):
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))


@given(single_rows())
def test_each_way_of_matching_forgives_at_least_as_much_as_the_one_before(rows):
    found = corrected(rows).metrics
    assert found["accuracy_strict"] <= found["accuracy_normalised"] <= found["accuracy_nearest"]
    assert found["accuracy_nearest"] <= found["accuracy_normalised"] + found["invalid_rate"] + 1e-12


@given(st.one_of(single_rows(), list_rows()), st.randoms())
def test_the_order_of_rows_does_not_matter(rows, rng):
    shuffled = rng.sample(rows, len(rows))
    first, second = corrected(rows).metrics, corrected(shuffled).metrics
    assert first.keys() == second.keys()
    assert np.allclose([first[key] for key in first], [second[key] for key in first])


@given(list_rows(), st.randoms())
def test_the_order_within_a_list_and_repeats_do_not_matter(rows, rng):
    def stirred(text):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        rng.shuffle(parts)
        return ", ".join(parts + parts[:1]) if parts else text

    other = [
        PredictionRow(row.number, row.dataset, stirred(row.prediction), row.label) for row in rows
    ]
    assert corrected(rows).metrics == corrected(other).metrics


@given(st.one_of(single_rows(), list_rows()))
def test_every_metric_is_a_share_and_repeating_labels_is_perfect(rows):
    assert all(0 <= value <= 1 for value in corrected(rows).metrics.values())
    perfect = corrected([PredictionRow(r.number, r.dataset, r.label, r.label) for r in rows])
    assert all(outcome.value == 1 for outcome in perfect.outcomes)
    assert perfect.metrics["invalid_rate"] == 0


@given(single_rows())
def test_official_answers_are_labels_of_the_file_and_stay_so(rows):
    labels = [row.label for row in rows]
    answers = process([row.prediction for row in rows], labels, "classification")
    assert set(answers) <= set(labels)
    assert process(answers, labels, "classification") == answers


@given(list_rows())
def test_official_detection_answers_are_labels_of_the_file_or_none(rows):
    labels = [row.label for row in rows]
    answers = process([row.prediction for row in rows], labels, "detection")
    single = {label for label in labels if "," not in label} | {"None"}
    assert all(
        part in single or any(part in label for label in labels)
        for answer in answers
        for part in answer.split(", ")
    )


@given(st.one_of(single_rows(), list_rows()))
def test_a_components_score_does_not_depend_on_other_components(rows):
    other = rows_of("lifestage", [("adult", "juvenile")])
    name = rows[0].dataset
    if name != "lifestage":
        together = score_official(rows + other)
        assert together.metrics.get(name) == score_official(rows).metrics.get(name)
        assert score_corrected(rows + other).components[name].metrics == corrected(rows).metrics


@given(st.lists(st.sampled_from(COMPONENTS["watkins"].labels), max_size=5))
def test_a_joined_list_comes_apart_into_what_was_joined(labels):
    assert split_labels(", ".join(labels), COMPONENTS["watkins"].labels) == labels


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=8))
def test_cider_lies_between_0_and_10(pairs):
    found = cider([given for given, _ in pairs], [label for _, label in pairs])
    assert all(-1e-9 <= value <= 10 + 1e-9 for value in found.per_row)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 2**32))
def test_average_precision_is_a_share_and_perfect_when_ranked_so(relevant, seed):
    truth = np.array(relevant)
    scores = np.random.default_rng(seed).random(len(truth))
    for measure in (average_precision, tied_average_precision):
        assert 0 <= measure(truth, scores) <= 1 + 1e-12
        assert np.isclose(measure(truth, scores + truth), truth.any())
    assert np.isclose(tied_average_precision(truth, np.zeros(len(truth))), truth.mean())


@given(st.dictionaries(st.integers(), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(values):
    found = holm(values)
    assert all(values[name] <= found[name] <= 1 for name in values)
    ranked = sorted(values, key=values.__getitem__)
    assert [found[name] for name in ranked] == sorted(found.values())


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_calibration_is_bounded_and_ends_at_the_error_rate(pairs):
    found = calibrate([sure for sure, _ in pairs], [right for _, right in pairs])
    assert 0 <= found.ece <= 1
    assert 0 <= found.aurc <= 1
    assert sum(each.rows for each in found.bins) == len(pairs)
    assert found.coverage[-1] == 1
    assert np.isclose(found.risk[-1], 1 - np.mean([right for _, right in pairs]))


def test_ties_do_not_depend_on_the_order_of_the_file():
    labels = ["call", "song"] * 3
    rows = rows_of("call-type", [("xxxx", label) for label in labels])
    for seed in range(5):
        shuffled = random.Random(seed).sample(rows, len(rows))
        assert set(score_official(shuffled).processed) == {"call"}
