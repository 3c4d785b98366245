"""Typed, frozen configuration, and the recipes that differ from its defaults."""

from reseen.config.resolve import (
    RECIPES,
    SECTIONS,
    differences,
    fingerprint,
    from_yaml,
    read_tree,
    recipe_names,
    resolve,
    small_recipe,
    to_yaml,
    unknown,
)
from reseen.config.sections import (
    LITE,
    ClusterConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    SearchConfig,
    TrainConfig,
)

__all__ = [
    "LITE",
    "RECIPES",
    "SECTIONS",
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
    "read_tree",
    "recipe_names",
    "resolve",
    "small_recipe",
    "to_yaml",
    "unknown",
]
