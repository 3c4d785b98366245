"""RetinaNet (Lin et al. 2017, arXiv:1708.02002) for one class, out of torchvision's head, anchors and losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import box_iou

from reseen.models.detectors.anchors import PyramidAnchors, decoded
from reseen.models.detectors.grid import Dense, Detections, best_of_levels, keep_best, scene_sizes
from reseen.models.pyramid import STRIDES, norm_groups

SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
POSITIVE_IOU, NEGATIVE_IOU = 0.5, 0.4


class RetinaNet(nn.Module):
    """The head: maps of a pyramid to losses or to boxes. Group norm in its towers, as in the pyramid."""

    def __init__(self, channels: int = 256, strides: Sequence[int] = STRIDES) -> None:
        super().__init__()
        self.anchors = PyramidAnchors(strides, SCALES)
        self.head = RetinaNetHead(
            channels,
            self.anchors.num_anchors_per_location()[0],
            num_classes=1,
            norm_layer=lambda width: nn.GroupNorm(norm_groups(width), width),
        )
        self.matcher = Matcher(POSITIVE_IOU, NEGATIVE_IOU, allow_low_quality_matches=True)
        self.coder = BoxCoder((1.0, 1.0, 1.0, 1.0))

    def losses(self, maps: Sequence[Tensor], sizes: Tensor, boxes: Sequence[Tensor]) -> dict[str, Tensor]:
        """torchvision's two terms, float32: "classification" (focal) and "box" (L1 of the coded boxes).

        Arguments as in :meth:`reseen.models.detectors.reppoints.RepPoints.losses`.
        """
        outputs = {name: output.float() for name, output in self.head(list(maps)).items()}
        anchors = self.anchors(None, list(maps))
        targets, matches = [], []
        for anchor, truth in zip(anchors, boxes, strict=True):
            truth = truth.to(anchor)
            targets.append(
                {"boxes": truth, "labels": torch.zeros(len(truth), dtype=torch.int64).to(anchor.device)}
            )
            empty = torch.full((len(anchor),), Matcher.BELOW_LOW_THRESHOLD, device=anchor.device)
            matches.append(self.matcher(box_iou(truth, anchor)) if len(truth) else empty)
        with torch.autocast(maps[0].device.type, enabled=False):
            terms = self.head.compute_loss(targets, outputs, anchors, matches)
        return {"classification": terms["classification"], "box": terms["bbox_regression"]}

    def forward(self, maps: Sequence[Tensor]) -> Dense:
        """Box and logit of every anchor, of maps ``[B, C, h, w]`` each."""
        outputs = {name: output.float() for name, output in self.head(list(maps)).items()}
        boxes = decoded(self.coder, outputs["bbox_regression"], self.anchors.of(maps))
        return Dense(boxes, outputs["cls_logits"][:, :, 0])

    @torch.no_grad()
    def detect(self, maps: Sequence[Tensor], sizes: Tensor) -> list[Detections]:
        """Up to 100 persons of each scene: boxes ``[R, 4]`` inside it and scores ``[R]``, the best first."""
        boxes, logits = self(maps)
        counts = self.anchors.counts(maps)
        return [
            keep_best(*best_of_levels(box, logit.sigmoid(), counts), size)
            for box, logit, size in zip(boxes, logits, scene_sizes(sizes), strict=True)
        ]
