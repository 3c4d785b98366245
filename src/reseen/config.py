"""Typed, frozen configuration, and the recipes that differ from its defaults.

The defaults are the recipe ``cacl``: every printed equation of the CACL paper (arXiv:2106.07846), and the
released code where the paper is silent (docs/methods/cacl.md lists each such choice). A recipe is a YAML
file in ``recipes/`` that holds only what differs.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from reseen.errors import ReseenError

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class DataConfig:
    """Images and augmentation (Section 3, footnote 1: flip, erasing and crop as in SpCL)."""

    height: int = 256  # pixels
    width: int = 128  # pixels
    pad: float = 10 / 256  # of the height: 10 pixels at 256 (SpCL), then a random crop
    flip: float = 0.5  # probability
    erase: float = 0.5  # probability; the patch takes 2 to 40 % of the area
    zoom: float = 0.0  # +- share of the size, for boxes that sit loosely; 0 in the papers
    jitter: float = 0.0  # colour jitter of both views; 0 in the papers
    second_view: Literal["grey", "none", "jitter"] = "grey"  # Table 4
    camera_aware: Literal["auto", "off"] = "auto"  # sampler prefers other cameras where they are known
    max_bad_share: float = 0.02  # of unreadable images that are skipped; more stops the run
    workers: int = -1  # loader processes; -1 = by the machine


@dataclass(frozen=True)
class ModelConfig:
    """One branch: timm backbone, pooling, BN-neck; and the predictor G of the first branch."""

    backbone: str = "resnet50"
    last_stride: int = 1
    pooling: Literal["avg", "gem"] = "avg"
    bn_group_size: int = 16  # contiguous images that share batch statistics; 0 = the whole batch
    predictor: Literal["linear", "linear_bn"] = "linear_bn"
    predictor_input: Literal["pooled", "embedding"] = "pooled"  # release: before the BN-neck; paper: x


@dataclass(frozen=True)
class ClusterConfig:
    """Pseudo labels: k-reciprocal Jaccard, DBSCAN, refinement (Section 3.1, Eq. 1)."""

    enabled: bool = True  # off: Table 7, "w/o clustering"
    features: Literal["memory", "fresh", "augmented"] = "memory"
    k1: int = 30
    k2: int = 6
    eps: float = 0.6  # d of Section 4.2
    tight_gap: float = 0.02  # over-segmentation at eps - 0.02 = 0.58
    min_samples: int = 4  # SpCL
    refine: Literal["paper", "official", "none"] = "paper"
    removed_to: Literal["subcluster", "singletons"] = "subcluster"
    outliers: Literal["keep", "drop"] = "keep"  # keep: each is a class of its own
    camera_standardise: bool = False  # z-score features per camera before clustering


@dataclass(frozen=True)
class LossConfig:
    """Terms of Eq. (10) and how memories move. Table 7 is reached from here."""

    temperature: float = 0.05  # tau
    focal_gamma: float = 2.0  # Eq. (5); the release has 4
    instance: bool = True  # L_I, Eq. (2)
    inter: bool = True  # Eq. (3)
    intra: Literal["both", "second", "none"] = "both"  # Eq. (5); second = Eq. (13)
    stop_gradient: bool = True
    symmetric: bool = False  # CSCL, Eq. (14) and (15)
    branches: Literal["both", "second"] = "both"  # second: Table 3, w/o L_I and L_C
    momentum: float = 0.2  # alpha, the weight of the OLD value, Eq. (11) and (12)
    centroid_update: Literal["step", "epoch"] = "step"
    second_memory_init: Literal["second_view", "colour"] = "second_view"  # colour: the release


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation (Section 4.2) and the run."""

    epochs: int = 80
    iterations: int = 400  # per epoch
    batch_size: int = 64
    instances: int = 4  # images of one pseudo identity in a batch
    lr: float = 3.5e-4
    weight_decay: float = 5e-4
    lr_steps: tuple[float, ...] = (0.25, 0.5, 0.75)  # x0.1 after these shares of the epochs: 20, 40, 60 of 80
    precision: Literal["auto", "bf16", "fp16", "none"] = "auto"
    channels_last: bool = True
    evaluate_every: int = 5  # epochs
    device: str = "auto"


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run computes. ``recipe`` is a name, kept for the record."""

    method: str = "cacl"
    recipe: str = "cacl"
    seed: int = 1
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
