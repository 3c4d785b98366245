"""What the rooms hand to each other: small frozen records whose shapes are checked once, here.

Training sees :class:`Crop` and :class:`Scene`, which have no identity field at all. Identities
travel beside them (:class:`LabelledCrops`, :attr:`ReidData.train_identities`) and are read only by
evaluation and by the diagnostics that run after an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reseen.errors import ReseenError

Labels = NDArray[np.int64]

UNKNOWN_CAMERA = -1
JUNK = -1  # gallery image that neither helps nor hurts: dropped (Market-1501)
DISTRACTOR = 0  # gallery image of nobody in the query set: a negative for everyone
OUTLIER = -1  # pseudo label of an image that belongs to no cluster


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ReseenError(message)


@dataclass(frozen=True, slots=True)
class Crop:
    """One image of one person, and the camera that took it if that is known."""

    path: Path
    camera: int = UNKNOWN_CAMERA


@dataclass(frozen=True)
class LabelledCrops:
    """Crops with their identities ``[M]`` (:data:`JUNK`, :data:`DISTRACTOR`, or a person > 0)."""

    crops: tuple[Crop, ...]
    identities: Labels

    def __post_init__(self) -> None:
        _check(
            self.identities.shape == (len(self.crops),),
            f"{len(self.crops)} crops need as many identities, not {self.identities.shape}",
        )

    @property
    def cameras(self) -> Labels:
        return cameras_of(self.crops)

    def __len__(self) -> int:
        return len(self.crops)


@dataclass(frozen=True)
class ReidData:
    """A person re-identification data set as read from a folder or a manifest.

    ``train`` is all that training receives. ``train_identities`` ``[M]`` is for diagnostics only and is
    None where nobody labelled the images. ``query`` and ``gallery`` are None without a test split.
    ``skipped`` names files that were left out and says why.
    """

    name: str
    root: Path
    train: tuple[Crop, ...]
    train_identities: Labels | None = None
    query: LabelledCrops | None = None
    gallery: LabelledCrops | None = None
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.train_identities is not None:
            _check(
                self.train_identities.shape == (len(self.train),),
                f"{len(self.train)} training crops need as many identities, not {self.train_identities.shape}",
            )


@dataclass(frozen=True)
class Scene:
    """A whole image with the boxes ``[n, 4]`` (xyxy, pixels, float) of the persons in it. No identities."""

    path: Path
    boxes: NDArray[np.float32]
    camera: int = UNKNOWN_CAMERA

    def __post_init__(self) -> None:
        _check(
            self.boxes.ndim == 2 and self.boxes.shape[1] == 4,
            f"{self.path}: boxes must have shape [n, 4], not {self.boxes.shape}",
        )


@dataclass(frozen=True)
class LabelledScenes:
    """Scenes with the identity of each box: one int64 array ``[n]`` per scene."""

    scenes: tuple[Scene, ...]
    identities: tuple[Labels, ...]

    def __post_init__(self) -> None:
        _check(len(self.scenes) == len(self.identities), "each scene needs its array of identities")
        for scene, identities in zip(self.scenes, self.identities, strict=True):
            _check(
                len(scene.boxes) == len(identities),
                f"{scene.path}: {len(scene.boxes)} boxes but {len(identities)} identities",
            )


@dataclass(frozen=True)
class PseudoLabels:
    """What clustering says of M persons: labels ``[M]`` in ``0..K-1``, or :data:`OUTLIER`."""

    labels: Labels

    def __post_init__(self) -> None:
        _check(self.labels.ndim == 1, f"pseudo labels must have shape [M], not {self.labels.shape}")
        present = np.unique(self.labels)
        present = present[present >= 0]
        _check(
            np.array_equal(present, np.arange(len(present))),
            "pseudo labels must be numbered 0..K-1 without a gap (PseudoLabels.of renumbers)",
        )

    @classmethod
    def of(cls, labels: ArrayLike) -> PseudoLabels:
        """Renumber to 0..K-1 in the order of the old numbers; every negative label is an outlier."""
        values = np.asarray(labels, dtype=np.int64)
        _, inverse = np.unique(np.where(values < 0, OUTLIER, values), return_inverse=True)
        return cls(inverse.reshape(values.shape).astype(np.int64) - int(bool((values < 0).any())))

    @property
    def num_clusters(self) -> int:
        """Number K of distinct labels; a kept singleton counts as one."""
        return int(self.labels.max(initial=-1)) + 1

    @property
    def num_outliers(self) -> int:
        return int((self.labels < 0).sum())

    def keep_outliers(self) -> PseudoLabels:
        """Give every outlier a label of its own, numbered after the clusters (Section 3.1: singletons)."""
        labels = self.labels.copy()
        outliers = labels < 0
        labels[outliers] = self.num_clusters + np.arange(int(outliers.sum()))
        return PseudoLabels(labels)

    def drop_singletons(self) -> PseudoLabels:
        """Make an outlier of every image that has a label to itself; the others are renumbered in their order."""
        sizes = np.bincount(self.labels[self.labels >= 0], minlength=1)
        alone = (self.labels >= 0) & (sizes[np.maximum(self.labels, 0)] == 1)
        return PseudoLabels.of(np.where(alone, OUTLIER, self.labels))


@dataclass(frozen=True)
class SearchQuery:
    """A person search query: feature ``[D]`` and, per gallery image, the target's box (xyxy) or None."""

    feature: Any
    targets: Mapping[str, Any]


@dataclass(frozen=True)
class SceneDetections:
    """Persons found in a scene: boxes ``[R, 4]`` (xyxy, pixels), scores ``[R]``, features ``[R, D]``."""

    boxes: Any
    scores: Any
    features: Any

    def __post_init__(self) -> None:
        rows = {len(self.boxes), len(self.scores), len(self.features)}
        _check(len(rows) == 1, f"boxes, scores and features differ in length: {sorted(rows)}")


def cameras_of(crops: tuple[Crop, ...]) -> Labels:
    """Camera of each crop, int64 ``[M]``; :data:`UNKNOWN_CAMERA` where it is not known."""
    return np.fromiter((crop.camera for crop in crops), dtype=np.int64, count=len(crops))
