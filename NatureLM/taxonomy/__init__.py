"""Names of what can be heard: common, scientific and the ranks above; knows no sound and no files' whereabouts."""

from NatureLM.taxonomy.names import Taxon, Taxonomy, load_taxonomy

__all__ = ["Taxon", "Taxonomy", "load_taxonomy"]
