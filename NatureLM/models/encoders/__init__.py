"""Audio encoders: the protocol they keep and the table of those that exist.

Knows names only; an encoder's module is imported when it is asked for. The one surprise: lengths are in samples going in
and in frames coming out, and what lies behind a length is padding that must not change what lies before it.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from NatureLM.errors import ConfigError

ENCODERS: dict[str, str] = {
    "beats": "NatureLM.models.encoders.beats:BEATs",
    "birdnet": "NatureLM.models.encoders.birdnet:EvidenceEncoder",
    "avex": "NatureLM.models.encoders.avex:AvexEncoder",
}
"""Name -> module:object."""


@runtime_checkable
class AudioEncoder(Protocol):
    """What the model asks of an encoder.

    Attributes:
        width: Width of a frame.
        frames_per_second: Nominal frames a second.
        sample_rate: Rate of the waveforms, in Hz.
    """

    width: int
    frames_per_second: float
    sample_rate: int

    def __call__(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames width"], Int[Tensor, " batch"]]:
        """Encode waveforms of ``lengths`` true samples into frames and their counts."""
        ...


def find_encoder(name: str) -> Any:
    """Import the encoder called ``name`` and return its class.

    Raises:
        ConfigError: When no row of ``ENCODERS`` has that name.
    """
    if name not in ENCODERS:
        raise ConfigError(f"No encoder is called {name!r}; known are {', '.join(ENCODERS)}.")
    module, _, attribute = ENCODERS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
