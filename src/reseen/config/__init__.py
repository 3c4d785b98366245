"""Typed, frozen configuration, and the recipes that differ from its defaults."""

from reseen.config.resolve import (
    differences,
    fingerprint,
    from_yaml,
    recipe_names,
    resolve,
    to_yaml,
)
from reseen.config.sections import (
    ClusterConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    SearchConfig,
    TrainConfig,
)

__all__ = [
    "ClusterConfig",
    "Config",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "SearchConfig",
    "TrainConfig",
    "differences",
    "fingerprint",
    "from_yaml",
    "recipe_names",
    "resolve",
    "to_yaml",
]
