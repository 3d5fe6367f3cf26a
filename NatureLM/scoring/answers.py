"""What labels an answer names, read three ways side by side: as written, with spelling forgiven, and forced onto the nearest.

Knows a vocabulary, no metric and no reference. Only the first two readings can fail, and a failure is an invalid answer; the third
is there to show how much of a score is owed to forcing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from NatureLM.scoring.matching import LabelMatcher
from NatureLM.scoring.normalize import answered, folded, until_end_of_text
from NatureLM.scoring.vocabulary import split_labels

FARTHEST = 5
"""Edits beyond which a detected label is not the nearest of anything."""

_LEAD_IN = re.compile(
    r"(?:.*\b(?:is|are|be|like|contains?|hear|answer|option)\b|.*:)[\s:]+(?:(?:an?|the)\s+)?(.+)"
)
_BULLET = re.compile(r"^(?:[-*•]|\d+[.)])\s+|^(?:an?|the)\s+", re.IGNORECASE)
_NOTHING = frozenset(
    """
    none|nothing|no|n/a|na|not present|not applicable|no animal|no animals|no bird|no birds|no species|no call|no calls
    |no sound|no sounds|none of the above|none of these|none of them|no animals present|no species present
    """.replace("\n    ", "")
    .strip()
    .split("|")
)
"""Folded answers that say that nothing is there."""


@dataclass(frozen=True)
class OneLabel:
    """The label that an answer names, read three ways.

    Attributes:
        strict: The answer is the label, character by character.
        normalised: The answer is the label but for spelling and a lead-in.
        nearest: ``normalised``, or else the label nearest to the answer, whatever it says.
    """

    strict: str | None
    normalised: str | None
    nearest: str


@dataclass(frozen=True)
class ManyLabels:
    """The labels that an answer lists, read three ways.

    Attributes:
        strict: Parts that are labels, character by character.
        normalised: Parts that are labels but for spelling and a lead-in.
        nearest: Labels within 5 edits, and less than half its length, of a part.
        invalid: Parts that ``normalised`` could not read.
    """

    strict: frozenset[str]
    normalised: frozenset[str]
    nearest: frozenset[str]
    invalid: tuple[str, ...]


class AnswerReader:
    """Reads answers against a vocabulary."""

    def __init__(self, vocabulary: Iterable[str]) -> None:
        self.vocabulary = tuple(dict.fromkeys(vocabulary))
        self._written = frozenset(self.vocabulary)
        by_folded: dict[str, list[str]] = {}
        for label in sorted(self.vocabulary):
            by_folded.setdefault(folded(label), []).append(label)
        self._first = {text: labels[0] for text, labels in by_folded.items()}
        self._only = {text: labels[0] for text, labels in by_folded.items() if len(labels) == 1}
        self._matcher = LabelMatcher(by_folded)
        self._one: dict[str, OneLabel] = {}
        self._many: dict[str, ManyLabels] = {}

    def one(self, text: str) -> OneLabel:
        """Read the one label of a classification answer."""
        if text not in self._one:
            exact = until_end_of_text(text)
            strict = exact if exact in self._written else None
            clean = answered(text)
            read = strict if strict is not None else self._normalised(clean)
            near = self._first[self._matcher.nearest(folded(clean)).label]
            self._one[text] = OneLabel(strict, read, near if read is None else read)
        return self._one[text]

    def many(self, text: str) -> ManyLabels:
        """Read the list of labels of a detection answer; labels with commas stay whole."""
        if text not in self._many:
            self._many[text] = self._read_many(answered(text))
        return self._many[text]

    def labels_of(self, reference: str) -> frozenset[str]:
        """Take a reference apart; "None" and an empty text name nothing."""
        return frozenset(
            self._only.get(folded(part), part)
            for part in split_labels(reference, self.vocabulary)
            if folded(part) not in _NOTHING or part in self._written
        )

    def _normalised(self, text: str) -> str | None:
        if text in self._written:
            return text
        plain = folded(text)
        for candidate in (plain, folded(_BULLET.sub("", text, count=1))):
            if candidate in self._only:
                return self._only[candidate]
        found = _LEAD_IN.fullmatch(plain)
        return self._only.get(found[1]) if found else None

    def _read_many(self, text: str) -> ManyLabels:
        strict, normalised, nearest, invalid = set(), set(), set(), []
        parts = split_labels(text.replace(";", ",").replace("\n", ","), self.vocabulary)
        for part in parts:
            if part in self._written:
                strict.add(part)
            if folded(part) in _NOTHING:
                continue
            label = self._normalised(part)
            if label is not None:
                normalised.add(label)
                nearest.add(label)
                continue
            invalid.append(part)
            near = self._matcher.nearest(folded(part))
            if near.distance <= FARTHEST and 2 * near.distance < len(near.label):
                nearest.add(self._first[near.label])
        if not parts:
            invalid.append("")
        return ManyLabels(
            frozenset(strict), frozenset(normalised), frozenset(nearest), tuple(invalid)
        )
