"""Models: the composition, its parts and their checkpoints. The first floor with torch."""

from NatureLM.models.model import AudioTokens, NatureLM, Parts

__all__ = ["AudioTokens", "NatureLM", "Parts"]
