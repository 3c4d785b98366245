"""From images to the persons in them: where they are and their features, whatever says where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reseen.data.boxes import Boxes
from reseen.evaluation.encoders import available, embedding_batch
from reseen.evaluation.two_steps import cut_out, embed_images
from reseen.footage.yolox import Detect, load_yolox
from reseen.inference import Embedder, PersonSearcher
from reseen.models.folding import folded
from reseen.records import SceneDetections

# images uint8 [3, H, W] and, where they are known, the boxes [n, 4] (xyxy, pixels) of each -> one record each
Find = Callable[[Sequence[Tensor], Sequence[Boxes | None]], list[SceneDetections]]
MIN_SCORE = 0.5  # of a person whom a run on scenes detects: the score from which the protocol counts
MIN_SCORE_YOLOX = 0.3  # YOLOX's own
SCENES = 8  # whole pictures that are held together; crops: as many as go through the network together


@dataclass(frozen=True)
class Finder:
    """``find`` gives the persons of some images, with features of ``dim`` numbers; best ``batch`` images at a time."""

    find: Find
    dim: int
    batch: int


def finder(
    model: Embedder | PersonSearcher, *, detector: Path | None = None, min_score: float | None = None
) -> Finder:
    """What finds and embeds the persons of some images.

    Boxes that are given are taken as they are, with a score of 1. Else the ``detector`` says where persons are, or the
    searcher itself; an embedder without a detector takes each image for one person.

    Args:
        detector: a YOLOX model as ``.onnx``.
        min_score: of a detection; None: :data:`MIN_SCORE`, or :data:`MIN_SCORE_YOLOX` with a detector.

    Raises:
        ReseenError: the detector cannot be used.
    """
    if detector is None:
        detect = None
    else:
        detect = load_yolox(detector, min_score=MIN_SCORE_YOLOX if min_score is None else min_score)
    if isinstance(model, PersonSearcher):
        score = MIN_SCORE if min_score is None else min_score
        return Finder(_in_scenes(model, detect, score), model.dim, SCENES)
    batch = embedding_batch(model.config, available(model.config)[0])
    find = _in_crops(model, detect or _whole, batch)
    return Finder(find, model.dim, batch if detect is None else SCENES)


def _in_scenes(searcher: PersonSearcher, detect: Detect | None, min_score: float) -> Find:
    def one(image: Tensor, boxes: Boxes | None) -> SceneDetections:
        pixels = image.permute(1, 2, 0).numpy()
        if boxes is None and detect is None:
            return searcher(pixels, min_score=min_score)
        boxes, scores = _placed(image, boxes, detect or _whole)
        return SceneDetections(boxes, scores, searcher.embed(pixels, boxes))

    return lambda images, boxes: list(map(one, images, boxes))


def _in_crops(embedder: Embedder, detect: Detect, size: int) -> Find:
    network = folded(embedder.encoder).to(memory_format=torch.channels_last)

    def find(images: Sequence[Tensor], boxes: Sequence[Boxes | None]) -> list[SceneDetections]:
        placed = [_placed(image, given, detect) for image, given in zip(images, boxes, strict=True)]
        crops = [
            crop for image, (where, _) in zip(images, placed, strict=True) for crop in cut_out(image, where)
        ]
        features = np.zeros((len(crops), embedder.dim), dtype=np.float32)
        for start in range(0, len(crops), size):
            part = embed_images(network, crops[start : start + size], embedder.config, grey=embedder.grey)
            features[start : start + size] = part.numpy()
        ends = np.cumsum([len(where) for where, _ in placed]).tolist()
        return [
            SceneDetections(where, scores, features[end - len(where) : end])
            for (where, scores), end in zip(placed, ends, strict=True)
        ]

    return find


def _placed(
    image: Tensor, boxes: Boxes | None, detect: Detect
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return detect(image) if boxes is None else (boxes, np.ones(len(boxes), dtype=np.float32))


def _whole(image: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    height, width = image.shape[1:]
    return np.array([[0, 0, width, height]], dtype=np.float32), np.ones(1, dtype=np.float32)
