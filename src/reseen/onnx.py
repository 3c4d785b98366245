"""Exported models in a program: what :mod:`reseen.inference` computes, by onnxruntime, numpy and Pillow without torch.

    embedder = reseen.onnx.Embedder.load("runs/photos/onnx")
    features = embedder(["a.jpg", "b.jpg"])  # [2, D]
    persons = reseen.onnx.PersonSearcher.load("runs/scenes/onnx")("scene.jpg")  # boxes, scores, features

``reseen export RUN --format onnx`` writes the files; what each needs to be told stands in its metadata. Overlapping
boxes are dropped here and not in the graphs, whose shapes would depend on the image.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from reseen.errors import ReseenError
from reseen.pixels import Boxes, Pixels, boxes_inside, pixels_of, scene_size, shown, whole_pixels
from reseen.records import SceneDetections

__all__ = ["Embedder", "PersonSearcher", "choose"]

FORMAT = "reseen-onnx-1"
EMBEDDER, DETECTOR, SECOND_LOOK, FEATURES = "embedder", "detector", "second_look", "features"  # .onnx
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_BATCH = 32  # crops that go through the network together
_BLOCK = 32  # sides of a scene are multiples of it
_WAYS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Graph:
    """One file: ``run`` is onnxruntime's session, ``metadata`` what the export wrote into it."""

    session: Any
    metadata: dict[str, str]

    @classmethod
    def load(cls, path: Path, threads: int = 0) -> Graph:
        """Raises ReseenError where onnxruntime or the file is missing, or ``reseen export`` did not write it."""
        try:
            import onnxruntime
        except ImportError:
            raise ReseenError(
                "reseen.onnx needs onnxruntime: pip install onnxruntime, or pip install 'reseen[export]'"
            ) from None
        if not path.is_file():
            raise ReseenError(f"{shown(path)} is not there: write it with reseen export RUN --format onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # errors are raised; they need not be printed too
        try:
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes have no public base
            raise ReseenError(f"{shown(path)} is damaged or no ONNX model: export it again") from error
        metadata = dict(session.get_modelmeta().custom_metadata_map)
        if metadata.get("format") != FORMAT:
            raise ReseenError(f"{shown(path)} was not written by this version of reseen: export it again")
        return cls(session, metadata)

    def record(self, name: str) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.metadata[name])
        return record

    def __call__(self, *inputs: NDArray[Any]) -> list[Floats]:
        names = [one.name for one in self.session.get_inputs()]
        outputs: list[Floats] = self.session.run(None, dict(zip(names, inputs, strict=True)))
        return outputs


class Embedder:
    """Images of persons to features, as :class:`reseen.Embedder`: the same up to rounding (docs/export.md)."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._seen = graph.record("preprocessing")
        self.fingerprint = graph.metadata["fingerprint"]
        self.dim = int(graph.session.get_outputs()[0].shape[1])

    @classmethod
    def load(cls, source: str | Path, *, threads: int = 0) -> Embedder:
        """From the folder that ``reseen export`` wrote, or its ``embedder.onnx``; ``threads`` 0: as many as cores.

        Raises:
            ReseenError: no onnxruntime, or no such file.
        """
        place = Path(source)
        if (place / f"{FEATURES}.onnx").is_file():
            raise ReseenError(f"{shown(place)} searches scenes: load it with reseen.onnx.PersonSearcher")
        return cls(Graph.load(place / f"{EMBEDDER}.onnx" if place.is_dir() else place, threads))

    def __call__(self, images: Any) -> Floats:
        """Features ``[N, D]`` (rows of length 1) of one image or of N: paths, PIL images, arrays uint8 ``[H, W, 3]``.

        Raises:
            ReseenError: an image cannot be read (its name and why).
        """
        one = isinstance(images, str | Path | Image.Image) or getattr(images, "ndim", 0) in (2, 3)
        many = list(images) if isinstance(images, Iterable) and not one else [images]
        features = np.zeros((len(many), self.dim), np.float32)
        for start in range(0, len(many), _BATCH):
            batch = [self._network_input(pixels_of(image)) for image in many[start : start + _BATCH]]
            features[start : start + _BATCH] = self._graph(np.stack(batch))[0]
        return features

    def _network_input(self, pixels: Pixels) -> Floats:
        resized = _resized(pixels, self._seen["height"], self._seen["width"], self._seen["interpolation"])
        values = resized.astype(np.float32) / np.float32(255)
        if self._seen["grey"]:
            values = np.repeat((values @ np.array(LUMA, np.float32))[:, :, None], 3, axis=2)
        return _normalised(values, self._seen)


class PersonSearcher:
    """Scenes to persons, as :class:`reseen.PersonSearcher`: the same up to rounding (docs/export.md)."""

    def __init__(self, detector: Graph, features: Graph | Embedder, second_look: Graph | None = None) -> None:
        """
        Args:
            features: a graph that reads scene and boxes, or what embeds the persons that are cut out.
            second_look: Faster R-CNN's other half.
        """
        self._detector, self._features, self._second_look = detector, features, second_look
        self._seen = detector.record("preprocessing")
        own = detector.metadata["fingerprint"]
        if isinstance(features, Embedder):
            self.dim = features.dim
            self.fingerprint = f"{own}+{features.fingerprint}"
        else:
            self.dim = int(features.session.get_outputs()[0].shape[1])
            self.fingerprint = own
        parts = [part for part in (second_look, features) if isinstance(part, Graph)]
        if any(part.metadata["fingerprint"] != own for part in parts):
            raise ReseenError("the files are of different models: export them again, into one folder")

    @classmethod
    def load(cls, folder: str | Path, *, threads: int = 0) -> PersonSearcher:
        """From the folder that ``reseen export`` wrote of a run on scenes, in one step or two; ``threads`` 0: as many
        as cores.

        Raises:
            ReseenError: no onnxruntime, a missing file, or files of different models.
        """
        place = Path(folder)
        if (place / f"{EMBEDDER}.onnx").is_file() and not (place / f"{DETECTOR}.onnx").is_file():
            raise ReseenError(f"{shown(place)} holds a model for crops: load it with reseen.onnx.Embedder")
        detector = Graph.load(place / f"{DETECTOR}.onnx", threads)
        look = None
        if detector.metadata["detector"] == "faster-rcnn":
            look = Graph.load(place / f"{SECOND_LOOK}.onnx", threads)
        if (place / f"{EMBEDDER}.onnx").is_file():
            return cls(detector, Embedder.load(place / f"{EMBEDDER}.onnx", threads=threads), look)
        return cls(detector, Graph.load(place / f"{FEATURES}.onnx", threads), look)

    def __call__(self, scene: Any, *, min_score: float = 0.0) -> SceneDetections:
        """Everybody in the scene, surest first; ``min_score`` of what is returned.

        Raises:
            ReseenError: the scene cannot be read.
        """
        pixels = pixels_of(scene)
        batch, size, scale = self._network_input(pixels)
        boxes, scores = self._detect(batch, size)
        sure = scores >= min_score
        boxes, scores = boxes[sure], scores[sure]
        found = (boxes / np.tile(scale, 2)).astype(np.float32)
        return SceneDetections(found, scores, self._embed(pixels, batch, boxes, found))

    def embed(self, scene: Any, boxes: ArrayLike) -> Floats:
        """Features ``[n, D]`` of persons whose boxes ``[n, 4]`` are known; a box ends at the border of the image.

        Raises:
            ReseenError: the scene cannot be read, or a box lies outside of it, has no area or is not a number.
        """
        pixels = pixels_of(scene)
        inside = boxes_inside(boxes, *pixels.shape[:2])
        batch, _, scale = self._network_input(pixels)
        return self._embed(pixels, batch, inside * np.tile(scale, 2), inside)

    def _network_input(self, pixels: Pixels) -> tuple[Floats, tuple[int, int], Floats]:
        """The scene as a batch of one, its size in there (the rest is padding), and its scale (x, y)."""
        (rows, columns, _), seen = pixels.shape, self._seen
        height, width = scene_size(rows, columns, seen["long_side"], seen["short_side"])
        resized = _resized(pixels, height, width, seen["interpolation"])
        batch = np.zeros((1, 3, -(-height // _BLOCK) * _BLOCK, -(-width // _BLOCK) * _BLOCK), np.float32)
        batch[0, :, :height, :width] = _normalised(resized.astype(np.float32) / np.float32(255), seen)
        scale = np.array([width / columns, height / rows], np.float32)
        return batch, (height, width), scale

    def _detect(self, batch: Floats, size: tuple[int, int]) -> tuple[Boxes, Floats]:
        boxes, scores = self._detector(batch)
        places = self._detector.record("places")  # of each stride in pixels, how many there are in a cell
        counts = [
            each * -(-batch.shape[2] // int(stride)) * -(-batch.shape[3] // int(stride))
            for stride, each in places.items()
        ]
        found = choose(boxes[0], scores[0], size, counts=counts, **self._detector.record("choice"))
        if self._second_look is None:
            return found
        boxes, scores = self._second_look(batch, _rois(found[0]))
        return choose(boxes, scores, size, counts=[len(boxes)], **self._second_look.record("choice"))

    def _embed(self, pixels: Pixels, batch: Floats, boxes: Boxes, found: Boxes) -> Floats:
        """Features of ``boxes`` in pixels of the batch, ``found`` in pixels of the file."""
        if not len(boxes):
            return np.zeros((0, self.dim), np.float32)
        if isinstance(self._features, Embedder):
            places = whole_pixels(found, *pixels.shape[:2])
            return self._features([pixels[rows, columns] for rows, columns in places])
        return self._features(batch, _rois(boxes))[0]


def choose(
    boxes: Boxes,
    scores: Floats,
    size: tuple[int, int],
    *,
    counts: Sequence[int],
    top: int,
    min_score: float,
    min_side: float,
    max_overlap: float,
    most: int,
    by_level: bool,
) -> tuple[Boxes, Floats]:
    """The detections among dense outputs ``[P, 4]`` and ``[P]`` of a scene of ``size`` (height, width), surest first.

    Of each level (``counts`` of its places) the ``top`` best; of these, cut at the border, scores above ``min_score``
    and sides of at least ``min_side`` pixels; of those that overlap more than ``max_overlap`` (IoU; ``by_level``:
    within one level) the surest; ``most`` of them.
    """
    starts = np.cumsum([0, *counts])
    best = [
        start + np.argsort(-scores[start:end], kind="stable")[:top]
        for start, end in itertools.pairwise(starts)
    ]
    levels = np.repeat(np.arange(len(best)), [len(rows) for rows in best])
    rows = np.concatenate(best)
    height, width = size
    boxes = np.clip(boxes[rows], 0, np.array([width, height, width, height], np.float32))
    scores = scores[rows]
    large = (boxes[:, 2:] - boxes[:, :2] >= min_side).all(axis=1)
    kept = np.flatnonzero(large & (scores > min_score))
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    kept = kept[_apart(boxes[kept], levels[kept] if by_level else np.zeros(len(kept)), max_overlap)][:most]
    return boxes[kept], scores[kept]


def _apart(boxes: Boxes, groups: NDArray[Any], max_overlap: float) -> NDArray[np.int64]:
    """Rows that non-maximum suppression keeps of boxes ``[n, 4]``, the surest first; groups do not see each other."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left = np.arange(len(boxes))
    kept = []
    while len(left):
        first, left = left[0], left[1:]
        kept.append(first)
        sides = np.minimum(boxes[first, 2:], boxes[left, 2:]) - np.maximum(boxes[first, :2], boxes[left, :2])
        shared = np.clip(sides, 0, None).prod(axis=1)
        overlap = shared / (areas[first] + areas[left] - shared)
        left = left[(overlap <= max_overlap) | (groups[left] != groups[first])]
    return np.array(kept, np.int64)


def _rois(boxes: Boxes) -> Floats:
    """Rows ``[n, 5]`` of boxes in the first scene of a batch."""
    return np.pad(boxes, ((0, 0), (1, 0)))


def _resized(pixels: Pixels, height: int, width: int, interpolation: str) -> Pixels:
    """uint8 ``[height, width, 3]``: along x, then along y, as torchvision does (Pillow takes the cheaper order)."""
    image, way = Image.fromarray(pixels), _WAYS[interpolation]
    for size in ((width, image.height), (width, height)):
        if image.size != size:
            image = image.resize(size, way)
    return np.asarray(image)


def _normalised(values: Floats, seen: dict[str, Any]) -> Floats:
    """``[3, h, w]`` of pixels ``[h, w, 3]`` in 0..1."""
    mean, std = (np.array(seen[name], np.float32) for name in ("mean", "std"))
    return np.ascontiguousarray(((values - mean) / std).transpose(2, 0, 1))
