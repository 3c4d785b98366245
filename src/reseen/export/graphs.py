"""Which graphs a model is written as, and what a reader of each has to be told.

A searcher is more than one graph, for how many boxes survive depends on the image, and a graph whose shapes do cannot
be exported. What comes between two graphs is :func:`reseen.onnx.choose`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reseen.config import Config, DataConfig
from reseen.data import SceneView
from reseen.data.scene_transforms import STRIDE
from reseen.data.transforms import MEAN, STD
from reseen.inference import Embedder, PersonSearcher
from reseen.models import Encoder
from reseen.models.detectors import Detector, FasterRCNN, RepPoints
from reseen.models.detectors.grid import MAX_DETECTIONS, MAX_OVERLAP, MIN_SCORE, MIN_SIDE, TOP_PER_LEVEL
from reseen.models.folding import folded
from reseen.models.search import SearchNetwork, cut_persons
from reseen.onnx import DETECTOR, EMBEDDER, FEATURES, SECOND_LOOK

SCENES = {"images": {0: "batch", 2: "height", 3: "width"}}  # dynamic axes by name
ROIS = {"rois": {0: "persons"}}  # number of the scene in the batch, then x1, y1, x2, y2 in its pixels
# Height and width of scenes: every map has several cells along each side, which all differ.
TRACED = (288, 416)
SMALL = (160, 288)
_TOUCHED = 1e-2  # pixels: the smallest side of a box of torchvision's second stage

Example = Callable[[int, tuple[int, int]], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Graph:
    """One file, ``name`` + ``.onnx``.

    ``module`` is exported, and compared with ``reference`` where that is another. ``inputs`` are the dynamic axes of
    each input, by name. ``example`` gives inputs for so many images of a height and width: ``traced`` for the export,
    ``own`` and ``small`` to run 1 and 7 images. ``metadata`` is for readers.
    """

    name: str
    module: nn.Module
    inputs: dict[str, dict[int, str]]
    outputs: tuple[str, ...]
    example: Example
    traced: tuple[int, int]
    own: tuple[int, int]
    small: tuple[int, int]
    metadata: dict[str, Any]
    reference: nn.Module | None = None


def graphs_of(model: Embedder | PersonSearcher) -> list[Graph]:
    """The embedder of crops; of a searcher its detector, Faster R-CNN's second look, and what gives features."""
    if isinstance(model, Embedder):
        return [_embedder(model)]
    parts = [_detector(model)]
    if isinstance(model.network.detector, FasterRCNN):
        parts.append(_second_look(model))
    return [*parts, _features(model) if model.second is None else _embedder(model.second)]


def crop_preprocessing(config: Config, *, grey: bool) -> dict[str, Any]:
    """What is done to a crop, in the order of the keys."""
    size = {"height": config.data.height, "width": config.data.width, "interpolation": "bicubic"}
    return {**size, "antialias": True, "grey": grey, **_pixels(config.data)}


def scene_preprocessing(config: Config) -> dict[str, Any]:
    """What is done to a scene, in the order of the keys; zeros are added at the right and at the bottom."""
    size = {"long_side": config.search.long_side, "short_side": config.search.short_side}
    return {
        **size,
        "interpolation": "bilinear",
        "antialias": True,
        **_pixels(config.data),
        "padded_to_multiples_of": STRIDE,
    }


def _pixels(data: DataConfig) -> dict[str, Any]:
    """Of RGB pixels in 0..1."""
    return {"mean": list(data.mean or MEAN), "std": list(data.std or STD)}


class _Features(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.encoder(images).features
        return features


class _OfNetwork(nn.Module):
    def __init__(self, network: SearchNetwork) -> None:
        super().__init__()
        self.network = network


class _Dense(_OfNetwork):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        boxes, logits = self.network.detector(self.network.pyramid(images))
        return boxes, logits.sigmoid()


class _Look(_OfNetwork):
    def forward(self, images: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        detector: Any = self.network.detector
        logits, codes = detector.second_look(self.network.pyramid(images), rois)
        boxes = detector.heads.box_coder.decode_single(codes, rois[:, 1:])
        return boxes[:, 4:], logits.softmax(dim=1)[:, 1]  # of the person, not of the background


class _Persons(_OfNetwork):
    def __init__(self, network: SearchNetwork, both: bool) -> None:
        super().__init__(network)
        self.both = both

    def forward(self, images: Tensor, rois: Tensor) -> Tensor:
        within = self.network.features_within(self.network.pyramid(images), rois)
        if not self.both:
            return within
        alone = self.network.features_alone(cut_persons(images, rois, self.network.person))
        return F.normalize(torch.cat([alone, within], dim=1), dim=1)


def _embedder(model: Embedder) -> Graph:
    size = (model.config.data.height, model.config.data.width)
    return Graph(
        EMBEDDER,
        _Features(folded(model.encoder)),
        {"images": {0: "batch"}},
        ("features",),
        _images,
        *(size, size, size),
        {
            "preprocessing": crop_preprocessing(model.config, grey=model.grey),
            "fingerprint": model.fingerprint,
            "method": model.config.method,
            "backbone": model.config.model.backbone,
        },
        _Features(model.encoder),
    )


def _detector(model: PersonSearcher) -> Graph:
    detector = model.network.detector
    choice = {
        "top": TOP_PER_LEVEL,
        "min_score": MIN_SCORE,
        "min_side": MIN_SIDE,
        "max_overlap": MAX_OVERLAP,
        "most": MAX_DETECTIONS,
        "by_level": False,
    }
    if isinstance(detector, FasterRCNN):
        rpn: Any = detector.proposals
        choice = {
            "top": rpn.pre_nms_top_n(),
            "min_score": -1.0,  # whatever its score
            "min_side": rpn.min_size,
            "max_overlap": rpn.nms_thresh,
            "most": rpn.post_nms_top_n(),
            "by_level": True,
        }
    more = {"choice": choice, "places": _places(detector)}
    return _of_scene(model, DETECTOR, _Dense(model.network), {}, ("boxes", "scores"), more)


def _second_look(model: PersonSearcher) -> Graph:
    detector: Any = model.network.detector
    heads = detector.heads
    choice = {
        "top": detector.proposals.post_nms_top_n(),
        "min_score": heads.score_thresh,
        "min_side": _TOUCHED,
        "max_overlap": heads.nms_thresh,
        "most": heads.detections_per_img,
        "by_level": False,
    }
    outputs = ("boxes", "scores")
    return _of_scene(model, SECOND_LOOK, _Look(model.network), ROIS, outputs, {"choice": choice})


def _features(model: PersonSearcher) -> Graph:
    module = _Persons(model.network, model.config.search.paths_at_test == "both")
    return _of_scene(model, FEATURES, module, ROIS, ("features",), {})


def _of_scene(
    model: PersonSearcher,
    name: str,
    module: nn.Module,
    rois: dict[str, dict[int, str]],
    outputs: tuple[str, ...],
    more: dict[str, Any],
) -> Graph:
    config, view = model.config, SceneView.of_config(model.config)
    height, width = (
        -(-side // STRIDE) * STRIDE for side in view.of(config.search.short_side, config.search.long_side)
    )
    metadata = {
        "preprocessing": scene_preprocessing(config),
        "fingerprint": model.fingerprint.partition("+")[0],  # of this network, also where there are two
        "method": config.method,
        "backbone": config.model.backbone,
        "detector": config.search.detector,
    }
    example = _images_and_rois if rois else _images
    return Graph(
        name, module, SCENES | rois, outputs, example, TRACED, (height, width), SMALL, metadata | more
    )


def _places(detector: Detector) -> dict[int, int]:
    """How many places of the dense outputs there are in a cell of each stride."""
    if isinstance(detector, RepPoints):
        return dict.fromkeys(detector.strides, 1)
    anchors = detector.proposals.anchor_generator if isinstance(detector, FasterRCNN) else detector.anchors
    return dict(zip(anchors.strides, anchors.num_anchors_per_location(), strict=True))


def _images(count: int, size: tuple[int, int]) -> tuple[Tensor, ...]:
    return (torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(count)),)


def _images_and_rois(count: int, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Two or three boxes of all sizes in each scene, in no order."""
    generator = torch.Generator().manual_seed(count)
    persons = 2 * count + 3
    scenes = torch.randint(count, (persons, 1), generator=generator)
    ends = torch.rand(persons, 2, 2, generator=generator).sort(dim=1).values * torch.tensor(
        [size[1], size[0]]
    )
    return *_images(count, size), torch.cat([scenes.float(), ends.flatten(1)], dim=1)
