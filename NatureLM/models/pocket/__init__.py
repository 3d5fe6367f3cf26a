"""The pocket model: BirdNET's evidence, a small bridge trained by this project, SmolLM2-135M with LoRA.

Named "pocket" wherever it answers; it never passes for the published model. Importing this imports no part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from NatureLM.models.model import NatureLM


def build_pocket(**options: Any) -> NatureLM:
    """Put the pocket model together, fetching its parts when they are not cached.

    Args:
        **options: Fields of ``assembly.PocketOptions``: ``bridge``, ``device``, ``dtype``, ``local_files_only``.
    """
    from NatureLM.models.pocket.assembly import PocketOptions, assemble

    return assemble(PocketOptions.of(options))
