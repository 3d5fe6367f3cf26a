"""Doors for other programs: a model behind HTTP, one protocol a row.

Importing this needs no web framework; a protocol's module does. The server answers from one model, whatever the protocol.
"""

from __future__ import annotations

from NatureLM.errors import DependencyError

PROTOCOLS: dict[str, str] = {
    "predictions-v1": "NatureLM.serve.predictions_v1:router",
}
"""Name -> function ``(service) -> router``."""


def require_web() -> None:
    """Make sure that the web framework is installed.

    Raises:
        DependencyError: It is not.
    """
    try:
        import fastapi
        import uvicorn
    except ImportError as error:
        raise DependencyError(
            "Serving needs fastapi and uvicorn: pip install 'naturelm-audio[serve]'"
        ) from error
    del fastapi, uvicorn
