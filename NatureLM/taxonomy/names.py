"""The classes that the compact encoder knows: common and scientific names, genus, family, order, class, kind.

Knows names and files of names, nothing of sound or of where the files come from. Birds take family and order from a checklist,
the 101 other classes from ``others.csv``, by genus for animals and by whole name for the rest. The surprises: the labels file
writes "Dog" where a scientific name should stand (it is given one), and the ten sound classes ("Engine", "Human vocal") have
none: their scientific name, genus, family, order and class are empty.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

from NatureLM.errors import FormatError

Kind = Literal["bird", "frog", "insect", "mammal", "sound"]
Rank = Literal["common", "scientific", "genus", "family", "order", "klass", "kind"]

_BIRDS = "Aves"
_COLUMNS = ("scientific_name", "ebird_order", "ebird_family")


@dataclass(frozen=True, slots=True)
class Taxon:
    """One class of the encoder.

    Attributes:
        index: Place in the encoder's output.
        common: Common name, such as "Green Treefrog".
        scientific: Scientific name; empty for a sound that is not an animal.
        genus: First word of the scientific name; empty for a sound, as are the ranks above it.
        family: Such as "Hylidae".
        order: Such as "Anura".
        klass: Taxonomic class, such as "Amphibia" (``class`` is taken by Python).
        kind: Everyday group.
    """

    index: int
    common: str
    scientific: str
    genus: str
    family: str
    order: str
    klass: str
    kind: Kind

    @property
    def is_animal(self) -> bool:
        """Tell an animal from a sound class such as "Engine"."""
        return self.kind != "sound"

    def at(self, rank: Rank) -> str:
        """Return the name at a rank; empty where there is none."""
        return str(getattr(self, rank))


class Taxonomy:
    """All classes, in the encoder's order, with lookups that do not mind case, spacing or the kind of apostrophe.

    Args:
        taxa: The classes; ``taxa[i].index`` must be ``i``.

    Raises:
        FormatError: Two classes share a common or a scientific name, or an index is out of place.
    """

    def __init__(self, taxa: Iterable[Taxon]) -> None:
        self._taxa = tuple(taxa)
        for place, taxon in enumerate(self._taxa):
            if taxon.index != place:
                raise FormatError(f"{taxon.common}: index {taxon.index} stands at place {place}")
        self._by_common = _unique(self._taxa, "common")
        self._by_scientific = _unique(self._taxa, "scientific")

    def __len__(self) -> int:
        return len(self._taxa)

    def __iter__(self) -> Iterator[Taxon]:
        return iter(self._taxa)

    def __getitem__(self, index: int) -> Taxon:
        return self._taxa[index]

    def by_common(self, name: str) -> Taxon | None:
        """Find a class by its common name."""
        return self._by_common.get(_key(name))

    def by_scientific(self, name: str) -> Taxon | None:
        """Find a class by its scientific name."""
        return self._by_scientific.get(_key(name))

    def find(self, name: str) -> Taxon | None:
        """Find a class by its common name or else its scientific name."""
        return self.by_common(name) or self.by_scientific(name)

    def members(self, rank: Rank, name: str) -> tuple[Taxon, ...]:
        """List the classes that have ``name`` at ``rank``, in the encoder's order; empty for an unknown name."""
        return self._groups.get((rank, _key(name)), ())

    def names(self, rank: Rank) -> tuple[str, ...]:
        """List the different names at a rank, in the encoder's order, without the empty one."""
        return tuple(dict.fromkeys(taxon.at(rank) for taxon in self if taxon.at(rank)))

    @cached_property
    def _groups(self) -> Mapping[tuple[str, str], tuple[Taxon, ...]]:
        groups: dict[tuple[str, str], tuple[Taxon, ...]] = {}
        ranks: tuple[Rank, ...] = ("genus", "family", "order", "klass", "kind")
        for rank in ranks:
            rows: dict[str, list[Taxon]] = {}
            for taxon in self:
                rows.setdefault(_key(taxon.at(rank)), []).append(taxon)
            groups.update({(rank, name): tuple(row) for name, row in rows.items() if name})
        return groups


def load_taxonomy(labels: Path, birds: Path) -> Taxonomy:
    """Read the encoder's labels and complete them from a checklist of birds.

    Args:
        labels: One ``Scientific name_Common name`` a line, in the encoder's order, UTF-8.
        birds: CSV with the columns scientific_name, ebird_order and ebird_family.

    Raises:
        FormatError: A line or column is not as expected, or a class has no family anywhere.
    """
    checklist, others = _read_birds(birds), _read_others()
    taxa = []
    for index, line in enumerate(labels.read_text(encoding="utf-8").splitlines()):
        scientific, separator, common = line.partition("_")
        if not separator or not scientific or not common:
            raise FormatError(
                f"{labels}:{index + 1}: found {line!r}, expected 'Scientific name_Common name'"
            )
        ranks = checklist.get(scientific) or others.get(scientific.split()[0])
        ranks = others.get(scientific) or ranks
        if ranks is None:
            raise FormatError(
                f"{labels}:{index + 1}: {scientific!r} is neither in {birds.name} nor in others.csv, "
                "so its family is unknown; the two files must be of the pinned releases"
            )
        name = "" if ranks.kind == "sound" else ranks.scientific or scientific
        genus = name.split()[0] if name else ""
        higher = (genus, ranks.family, ranks.order, ranks.klass, ranks.kind)
        taxa.append(Taxon(index, common, name, *higher))
    return Taxonomy(taxa)


class _Ranks(NamedTuple):
    family: str
    order: str
    klass: str
    kind: Kind
    scientific: str = ""


def _read_birds(path: Path) -> dict[str, _Ranks]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise FormatError(f"{path}: column {missing[0]!r} is missing")
        return {
            row["scientific_name"]: _Ranks(row["ebird_family"], row["ebird_order"], _BIRDS, "bird")
            for row in rows
        }


def _read_others() -> dict[str, _Ranks]:
    text = resources.files("NatureLM.taxonomy").joinpath("others.csv").read_text(encoding="utf-8")
    kinds: dict[str, Kind] = {"frog": "frog", "insect": "insect", "mammal": "mammal"}
    return {
        row["name"]: _Ranks(
            row["family"],
            row["order"],
            row["class"],
            kinds.get(row["kind"], "sound"),
            row["scientific"],
        )
        for row in csv.DictReader(text.splitlines())
    }


def _key(name: str) -> str:
    return " ".join(name.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").casefold().split())


def _unique(taxa: Iterable[Taxon], rank: Literal["common", "scientific"]) -> dict[str, Taxon]:
    found: dict[str, Taxon] = {}
    for taxon in taxa:
        name = _key(taxon.at(rank))
        if name in found:
            raise FormatError(
                f"{taxon.at(rank)!r} names two classes, {found[name].index} and {taxon.index}"
            )
        if name:
            found[name] = taxon
    return found
