"""From evidence to questions and true answers: what the pocket model learns to say.

Knows taxa, evidence as numbers and the wording. The surprise: the truth is read off the evidence itself, by the rule that the model is to learn (present
from a logit of -1.5 on), so noise put on the evidence can never make an answer false.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from NatureLM.data.evidence import ABSENT_LOGIT, PRESENT_LOGIT, SEGMENT_S
from NatureLM.models.pocket.wording import (
    NONE,
    QUESTIONS,
    UNKNOWABLE,
    caption,
    intervals,
    refusal,
    taxonomic,
)
from NatureLM.taxonomy.names import Rank, Taxon, Taxonomy

SHARES: dict[str, float] = {
    "common": 0.2,
    "scientific": 0.15,
    "genus": 0.05,
    "family": 0.08,
    "order": 0.03,
    "klass": 0.02,
    "taxonomic": 0.04,
    "kind": 0.04,
    "options": 0.15,
    "yes_no": 0.05,
    "list": 0.04,
    "list_scientific": 0.02,
    "when": 0.03,
    "when_focal": 0.02,
    "caption": 0.04,
    "caption_common": 0.02,
    "caption_scientific": 0.02,
    "unknowable": 0.03,
}
"""Share of each kind of question."""


@dataclass(frozen=True)
class Heard:
    """One window's evidence as plain numbers.

    Attributes:
        classes: Per segment, strongest first.
        logits: Same shape.
        starts: Of the segments, in seconds.
    """

    classes: Sequence[Sequence[int]]
    logits: Sequence[Sequence[float]]
    starts: Sequence[float]

    def ranked(self) -> list[tuple[int, float]]:
        """List classes with their highest logit, strongest first."""
        best: dict[int, float] = {}
        for classes, logits in zip(self.classes, self.logits, strict=True):
            for c, logit in zip(classes, logits, strict=True):
                best[c] = max(logit, best.get(c, logit))
        return sorted(best.items(), key=lambda item: -item[1])

    def present(self) -> list[int]:
        """List the classes that are present, strongest first."""
        return [c for c, logit in self.ranked() if logit >= PRESENT_LOGIT]

    def unsure(self) -> set[int]:
        """List the classes too near the threshold to be asked about."""
        return {c for c, logit in self.ranked() if ABSENT_LOGIT < logit < PRESENT_LOGIT}

    def times(self, c: int) -> list[tuple[float, float]]:
        """List the stretches in which a class is present."""
        rows = zip(self.classes, self.logits, self.starts, strict=True)
        return [
            (start, start + SEGMENT_S)
            for classes, logits, start in rows
            if any(
                k == c and logit >= PRESENT_LOGIT for k, logit in zip(classes, logits, strict=True)
            )
        ]


class Questioner:
    """Makes up a question about a window, with its true answer.

    Args:
        taxonomy: Names of the classes.
        neighbours: Classes easily taken for each class.
    """

    def __init__(self, taxonomy: Taxonomy, neighbours: Sequence[Sequence[int]]) -> None:
        self.taxonomy, self._neighbours = taxonomy, neighbours
        self._kinds, self._weights = list(SHARES), list(SHARES.values())
        self._askers: dict[str, Callable[[str, Heard, random.Random], tuple[str, str]]] = {
            "options": self._options,
            "yes_no": self._yes_no,
            "when": self._when,
            "unknowable": self._unknowable,
        }

    def __call__(self, heard: Heard, rng: random.Random) -> tuple[str, str, str]:
        """Draw a question.

        Returns:
            Its kind, the question, the answer.
        """
        kind = rng.choices(self._kinds, self._weights)[0]
        question, answer = self._askers.get(kind, self._plain)(kind, heard, rng)
        return kind, question, answer

    def answer(self, kind: str, heard: Heard) -> str:
        """Answer a question that names nothing itself."""
        present = [self.taxonomy[c] for c in heard.present()]
        if kind.startswith("caption"):
            return caption(present, kind)
        if not present:
            return NONE
        if kind == "when_focal":
            return intervals(heard.times(present[0].index))
        if kind == "list":
            return ", ".join(taxon.common for taxon in present[:3])
        if kind == "list_scientific":
            return ", ".join(t.scientific for t in present[:3] if t.scientific) or NONE
        return _of_one(kind, present[0])

    def _plain(self, kind: str, heard: Heard, rng: random.Random) -> tuple[str, str]:
        return rng.choice(QUESTIONS[kind]), self.answer(kind, heard)

    def _options(self, kind: str, heard: Heard, rng: random.Random) -> tuple[str, str]:
        present, unsure = heard.present()[:3], heard.unsure()
        offered = present[: rng.choice((1, 1, 2))] if present and rng.random() < 0.55 else []
        banned = {*present, *heard.present(), *unsure} - set(offered)
        wanted = max(len(offered), rng.randint(2, 6))
        while len(offered) < wanted:
            c = self._distractor(heard, present, rng)
            if c not in banned and c not in offered:
                offered.append(c)
        right = [c for c in present if c in offered]
        rng.shuffle(offered)
        rank: Rank = "scientific" if rng.random() < 0.2 else "common"
        named = [self._name(c, rank) for c in offered]
        if rng.random() < 0.85:
            named.append(NONE)
        answer = ", ".join(self._name(c, rank) for c in right) or NONE
        return rng.choice(QUESTIONS[kind]).format(options=", ".join(named)), answer

    def _distractor(self, heard: Heard, present: Sequence[int], rng: random.Random) -> int:
        way = rng.random()
        if way < 0.25 and present:
            return int(rng.choice(self._neighbours[present[0]]))
        if way < 0.4:
            return int(rng.choice(rng.choice(heard.classes)))
        return rng.randrange(len(self.taxonomy))

    def _yes_no(self, kind: str, heard: Heard, rng: random.Random) -> tuple[str, str]:
        present = heard.present()[:3]
        if present and rng.random() < 0.5:
            c, answer = rng.choice(present), "Yes"
        else:
            avoided = {*heard.present(), *heard.unsure()}
            c, answer = self._distractor(heard, present, rng), "No"
            while c in avoided:
                c = self._distractor(heard, present, rng)
        return rng.choice(QUESTIONS[kind]).format(name=self.taxonomy[c].common), answer

    def _when(self, kind: str, heard: Heard, rng: random.Random) -> tuple[str, str]:
        present = heard.present()[:2]
        if present and rng.random() < 0.85:
            c = rng.choice(present)
        else:
            c = rng.randrange(len(self.taxonomy))
        question = rng.choice(QUESTIONS[kind]).format(name=self.taxonomy[c].common)
        return question, intervals(heard.times(c))

    def _unknowable(self, _: str, heard: Heard, rng: random.Random) -> tuple[str, str]:
        del heard
        topic = rng.choice(list(UNKNOWABLE))
        return rng.choice(UNKNOWABLE[topic]), refusal(topic)

    def _name(self, c: int, rank: Rank) -> str:
        return self.taxonomy[c].at(rank) or self.taxonomy[c].common


def _of_one(kind: str, taxon: Taxon) -> str:
    if kind == "common":
        return taxon.common
    if kind == "taxonomic":
        return taxonomic(taxon) if taxon.is_animal else NONE
    if kind == "kind":
        return taxon.kind.capitalize() if taxon.is_animal else NONE
    ranks: dict[str, str] = {
        "scientific": taxon.scientific,
        "genus": taxon.genus,
        "family": taxon.family,
        "order": taxon.order,
        "klass": taxon.klass,
    }
    return ranks[kind] or NONE
