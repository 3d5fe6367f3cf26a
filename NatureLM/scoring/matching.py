"""Nearest label by edit distance, all labels of a vocabulary at once.

Knows strings only, no data set and no metric. The surprise: the labels lie side by side in one very long Python integer, so
one pass over the text updates the distance to every label (Myers 1999 in Hyyrö's 2003 form), with no limit on their length.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Nearest:
    """The label nearest to a text.

    Attributes:
        label: First of the nearest labels in code point order.
        distance: Insertions, deletions and substitutions between them, one each.
    """

    label: str
    distance: int


class LabelMatcher:
    """A vocabulary that finds the label nearest to a text.

    Labels lie in one integer, each followed by a separator bit that stops carries. Ties go to the label that sorts first.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self.labels = tuple(sorted(set(labels)))
        if not self.labels:
            raise ValueError("a vocabulary needs at least one label")
        self._known = frozenset(self.labels)
        self._nearest: dict[str, Nearest] = {}
        self._places: dict[str, int] = {}
        starts, place = [], 0
        for label in self.labels:
            starts.append(place)
            for offset, character in enumerate(label):
                self._places[character] = self._places.get(character, 0) | 1 << (place + offset)
            place += len(label) + 1
        self._starts = np.array(starts)
        self._lengths = np.array([len(label) for label in self.labels])
        self._bytes = place // 8 + 1
        separators = sum(
            1 << (start + len(x)) for start, x in zip(starts, self.labels, strict=True)
        )
        self._all = ((1 << place) - 1) & ~separators
        self._firsts = sum(1 << start for start in starts) & self._all

    def __contains__(self, text: str) -> bool:
        return text in self._known

    def nearest(self, text: str) -> Nearest:
        """Find the label nearest to a text; an exact label is its own nearest."""
        found = self._nearest.get(text)
        if found is None:
            found = Nearest(text, 0) if text in self._known else self._search(text)
            self._nearest[text] = found
        return found

    def distances(self, text: str) -> np.ndarray:
        """Measure the edit distance from a text to every label, in the order of ``labels``."""
        rises, falls = self._last_column(text)
        return len(text) + self._count(rises) - self._count(falls)

    def _search(self, text: str) -> Nearest:
        distances = self.distances(text)
        best = int(distances.argmin())
        return Nearest(self.labels[best], int(distances[best]))

    def _last_column(self, text: str) -> tuple[int, int]:
        """Run the bit-parallel recurrence; return where the last column rises and where it falls."""
        every, firsts, places = self._all, self._firsts, self._places
        rises, falls = every, 0
        for character in text:
            equal = places.get(character, 0)
            diagonal = ((((equal & rises) + rises) ^ rises) | equal) & every
            right_falls = rises & diagonal
            right_rises = falls | (every & ~(diagonal | rises))
            vertical = equal | falls
            shifted = ((right_rises << 1) & every) | firsts
            rises = ((right_falls << 1) & every) | (every & ~(vertical | shifted))
            falls = shifted & vertical
        return rises, falls

    def _count(self, bits: int) -> np.ndarray:
        """Count the set bits below each label."""
        spread = np.unpackbits(
            np.frombuffer(bits.to_bytes(self._bytes, "little"), dtype=np.uint8), bitorder="little"
        )
        return np.add.reduceat(spread, self._starts, dtype=np.int64)


def edit_distance(first: str, second: str) -> int:
    """Count the insertions, deletions and substitutions between two texts."""
    return int(LabelMatcher((first,)).distances(second)[0])
