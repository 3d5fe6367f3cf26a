"""Answers into labels, neighbours into events: laws of both."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from NatureLM.annotations import Annotation, Vocabulary, annotate, labels_in, merge_neighbours

COMMAS = Vocabulary(["Finch, Purple", "Finch", "Purple Finch", "American Robin", "St. John's Wort"])


@pytest.mark.parametrize(
    ("answer", "labels"),
    [
        ("American Robin", ("American Robin",)),
        ("american  robin.", ("American Robin",)),
        ("Finch, Purple, American Robin", ("Finch, Purple", "American Robin")),
        ("Finch,Purple", ("Finch, Purple",)),
        ("Purple Finch, Finch", ("Purple Finch", "Finch")),
        ("American Robin; American Robin\nFinch", ("American Robin", "Finch")),
        ("Dodo, American Robin", ("Dodo", "American Robin")),
        ("None", ()),
        ("none.", ()),
        ("", ()),
        (" , ", ()),
    ],
)
def test_labels_of_a_known_vocabulary(answer: str, labels: tuple[str, ...]) -> None:
    assert labels_in(answer, COMMAS) == labels


def test_fewest_unknown_words_win_over_the_longest_first_label() -> None:
    assert labels_in("A, B, C", Vocabulary(["A, B", "A", "B, C"])) == ("A", "B, C")


def test_without_a_vocabulary_every_comma_cuts() -> None:
    assert labels_in("Finch, Purple.") == ("Finch", "Purple")


words = st.text("abc", min_size=1, max_size=3)
names = st.lists(words, min_size=1, max_size=3).map(", ".join).filter(lambda n: n != "None")


@given(st.lists(names, unique=True, min_size=1, max_size=6), st.data())
def test_a_list_of_known_labels_never_reads_as_unknown(vocabulary: list[str], data) -> None:
    said = data.draw(st.lists(st.sampled_from(vocabulary), min_size=1, max_size=4))
    read = labels_in(", ".join(said), Vocabulary(vocabulary))
    assert set(read) <= set(vocabulary)
    assert len(read) <= len(said)
    assert labels_in(said[0], Vocabulary(vocabulary)) == (said[0],)


def test_annotate_places_each_label_on_its_window() -> None:
    answers = [(0.0, 10.0, "American Robin, Finch, Purple"), (10.0, 12.5, "None")]
    assert annotate(answers, COMMAS) == [
        Annotation(0.0, 10.0, "American Robin"),
        Annotation(0.0, 10.0, "Finch, Purple"),
    ]


def test_an_event_spans_its_members_and_keeps_the_best_score() -> None:
    members = [
        Annotation(0.0, 3.0, "wolf", 200.0, None, 0.4),
        Annotation(3.0, 6.0, "wolf", 150.0, 900.0, 0.9),
        Annotation(8.0, 9.0, "wolf"),
    ]
    joined = Annotation(0.0, 6.0, "wolf", 150.0, 900.0, 0.9)
    assert merge_neighbours(members) == [joined, Annotation(8.0, 9.0, "wolf")]
    assert merge_neighbours(members, gap_s=2.0) == [Annotation(0.0, 9.0, "wolf", 150.0, 900.0, 0.9)]


def test_a_negative_gap_is_refused() -> None:
    with pytest.raises(ValueError, match="gap_s is -1"):
        merge_neighbours([], gap_s=-1)


annotations = st.lists(
    st.builds(
        lambda start, length, label: Annotation(start / 4, (start + length) / 4, label),
        st.integers(0, 60),
        st.integers(0, 20),
        st.sampled_from("ab"),
    ),
    max_size=25,
)


def _covered(events: list[Annotation], label: str) -> set[int]:
    quarters = [range(int(e.start_s * 4), int(e.end_s * 4)) for e in events if e.label == label]
    return set().union(*quarters)


@given(annotations, st.randoms(use_true_random=False), st.sampled_from([0.0, 1.0]))
def test_merging_covers_the_same_time_in_any_order_and_only_once(members, random, gap_s) -> None:
    events = merge_neighbours(members, gap_s)
    shuffled = list(members)
    random.shuffle(shuffled)
    assert merge_neighbours(shuffled, gap_s) == events
    assert merge_neighbours(events, gap_s) == events
    for label in "ab":
        before, after = _covered(members, label), _covered(events, label)
        assert before <= after
        if not gap_s:
            assert before == after
        mine = [e for e in events if e.label == label]
        assert all(b.start_s - a.end_s > gap_s for a, b in itertools.pairwise(mine))
