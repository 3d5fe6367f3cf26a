"""Credit for near misses: is at least the genus right, or the family?

Knows how a label's ranks can be looked up, not where names come from. The ranks of "Chordata Aves Passeriformes Turdidae Turdus
merula" and of "Turdus merula" can be read off; common names need a lookup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from NatureLM.scoring.classification import LabelCounts, count_labels
from NatureLM.scoring.corrected import Outcome
from NatureLM.scoring.normalize import answered

RANKS = ("species", "genus", "family")


@dataclass(frozen=True)
class Ranks:
    """The ranks of a label; "" where not known."""

    species: str = ""
    genus: str = ""
    family: str = ""


Lookup = Callable[[str], Ranks | None]
"""Label -> its ranks, or ``None`` when it is not a known taxon."""

_LINEAGE_WORDS = 6


def ranks_of_lineage(label: str) -> Ranks | None:
    """Read the ranks of "Phylum Class Order Family Genus species"."""
    words = label.split()
    if len(words) < _LINEAGE_WORDS:
        return None
    return Ranks(" ".join(words[4:6]), words[4], words[3])


def ranks_of_binomial(label: str) -> Ranks | None:
    """Read the ranks of "Genus species"."""
    words = label.split()
    if len(words) < 2 or not words[0][:1].isupper() or not words[1].islower():
        return None
    return Ranks(" ".join(words[:2]), words[0])


def first_of(*lookups: Lookup) -> Lookup:
    """Ask several lookups in turn; later ones fill the ranks that earlier ones do not know."""

    def look(label: str) -> Ranks | None:
        found = [ranks for lookup in lookups if (ranks := lookup(label)) is not None]
        if not found:
            return None
        return Ranks(*(next((v for r in found if (v := getattr(r, rank))), "") for rank in RANKS))

    return look


@dataclass(frozen=True)
class TaxonomicCredit:
    """How often an answer is right at each rank.

    Attributes:
        rows: Rank to the number of rows whose reference is known at it.
        accuracy: Rank to the share of those rows that are right at it.
        families: One line a family.
    """

    rows: Mapping[str, int]
    accuracy: Mapping[str, float]
    families: tuple[LabelCounts, ...]


def taxonomic_credit(outcomes: Sequence[Outcome], lookup: Lookup) -> TaxonomicCredit | None:
    """Give credit at species, genus and family over the rows that have one known taxon.

    An answer outside the vocabulary earns credit too when it names a taxon.

    Returns:
        The credit, or ``None`` when no reference is a known taxon.
    """
    look = cache(lookup)

    def named(outcome: Outcome) -> Ranks:
        text = next(iter(outcome.given), answered(outcome.row.prediction or ""))
        return look(text) or Ranks()

    pairs = [
        (truth, named(outcome))
        for outcome in outcomes
        if len(outcome.truth) == 1 and (truth := look(next(iter(outcome.truth)))) is not None
    ]
    if not pairs:
        return None
    rows, accuracy = {}, {}
    for rank in RANKS:
        both = [
            (name, getattr(given, rank)) for truth, given in pairs if (name := getattr(truth, rank))
        ]
        if both:
            rows[rank] = len(both)
            accuracy[rank] = sum(name == given for name, given in both) / len(both)
    of_family = [(t.family, g.family or None) for t, g in pairs if t.family]
    families = count_labels([t for t, _ in of_family], [g for _, g in of_family])
    return TaxonomicCredit(rows, accuracy, tuple(families))
