"""What decides a run: typed, frozen sections, each checked by itself, and how they go together.

The defaults are the recipe ``cacl``: every printed equation of the CACL paper (arXiv:2106.07846), and the
released code where the paper is silent (docs/methods/cacl.md lists each such choice).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Literal

from reseen.errors import ReseenError

LITE = "tf_efficientnet_lite0"  # the backbone of `weights: lite`, which come from a package and need no hub


def _check(condition: bool, key: str, value: object, must: str) -> None:
    """Conditions are written so that NaN fails them."""
    if not condition:
        raise ReseenError(f"{key} is {value}: it must {must}")


@dataclass(frozen=True)
class DataConfig:
    """Images and augmentation (Section 3, footnote 1: flip, erasing and crop as in SpCL)."""

    height: int = 256  # pixels
    width: int = 128  # pixels
    pad: float = 10 / 256  # of the height: 10 pixels at 256 (SpCL), then a random crop
    flip: float = 0.5  # probability
    erase: float = 0.5  # probability; the patch takes 2 to 40 % of the area
    zoom: float = 0.0  # +- share of the size, for boxes that sit loosely; 0 in the papers
    jitter: float = 0.0  # +- colour cast (gain of each channel) of both views; 0 in the papers
    second_view: Literal["grey", "none", "jitter"] = "grey"  # Table 4
    camera_aware: Literal["auto", "off"] = "auto"  # sampler prefers other cameras where they are known
    max_bad_share: float = 0.02  # of unreadable images that are skipped; more stops the run
    workers: int = -1  # loader processes; -1 = by the machine
    # of pixels in 0..1, by channel; empty: as the backbone's weights were trained (a run writes down which)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for side in ("height", "width"):
            _check(
                8 <= getattr(self, side) <= 4096, f"data.{side}", getattr(self, side), "be 8 to 4096 pixels"
            )
        _check(0 <= self.pad < 0.5, "data.pad", self.pad, "be a share of the height in [0, 0.5)")
        _check(0 <= self.zoom < 1, "data.zoom", self.zoom, "be a share in [0, 1)")
        for share in ("flip", "erase", "jitter", "max_bad_share"):
            _check(0 <= getattr(self, share) <= 1, f"data.{share}", getattr(self, share), "be in [0, 1]")
        _check(self.workers >= -1, "data.workers", self.workers, "be -1 (by the machine), 0 or more")
        _check(len(self.mean) in (0, 3), "data.mean", list(self.mean), "have three values, or none")
        _check(
            len(self.std) == len(self.mean), "data.std", list(self.std), "have as many values as data.mean"
        )
        _check(all(-1e3 < m < 1e3 for m in self.mean), "data.mean", list(self.mean), "be of pixels in 0..1")
        _check(all(0 < s < 1e3 for s in self.std), "data.std", list(self.std), "be above 0")


@dataclass(frozen=True)
class ModelConfig:
    """One branch: timm backbone, pooling, BN-neck; and the predictor G of the first branch."""

    backbone: str = "resnet50"
    last_stride: int = 1
    stride_on: Literal["conv2", "conv1"] = "conv2"  # of a ResNet's bottlenecks; conv1: Caffe's
    bn_eps: float = 0.0  # of the backbone's batch norms; 0 = the architecture's own (1e-5); Caffe's: 1e-3
    pooling: Literal["avg", "gem"] = "avg"
    bn_group_size: int = 16  # contiguous images that share batch statistics; 0 = the whole batch
    predictor: Literal["linear", "linear_bn"] = "linear_bn"
    predictor_input: Literal["pooled", "embedding"] = "pooled"  # release: before the BN-neck; paper: x

    def __post_init__(self) -> None:
        _check(self.last_stride in (1, 2), "model.last_stride", self.last_stride, "be 1 or 2")
        _check(self.bn_eps >= 0, "model.bn_eps", self.bn_eps, "be 0 (the architecture's own) or more")
        size = self.bn_group_size
        _check(size == 0 or size >= 2, "model.bn_group_size", size, "be 0 (the whole batch) or at least 2")


@dataclass(frozen=True)
class ClusterConfig:
    """Pseudo labels: k-reciprocal Jaccard, DBSCAN, refinement (Section 3.1, Eq. 1)."""

    enabled: bool = True  # off: Table 7, "w/o clustering"
    features: Literal["memory", "fresh", "augmented"] = "memory"
    k1: int = 30  # neighbours; 0 or auto: k1 and k2 by the number of images
    k2: int = 6
    eps: float = 0.6  # d of Section 4.2
    tight_gap: float = 0.02  # over-segmentation at eps - 0.02 = 0.58
    min_samples: int = 4  # SpCL
    refine: Literal["paper", "official", "none"] = "paper"
    removed_to: Literal["subcluster", "singletons"] = "subcluster"
    # keep: each is a class of its own; negatives: the same, but never drawn; drop: no class
    outliers: Literal["keep", "drop", "negatives"] = "keep"
    camera_standardise: bool = False  # z-score features per camera before clustering

    def __post_init__(self) -> None:
        _check(self.k1 >= 0, "cluster.k1", self.k1, "be at least 1 neighbour, or auto")
        known = self.k1 == 0 or 1 <= self.k2 <= self.k1
        _check(known, "cluster.k2", self.k2, f"be between 1 and cluster.k1 = {self.k1}")
        _check(0 < self.eps < 1, "cluster.eps", self.eps, "be a Jaccard distance in (0, 1)")
        below = f"be at least 0 and below cluster.eps = {self.eps}"
        _check(0 <= self.tight_gap < self.eps, "cluster.tight_gap", self.tight_gap, below)
        _check(self.min_samples >= 1, "cluster.min_samples", self.min_samples, "be at least 1 image")
        # A dropped image is never drawn, so its remembered feature ages until all are outliers.
        stale = self.enabled and self.outliers == "drop" and self.features != "fresh"
        _check(not stale, "cluster.outliers", "drop", "go with cluster.features=fresh (or keep outliers)")


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
    centroid_update: Literal["step", "epoch", "momentum"] = "step"  # momentum: a memory of clusters
    second_memory_init: Literal["second_view", "colour"] = "second_view"  # colour: the release
    camera_weight: float = 0.0  # of a term over centroids by camera (after CAP; reads camera ids); 0 = off

    def __post_init__(self) -> None:
        _check(self.temperature > 0, "loss.temperature", self.temperature, "be above 0")
        gamma = self.focal_gamma  # between 0 and 1 the gradient is infinite at q = 1
        _check(gamma == 0 or gamma >= 1, "loss.focal_gamma", gamma, "be 0 (cross-entropy), or 1 or more")
        _check(0 <= self.momentum < 1, "loss.momentum", self.momentum, "be in [0, 1): the old value's weight")
        weight = self.camera_weight
        _check(0 <= weight < float("inf"), "loss.camera_weight", weight, "be 0 (off) or more")
        more = self.instance or self.inter or self.symmetric or self.intra != "second" or weight
        if self.branches == "second" and more:
            raise ReseenError(
                "loss.branches=second trains one branch with Eq. (13): set loss.instance, loss.inter and "
                "loss.symmetric to false, loss.intra to second and loss.camera_weight to 0"
            )


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation (Section 4.2) and the run."""

    epochs: int = 80
    iterations: int = 400  # per epoch; 0 or auto: each crop is drawn twice on average, each scene once
    batch_size: int = 64  # images: crops or scenes
    instances: int = 4  # images of one pseudo identity in a batch
    optimizer: Literal["adam", "sgd"] = "adam"  # sgd: momentum 0.9
    lr: float = 3.5e-4
    warmup: int = 0  # first steps of the run, over which the rate rises from a third
    clip_norm: float = 0.0  # largest norm of the gradient; 0 = any
    weight_decay: float = 5e-4
    lr_steps: tuple[float, ...] = (0.25, 0.5, 0.75)  # x0.1 after these shares of the epochs: 20, 40, 60 of 80
    precision: Literal["auto", "bf16", "fp16", "none"] = "auto"
    channels_last: bool = True
    evaluate_every: int = 5  # epochs; 0 = after the last only
    device: str = "auto"

    def __post_init__(self) -> None:
        for count in ("epochs", "instances"):
            _check(getattr(self, count) >= 1, f"train.{count}", getattr(self, count), "be at least 1")
        for count in ("iterations", "warmup"):
            _check(getattr(self, count) >= 0, f"train.{count}", getattr(self, count), "be 0 or more")
        _check(0 <= self.clip_norm < float("inf"), "train.clip_norm", self.clip_norm, "be 0 (off) or more")
        multiple = self.batch_size >= 1 and self.batch_size % self.instances == 0
        must = f"be a multiple of train.instances = {self.instances}"
        _check(multiple, "train.batch_size", self.batch_size, must)
        _check(0 < self.lr < float("inf"), "train.lr", self.lr, "be a finite number above 0")
        _check(0 <= self.weight_decay < 1, "train.weight_decay", self.weight_decay, "be in [0, 1)")
        rising = all(before < now for before, now in itertools.pairwise((0.0, *self.lr_steps, 1.0)))
        _check(rising, "train.lr_steps", list(self.lr_steps), "rise strictly between 0 and 1")
        _check(self.evaluate_every >= 0, "train.evaluate_every", self.evaluate_every, "be 0 (last) or more")


@dataclass(frozen=True)
class SearchConfig:
    """Person search: R-SiamNet (docs/methods/r-siamnet.md says where each value comes from)."""

    detector: Literal["reppoints", "retinanet", "faster-rcnn"] = "reppoints"  # Table 6
    channels: int = 256  # of the feature pyramid
    dim: int = 2048  # of a feature
    freeze: bool = True  # stem, first stage and batch statistics stay as pretrained; false: from scratch
    long_side: int = 1333  # pixels that a scene has at most
    short_side: int = 800
    self_instance: bool = True  # L_ins
    inter_instance: bool = True  # L_int
    int_reduction: Literal["sum", "mean"] = "sum"  # mean: times 45 persons, the published batch's
    cluster: bool = True  # L_clu
    scale: float = 16.0  # gamma
    margin: float = 0.1  # delta
    momentum: float = 0.2  # weight of a memory's OLD value
    memory: Literal["concat", "dual"] = "concat"
    image_filter: Literal["none", "link", "next", "strict"] = "link"  # Table 8
    cluster_first: bool = False  # true: pseudo labels from the first epoch on; false: each is its own class
    crop_level: Literal["P4", "P3half"] = "P4"
    paths_at_test: Literal["search", "both"] = "search"  # Table 5

    def __post_init__(self) -> None:
        _check(
            self.channels >= 8 and self.channels % 8 == 0,
            "search.channels",
            self.channels,
            "be a multiple of 8",
        )
        _check(self.dim >= 1, "search.dim", self.dim, "be at least 1")
        sides = 32 <= self.short_side <= self.long_side
        _check(sides, "search.short_side", self.short_side, f"be 32 to search.long_side = {self.long_side}")
        _check(0 < self.scale < float("inf"), "search.scale", self.scale, "be above 0")
        _check(-2 < self.margin < 2, "search.margin", self.margin, "be a difference of cosines")
        _check(
            0 <= self.momentum < 1, "search.momentum", self.momentum, "be in [0, 1): the old value's weight"
        )

    @property
    def reidentifies(self) -> bool:
        """Whether any loss but the detector's is on."""
        return self.self_instance or self.inter_instance or self.cluster


READ_WITH_SCENES = {  # keys of sections that are otherwise for crops
    "model": ("backbone",),
    "data": ("height", "width", "flip", "max_bad_share", "workers", "mean", "std"),
}


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run computes. ``recipe`` is a name, kept for the record."""

    method: str = "cacl"
    recipe: str = "cacl"
    seed: int = 1
    weights: str = "imagenet"  # what the networks begin with: imagenet, lite, none, or a file
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    search: SearchConfig = field(default_factory=SearchConfig)

    def __post_init__(self) -> None:
        _check(0 <= self.seed < 2**32, "seed", self.seed, "be a whole number in [0, 2^32)")
        for name in ("data", "model", "cluster", "loss", "train", "search"):
            for key, value in vars(getattr(self, name)).items():
                small = not isinstance(value, int) or value < 2**31
                _check(small, f"{name}.{key}", f"a number of {len(str(value))} digits", "be below 2^31")
        if self.weights == "lite" and self.model.backbone.partition(".")[0] != LITE:
            raise ReseenError(
                f"--weights lite is for model.backbone={LITE}, not {self.model.backbone}: leave model.backbone out, "
                "or give other --weights"
            )
        {"r-siamnet": self._check_search}.get(self.method, self._check_crops)()

    def _check_crops(self) -> None:
        if self.search != SearchConfig():
            raise ReseenError(f"search.* is for r-siamnet, not for {self.method}")
        _check(self.train.batch_size >= 2, "train.batch_size", self.train.batch_size, "be at least 2")
        if self.method != "cacl" and self.cluster.features == "augmented":
            raise ReseenError(f"cluster.features=augmented is for cacl: {self.method} has memory or fresh")
        if self.method != "cacl" and self.loss.camera_weight:
            raise ReseenError(f"loss.camera_weight is for cacl and cscl: {self.method} does not read it")
        read = self.loss.inter or self.loss.intra != "none" or self.loss.camera_weight
        if not self.cluster.enabled and read:
            raise ReseenError(
                "cluster.enabled=false leaves no labels for the cluster losses: "
                "set loss.inter=false, loss.intra=none and loss.camera_weight=0 too"
            )

    def _check_search(self) -> None:
        if self.cluster != ClusterConfig() or self.loss != LossConfig():
            raise ReseenError(
                "cluster.* and loss.* are for crops; r-siamnet clusters and contrasts by search.*"
            )
        for name, read in READ_WITH_SCENES.items():
            usual = {"model": ModelConfig(), "data": DataConfig()}[name]
            for key, value in vars(getattr(self, name)).items():
                if key not in read and value != getattr(usual, key):
                    known = ", ".join(f"{name}.{word}" for word in read)
                    raise ReseenError(f"{name}.{key} is for crops; r-siamnet reads {known}")
        for side in ("height", "width"):
            value = getattr(self.data, side)
            _check(value % 16 == 0, f"data.{side}", value, "be a multiple of 16 for r-siamnet")
