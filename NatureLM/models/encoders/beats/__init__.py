"""BEATs, the published model's encoder: ``shape`` (sizes), ``frontend`` (log-mel), ``attention``, ``encoder``."""

from NatureLM.models.encoders.beats.encoder import BEATs
from NatureLM.models.encoders.beats.shape import BEATsShape

__all__ = ["BEATs", "BEATsShape"]
