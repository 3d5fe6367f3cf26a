"""The question that fits labels: species are asked for by the kind of name that the labels are.

Text and names only. The surprise: "Hermit thrush" reads like a Latin binomial, so when a taxonomy is at hand it decides before the
spelling does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from NatureLM.scoring.taxonomic import ranks_of_binomial, ranks_of_lineage
from NatureLM.scoring.vocabulary import NONE

MOSTLY = 0.8
"""Share of the labels that must be of a type."""
FEW_OPTIONS = 8
"""So many options are named in the question at most."""

CALLS = frozenset(
    {"call", "calls", "song", "songs", "drumming", "alarm call", "flight call", "contact call"}
)
STAGES = frozenset(
    {"adult", "juvenile", "nestling", "fledgling", "chick", "pup", "calf", "larva", "immature"}
)


class Named(Protocol):
    """A taxon as a taxonomy gives it."""

    @property
    def common(self) -> str: ...  # noqa: D102
    @property
    def scientific(self) -> str: ...  # noqa: D102


class Names(Protocol):
    """A taxonomy."""

    def by_common(self, name: str) -> Named | None:
        """Find by common name."""
        ...

    def by_scientific(self, name: str) -> Named | None:
        """Find by scientific name."""
        ...


@dataclass(frozen=True)
class LabelType:
    """What labels are.

    Attributes:
        name: Such as ``common name``.
        question: What is asked when one of them is expected.
        listing: What is asked when any number of them is.
    """

    name: str
    question: str
    listing: str


TYPES: dict[str, LabelType] = {
    each.name: each
    for each in (
        LabelType(
            "common name",
            "What is the common name for the focal species in the audio?",
            "What are the common names for the species in the audio, if any?",
        ),
        LabelType(
            "scientific name",
            "What is the scientific name for the focal species in the audio?",
            "What are the scientific names for the species in the audio, if any?",
        ),
        LabelType(
            "taxonomic name",
            "What is the taxonomic name of the focal species in the audio?",
            "What are the taxonomic names of the species in the audio, if any?",
        ),
        LabelType("family", "What is the family of the focal species in the audio?", ""),
        LabelType("order", "What is the order of the focal species in the audio?", ""),
        LabelType("call type", "What is the call type of the focal species in the audio?", ""),
        LabelType("life stage", "What is the life stage of the focal species in the audio?", ""),
        LabelType("caption", "Caption the audio.", ""),
    )
}
"""Name -> type."""


def label_type(labels: Sequence[str], names: Names | None = None) -> str | None:
    """Find out what labels are; ``None`` when they are of no known type.

    Args:
        labels: The vocabulary, with or without "None".
        names: A taxonomy, which decides between common and scientific names.
    """
    known = [label for label in labels if label.casefold() != NONE.casefold()]
    tests = _SPELLINGS if names is None else _SPELLINGS[:-1] + _named_in(names)
    fitting = (
        kind for kind, test in tests if known and sum(map(test, known)) >= MOSTLY * len(known)
    )
    return next(fitting, None)


Test = Callable[[str], bool]

_SPELLINGS: tuple[tuple[str, Test], ...] = (
    ("call type", lambda label: label.casefold() in CALLS),
    ("life stage", lambda label: label.casefold() in STAGES),
    ("taxonomic name", lambda label: ranks_of_lineage(label) is not None),
    ("family", lambda label: " " not in label and label.endswith("idae")),
    ("order", lambda label: " " not in label and label.endswith(("iformes", "ptera", "ura"))),
    ("scientific name", lambda label: ranks_of_binomial(label) is not None),
)
"""Type -> how its labels are spelt; the first that fits. The last one is left to a taxonomy where there is one."""


def _named_in(names: Names) -> tuple[tuple[str, Test], ...]:
    return (
        ("common name", lambda label: names.by_common(label) is not None),
        ("scientific name", lambda label: names.by_scientific(label) is not None),
    )


def question_for(labels: Sequence[str], kind: str, *, several: bool) -> str:
    """Write the question for labels of a type.

    Args:
        labels: The vocabulary.
        kind: A row of `TYPES`, or "" for labels of no known type.
        several: Whether any number of labels may be right.
    """
    found = TYPES.get(kind)
    named = [label for label in labels if label.casefold() != NONE.casefold()]
    if found is not None and not several:
        return found.question
    if found is not None and found.listing and len(named) > FEW_OPTIONS:
        return found.listing
    if len(named) <= FEW_OPTIONS or found is None:
        which = "Which of these, if any, are" if several else "Which of these is"
        return f"{which} present in the audio? {', '.join(named)}, None"
    return TYPES["common name"].listing
