"""Person detectors on a feature pyramid, behind one seam: ``losses(maps, sizes, boxes)``, ``detect(maps, sizes)``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from reseen.errors import ReseenError
from reseen.models.detectors.faster_rcnn import FasterRCNN
from reseen.models.detectors.grid import Detections
from reseen.models.detectors.reppoints import RepPoints
from reseen.models.detectors.retinanet import RetinaNet
from reseen.models.pyramid import STRIDES

__all__ = ["DETECTORS", "Detections", "Detector", "FasterRCNN", "RepPoints", "RetinaNet", "build_detector"]

Detector = RepPoints | RetinaNet | FasterRCNN

DETECTORS: dict[str, type[RepPoints] | type[RetinaNet] | type[FasterRCNN]] = {
    "reppoints": RepPoints,
    "retinanet": RetinaNet,
    "faster-rcnn": FasterRCNN,
}


def build_detector(name: str, channels: int = 256, strides: Sequence[int] = STRIDES) -> Detector:
    """The head called ``name`` for maps of ``channels`` (a multiple of 8) at ``strides`` (pixels per cell).

    Raises:
        ReseenError: no such detector.
    """
    if name not in DETECTORS:
        near = difflib.get_close_matches(name, DETECTORS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use {', '.join(DETECTORS)}"
        raise ReseenError(f"no detector is called {name!r}; {hint}")
    return DETECTORS[name](channels, strides)
