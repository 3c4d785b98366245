"""RetinaNet (Lin et al. 2017, arXiv:1708.02002) for one class, out of torchvision's head, anchors and losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import box_iou

from reseen.models.detectors.anchors import PyramidAnchors
from reseen.models.detectors.grid import TOP_PER_LEVEL, Detections, keep_best, scene_sizes
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

    @torch.no_grad()
    def detect(self, maps: Sequence[Tensor], sizes: Tensor) -> list[Detections]:
        """Up to 100 persons of each scene: boxes ``[R, 4]`` inside it and scores ``[R]``, the best first."""
        outputs = {name: output.float() for name, output in self.head(list(maps)).items()}
        anchors = self.anchors(None, list(maps))[0]
        each = self.anchors.num_anchors_per_location()[0]
        counts = [each * level.shape[2] * level.shape[3] for level in maps]
        found = []
        for i, size in enumerate(scene_sizes(sizes)):
            scores = outputs["cls_logits"][i, :, 0].sigmoid().split(counts)
            codes, places = outputs["bbox_regression"][i].split(counts), anchors.split(counts)
            kept_boxes, kept_scores = [], []
            for score, code, place in zip(scores, codes, places, strict=True):
                score, best = score.topk(min(TOP_PER_LEVEL, len(score)))
                kept_scores.append(score)
                kept_boxes.append(self.coder.decode_single(code[best], place[best]))
            found.append(keep_best(torch.cat(kept_boxes), torch.cat(kept_scores), size))
        return found
