"""Ranks of common names for taxonomic credit, from the taxonomy of the compact encoder.

Knows both vocabularies of ranks and nothing of scores. Nothing is fetched: without the names in the cache there is no lookup.
"""

from __future__ import annotations

from typing import Protocol

from NatureLM.scoring.taxonomic import Lookup, Ranks


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


def cached_lookup() -> Lookup | None:
    """Look names up in the taxonomy of the cached parts; ``None`` when they were never fetched."""
    try:
        from NatureLM.models import parts
    except ImportError:
        return None
    from NatureLM.taxonomy.names import load_taxonomy

    labels, birds = parts.cached("birdnet-labels"), parts.cached("birdnames-ebird")
    if labels is None or birds is None:
        return None
    return lookup_in(load_taxonomy(labels, birds))
