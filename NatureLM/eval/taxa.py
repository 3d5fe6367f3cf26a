"""Ranks of common names for taxonomic credit, from the taxonomy of the compact encoder.

Knows both vocabularies of ranks and nothing of scores. Nothing is fetched. The cache is the models' room, which torch comes with, so
it is entered only when somebody asks for names.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol

from NatureLM.errors import DependencyError
from NatureLM.scoring.taxonomic import Lookup, Ranks
from NatureLM.taxonomy.names import load_taxonomy


class Named(Protocol):
    """A taxon with names at the ranks that earn credit."""

    @property
    def scientific(self) -> str: ...  # noqa: D102
    @property
    def genus(self) -> str: ...  # noqa: D102
    @property
    def family(self) -> str: ...  # noqa: D102


class Names(Protocol):
    """A taxonomy that finds a taxon by common or scientific name."""

    def find(self, name: str) -> Named | None:
        """Find a taxon, or ``None``."""
        ...


def lookup_in(taxonomy: Names) -> Lookup:
    """Turn a taxonomy into a lookup of ranks; a label that is no animal there has none."""

    def look(label: str) -> Ranks | None:
        taxon = taxonomy.find(label)
        if taxon is None or not taxon.scientific:
            return None
        return Ranks(taxon.scientific, taxon.genus, taxon.family)

    return look


def cached_lookup() -> Lookup:
    """Look names up in the taxonomy of the pocket model's cached parts; nothing is fetched.

    Raises:
        DependencyError: The names were never fetched.
    """
    parts: Any = importlib.import_module("NatureLM.models.parts")
    labels, birds = parts.cached("birdnet-labels"), parts.cached("birdnames-ebird")
    if labels is None or birds is None:
        raise DependencyError(
            "the names of taxa are not in the cache; fetch them with: naturelm models pull pocket"
        )
    return lookup_in(load_taxonomy(labels, birds))
