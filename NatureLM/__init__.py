"""NatureLM-audio: ask a recording a question in plain language.

Importing this package imports no torch: the public names below are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "NatureLM": "NatureLM.models:NatureLM",
    "Pipeline": "NatureLM.infer:Pipeline",
}

__all__ = ["NatureLM", "Pipeline", "__version__"]


def __getattr__(name: str) -> Any:
    """Resolve a public name on first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
