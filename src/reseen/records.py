"""What the rooms hand to each other: small frozen records whose shapes are checked once, here.

Training sees :class:`Crop` and :class:`Scene`, which have no identity field at all. Identities
travel beside them (:class:`LabelledCrops`, :attr:`ReidData.train_identities`) and are read only by
evaluation and by the diagnostics that run after an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reseen.errors import require

Labels = NDArray[np.int64]

UNKNOWN_CAMERA = -1
JUNK = -1  # gallery image that neither helps nor hurts: dropped (Market-1501)
DISTRACTOR = 0  # gallery image of nobody in the query set: a negative for everyone
OUTLIER = -1  # pseudo label of an image that belongs to no cluster
UNLABELLED = -1  # identity of a person in a scene whom nobody named; persons in scenes are numbered from 0


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
        require(
            self.identities.shape == (len(self.crops),),
            f"{len(self.crops)} crops need as many identities, not {self.identities.shape}",
        )

    @property
    def cameras(self) -> Labels:
        return cameras_of(self.crops)

    def __len__(self) -> int:
        return len(self.crops)

    def take(self, rows: Labels) -> LabelledCrops:
        """Those of ``rows``, in that order."""
        return LabelledCrops(tuple(self.crops[row] for row in rows), self.identities[rows])


@dataclass(frozen=True)
class ReidData:
    """A person re-identification data set as read from a folder or a manifest.

    ``train`` is all that training receives. ``train_identities`` ``[M]`` is for diagnostics only and is
    None where nobody labelled the images. ``query`` and ``gallery`` are None without a test split.
    ``validation`` is neither trained on nor tested on, unless somebody asks for it in place of the test split.
    ``layout`` says in words what it was read as; ``skipped`` names what was left out and says why.
    ``person_names`` and ``camera_names``: what people call those who have numbers here, where that was read.
    """

    name: str
    root: Path
    train: tuple[Crop, ...]
    train_identities: Labels | None = None
    query: LabelledCrops | None = None
    gallery: LabelledCrops | None = None
    validation: LabelledCrops | None = None
    layout: str = "crops"
    skipped: tuple[str, ...] = ()
    person_names: Mapping[int, str] = field(default_factory=dict)
    camera_names: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.train_identities is not None:
            require(
                self.train_identities.shape == (len(self.train),),
                f"{len(self.train)} training crops need as many identities, not {self.train_identities.shape}",
            )

    @property
    def labelled(self) -> dict[str, LabelledCrops]:
        """The parts beside the training part that are there, by name."""
        parts = {"validation": self.validation, "query": self.query, "gallery": self.gallery}
        return {name: part for name, part in parts.items() if part is not None}

    def take(self, rows: Mapping[str, Labels]) -> ReidData:
        """Only ``rows`` of ``train`` and of each part that is there."""
        labels, parts = self.train_identities, {n: part.take(rows[n]) for n, part in self.labelled.items()}
        return replace(
            self,
            train=tuple(self.train[row] for row in rows["train"]),
            train_identities=None if labels is None else labels[rows["train"]],
            query=parts.get("query"),
            gallery=parts.get("gallery"),
            validation=parts.get("validation"),
        )


@dataclass(frozen=True)
class Scene:
    """A whole image with the boxes ``[n, 4]`` (xyxy, pixels, float) of the persons in it. No identities."""

    path: Path
    boxes: NDArray[np.float32]
    camera: int = UNKNOWN_CAMERA

    def __post_init__(self) -> None:
        require(
            self.boxes.ndim == 2 and self.boxes.shape[1] == 4,
            f"{self.path}: boxes must have shape [n, 4], not {self.boxes.shape}",
        )


@dataclass(frozen=True)
class LabelledScenes:
    """Scenes with the identity of each box: one int64 array ``[n]`` per scene."""

    scenes: tuple[Scene, ...]
    identities: tuple[Labels, ...]

    def __post_init__(self) -> None:
        require(len(self.scenes) == len(self.identities), "each scene needs its array of identities")
        for scene, identities in zip(self.scenes, self.identities, strict=True):
            require(
                len(scene.boxes) == len(identities),
                f"{scene.path}: {len(scene.boxes)} boxes but {len(identities)} identities",
            )


@dataclass(frozen=True)
class Probe:
    """A person to search for: their ``box`` ``[4]`` (xyxy, pixels) in row ``scene`` of the test scenes.

    ``row`` is the place in the data set's own list of queries, which may have lost some. ``identity`` is for
    pictures and diagnostics.
    """

    scene: int
    box: NDArray[np.float32]
    row: int
    identity: int = UNLABELLED


# The gallery of one query: names of its images (None: all test scenes but the query's own) and the target's box
# (xyxy, pixels) in each of them that shows the target.
RawGallery = tuple[Sequence[str] | None, Mapping[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class SearchData:
    """A person search data set: scenes for training, scenes to search in, and whom to search for.

    ``train`` is all that training receives: every annotated person, without identities. Row k of a memory is
    person k of the training set, scene by scene (:attr:`train_offsets`). Names are the keys of scores and
    galleries and unique within ``train`` and within ``test``. Identities ``[n]`` of each scene are for
    diagnostics: 0 is a person, :data:`UNLABELLED` is not; None: nobody wrote them down.
    ``gallery_sizes`` are what :func:`reseen.data.open_galleries` can be asked for; ``read_gallery`` (size) yields
    the :data:`RawGallery` of each of the data set's own queries, in order. ``skipped`` says what was left out.
    """

    name: str
    root: Path
    train: tuple[Scene, ...]
    train_names: tuple[str, ...]
    train_identities: tuple[Labels, ...] | None = None
    test: tuple[Scene, ...] = ()
    test_names: tuple[str, ...] = ()
    test_identities: tuple[Labels, ...] | None = None
    probes: tuple[Probe, ...] = ()
    gallery_sizes: tuple[int, ...] = ()
    read_gallery: Callable[[int], Iterable[RawGallery]] | None = field(default=None, repr=False)
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part, scenes, names, identities in (
            ("training", self.train, self.train_names, self.train_identities),
            ("test", self.test, self.test_names, self.test_identities),
        ):
            require(
                len(scenes) == len(names) == len(set(names)),
                f"{len(scenes)} {part} scenes need as many names, each its own, not {len(set(names))}",
            )
            if identities is not None:
                LabelledScenes(scenes, identities)  # checks the shapes
        outside = [probe.scene for probe in self.probes if not 0 <= probe.scene < len(self.test)]
        require(not outside, f"a probe names scene {outside[:1]} of {len(self.test)} test scenes")

    @property
    def train_offsets(self) -> Labels:
        """int64 ``[S + 1]``: persons ``offsets[s]:offsets[s + 1]`` of the training set are those of scene s."""
        return np.cumsum([0, *(len(scene.boxes) for scene in self.train)], dtype=np.int64)

    @property
    def train_boxes(self) -> int:
        """Number N of persons in training."""
        return sum(len(scene.boxes) for scene in self.train)


@dataclass(frozen=True)
class PseudoLabels:
    """What clustering says of M persons: labels ``[M]`` in ``0..K-1``, or :data:`OUTLIER`.

    ``parts_left`` and ``parts_stayed``: parts of clusters that refinement took out, and did not; None: there was none.
    """

    labels: Labels
    parts_left: int | None = None
    parts_stayed: int | None = None

    def __post_init__(self) -> None:
        require(self.labels.ndim == 1, f"pseudo labels must have shape [M], not {self.labels.shape}")
        present = np.unique(self.labels)
        present = present[present >= 0]
        require(
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
        return replace(self, labels=labels)

    def drop_singletons(self) -> PseudoLabels:
        """Make an outlier of every image that has a label to itself; the others are renumbered in their order."""
        sizes = np.bincount(self.labels[self.labels >= 0], minlength=1)
        alone = (self.labels >= 0) & (sizes[np.maximum(self.labels, 0)] == 1)
        return replace(self, labels=PseudoLabels.of(np.where(alone, OUTLIER, self.labels)).labels)


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
        require(len(rows) == 1, f"boxes, scores and features differ in length: {sorted(rows)}")


def cameras_of(images: tuple[Crop, ...] | tuple[Scene, ...]) -> Labels:
    """Camera of each person, int64 ``[M]``; :data:`UNKNOWN_CAMERA` where it is not known."""
    cameras = np.fromiter((image.camera for image in images), dtype=np.int64, count=len(images))
    return np.repeat(cameras, persons_of(images))


def boxes_of(image: Crop | Scene) -> NDArray[np.float32]:
    """Boxes ``[n, 4]`` of the persons in a scene; of a crop, which is one person, none."""
    return image.boxes if isinstance(image, Scene) else np.empty((0, 4), dtype=np.float32)


def persons_in(images: tuple[Crop, ...] | tuple[Scene, ...], rows: Labels) -> Labels:
    """Persons in the images of ``rows``: int64, sorted, each once."""
    chosen = np.zeros(len(images), dtype=bool)
    chosen[rows] = True
    return np.flatnonzero(np.repeat(chosen, persons_of(images)))


def persons_of(images: tuple[Crop, ...] | tuple[Scene, ...]) -> Labels:
    """Persons in each image: int64 ``[images]``; a crop shows one."""
    counts = (len(image.boxes) if isinstance(image, Scene) else 1 for image in images)
    return np.fromiter(counts, dtype=np.int64, count=len(images))
