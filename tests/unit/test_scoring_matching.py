import random

import pytest

from NatureLM.scoring.matching import LabelMatcher, edit_distance


def table_distance(first, second):
    """Fill the whole table, as the textbook does."""
    row = list(range(len(second) + 1))
    for i, x in enumerate(first, 1):
        above, row = row, [i]
        for j, y in enumerate(second, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


@pytest.mark.parametrize("longest", [4, 12, 90])
def test_distances_to_a_whole_vocabulary_are_those_of_the_textbook(longest):
    rng = random.Random(longest)
    for _ in range(150):
        labels = {
            "".join(rng.choices("abñ🐗 ", k=rng.randint(0, longest)))
            for _ in range(rng.randint(1, 7))
        }
        matcher = LabelMatcher(labels)
        text = "".join(rng.choices("abñ🐗 z", k=rng.randint(0, longest)))
        assert list(matcher.distances(text)) == [
            table_distance(text, label) for label in matcher.labels
        ]


def test_ties_go_to_the_label_that_sorts_first_whatever_the_order_given():
    labels = ["song", "call", "bill", "tall"]
    for order in (labels, labels[::-1]):
        assert LabelMatcher(order).nearest("xxxx").label == "bill"
        assert LabelMatcher(order).nearest("").label == "bill"


def test_a_label_is_its_own_nearest():
    matcher = LabelMatcher(["Southern Emu-wren", "Southern Emuwren", ""])
    for label in matcher.labels:
        assert (matcher.nearest(label).label, matcher.nearest(label).distance) == (label, 0)
    assert "Southern Emuwren" in matcher
    assert "southern emuwren" not in matcher


def test_a_vocabulary_needs_a_label():
    with pytest.raises(ValueError, match="at least one label"):
        LabelMatcher([])


def test_distance_of_two_texts():
    assert edit_distance("cow", "crow") == 1
    assert edit_distance("", "abc") == 3
    assert edit_distance("kitten", "sitting") == 3
