"""Every knob of a model and a run, validated: ``records`` (what there is) and ``reading`` (files in and out).

Knows no torch. The surprise: environment variables are never read as configuration.
"""

from NatureLM.config.reading import (
    OBSOLETE,
    checkpoint_of,
    nearest,
    read_config,
    read_hub_config,
    validated,
    write_config,
)
from NatureLM.config.records import (
    AugmentationsConfig,
    BEATsConfig,
    DatasetsConfig,
    GenerateConfig,
    Generation,
    ModelConfig,
    OptimsConfig,
    PublishedConfig,
    RunConfig,
)

__all__ = [
    "OBSOLETE",
    "AugmentationsConfig",
    "BEATsConfig",
    "DatasetsConfig",
    "GenerateConfig",
    "Generation",
    "ModelConfig",
    "OptimsConfig",
    "PublishedConfig",
    "RunConfig",
    "checkpoint_of",
    "nearest",
    "read_config",
    "read_hub_config",
    "validated",
    "write_config",
]
