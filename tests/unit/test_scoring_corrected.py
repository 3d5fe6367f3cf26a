import pytest

from NatureLM.scoring.answers import AnswerReader
from NatureLM.scoring.corrected import score_corrected
from NatureLM.scoring.rows import PredictionRow
from NatureLM.scoring.vocabulary import Component, beans_zero_components, split_labels

WHALES = beans_zero_components()["watkins"].labels
BIRDS = Component("birds", "detection", ("Wren", "Robin", "Great Tit"))
STAGE = Component("stage", "classification", ("adult", "juvenile", "nestling"))
KNOWN = {each.name: each for each in (BIRDS, STAGE)}


def rows(name, *pairs, **more):
    return [
        PredictionRow(number, name, prediction, label, str(number), str(number), **more)
        for number, (prediction, label) in enumerate(pairs, 1)
    ]


def score(name, *pairs, **more):
    return score_corrected(rows(name, *pairs, **more), KNOWN).components[name]


def test_the_22_components_are_those_of_the_published_table():
    components = beans_zero_components()
    assert len(components) == 22
    assert sum(each.rows for each in components.values()) == 91965
    tasks = [each.task for each in components.values()]
    assert [tasks.count(task) for task in ("classification", "detection", "captioning")] == [
        16,
        5,
        1,
    ]
    assert "None" not in components["rfcx"].vocabulary
    assert len(components["rfcx"].vocabulary) == 24


def test_a_list_with_comma_labels_comes_apart_at_the_right_commas():
    text = "Walrus, Fin, Finback Whale,beluga, white whale , Fin,,Unknown thing"
    assert split_labels(text, WHALES) == [
        "Walrus", "Fin, Finback Whale", "beluga, white whale", "Fin", "Unknown thing",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "strict", "normalised", "nearest"),
    [
        ("Walrus", "Walrus", "Walrus", "Walrus"),
        ("Walrus<|end_of_text|>Narwhal", "Walrus", "Walrus", "Walrus"),
        ("walrus.", None, "Walrus", "Walrus"),
        (" **Walrus** ", None, "Walrus", "Walrus"),
        ("1. Walrus", None, "Walrus", "Walrus"),
        ("A walrus", None, "Walrus", "Walrus"),
        ("beluga,  white whale", None, "Beluga, White Whale", "Beluga, White Whale"),
        ("The common name for the focal species in the audio is Walrus.", None, "Walrus", "Walrus"),
        ("Wallrus", None, None, "Walrus"),
        ("Walrus<|eot_id|>", None, "Walrus", "Walrus"),
    ],
)
def test_an_answer_is_read_three_ways(text, strict, normalised, nearest):
    read = AnswerReader(WHALES).one(text)
    assert (read.strict, read.normalised, read.nearest) == (strict, normalised, nearest)


def test_spelling_that_fits_two_labels_is_not_forgiven():
    read = AnswerReader(["An gambiae", "an. gambiae", "An Gambiae"]).one("AN GAMBIAE")
    assert read.normalised is None
    assert AnswerReader(["cow", "crow"]).one("Cow").normalised == "cow"


@pytest.mark.parametrize(
    ("text", "normalised", "nearest", "invalid"),
    [
        ("Wren, Robin", {"Wren", "Robin"}, {"Wren", "Robin"}, ()),
        ("robin; wren, robin", {"Wren", "Robin"}, {"Wren", "Robin"}, ()),
        ("- Wren\n- Great Tit", {"Wren", "Great Tit"}, {"Wren", "Great Tit"}, ()),
        ("None", set(), set(), ()),
        ("no animals", set(), set(), ()),
        ("", set(), set(), ("",)),
        (", ,", set(), set(), ("",)),
        ("Wren, Great Tot", {"Wren"}, {"Wren", "Great Tit"}, ("Great Tot",)),
        ("Human speech", set(), set(), ("Human speech",)),
        ("Robot", set(), {"Robin"}, ("Robot",)),
        ("Rbot", set(), set(), ("Rbot",)),
    ],
)
def test_a_list_is_read_label_by_label(text, normalised, nearest, invalid):
    read = AnswerReader(BIRDS.vocabulary).many(text)
    assert (read.normalised, read.nearest, read.invalid) == (normalised, nearest, invalid)


def test_a_perfect_combination_that_never_occurs_alone_is_perfect():
    found = score("birds", ("Wren, Robin", "Wren, Robin"), ("None", "None"))
    assert found.metrics["f1_macro"] == found.metrics["f1_samples"] == 1
    assert (found.presence.found, found.presence.agreed_none) == (1, 1)


def test_a_hallucination_is_invalid_and_wrong_but_nearest_to_something():
    found = score(
        "stage", ("The bird seems fully grown", "adult"), ("adult", "adult"), ("Adult.", "adult")
    )
    assert found.metrics["accuracy_strict"] == pytest.approx(1 / 3)
    assert found.metrics["accuracy_normalised"] == pytest.approx(2 / 3)
    assert found.metrics["invalid_rate"] == pytest.approx(1 / 3)
    assert found.common_invalid == (("The bird seems fully grown", 1),)


def test_a_failed_row_is_wrong_and_counted_but_not_invalid():
    for name, label in (("stage", "adult"), ("birds", "None")):
        found = score(name, (None, label), (label, label))
        assert found.failed == 1
        assert [outcome.value for outcome in found.outcomes] == [0, 1]
        assert found.metrics["invalid_rate"] == 0


def test_a_reference_outside_the_vocabulary_is_added_and_named():
    found = score("stage", ("fledgling", "fledgling"))
    assert found.undeclared == ("fledgling",)
    assert found.metrics["accuracy_normalised"] == 1
    assert score("birds", ("Owl", "Owl")).undeclared == ("Owl",)


def test_balanced_accuracy_does_not_reward_the_majority():
    pairs = [("adult", "adult")] * 9 + [("adult", "juvenile")]
    found = score("stage", *pairs)
    assert found.metrics["accuracy_normalised"] == 0.9
    assert found.metrics["balanced_accuracy"] == 0.5


def test_map_needs_scores_and_says_so():
    assert "mAP" not in score("birds", ("Wren", "Wren")).metrics
    assert score("birds", ("Wren", "Wren")).not_computed["mAP"].startswith("not computed: ")
    found = score("birds", ("Wren", "Wren"), ("None", "Robin"), scores={"wren": 0.9, "Robin": 0.2})
    assert set(found.average_precision) == {"Wren", "Robin"}
    assert found.metrics["mAP"] == pytest.approx(0.5)
    assert not found.not_computed


def test_captions_say_why_there_is_no_spider():
    data = rows("captioning", ("a bird sings", "a bird sings"), ("", "a frog calls"))
    found = score_corrected(data, no_spice_reason="Java is missing").components["captioning"]
    assert found.not_computed == {
        "spice": "not computed: Java is missing",
        "spider": "not computed: Java is missing",
    }
    assert found.metrics["empty_rate"] == 0.5
    full = score_corrected(data, spice=lambda answers, _: [0.5] * len(answers)).components[
        "captioning"
    ]
    assert full.metrics["spider"] == (full.metrics["cider"] / 10 + 0.5) / 2


def test_missing_and_unknown_components_are_named():
    found = score_corrected(rows("stage", ("adult", "adult")) + rows("else", ("x", "y")), KNOWN)
    assert found.missing == ("birds",)
    assert found.unknown == ("else",)
