"""Models: the composition, its parts and their checkpoints. The first floor with torch.

The public names are resolved on first use, so that the modules here that need no torch (parts, catalogue, cache) load without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from NatureLM.models.model import AudioTokens, NatureLM, Parts

__all__ = ["AudioTokens", "NatureLM", "Parts"]


def __getattr__(name: str) -> Any:
    """Resolve a public name on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("NatureLM.models.model"), name)
