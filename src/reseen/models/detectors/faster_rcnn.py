"""Faster R-CNN (Ren et al. 2015, arXiv:1506.01497; on a pyramid Lin et al. 2017) out of torchvision's parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers
from torchvision.ops import roi_align

from reseen.models.detectors.anchors import PyramidAnchors, decoded
from reseen.models.detectors.grid import (
    MAX_DETECTIONS,
    MAX_OVERLAP,
    MIN_SCORE,
    Dense,
    Detections,
    numbered,
    scene_sizes,
)
from reseen.models.pyramid import STRIDES

PERSON = 1  # of two classes; 0 is background
PROPOSALS = {"training": 2000, "testing": 1000}  # of each level before suppression, of all after it
POOLED = 7  # cells along each side of a pooled box
HIDDEN = 4  # times the channels: 1024 features of a box at 256 channels


class FasterRCNN(nn.Module):
    """Region proposals on P3 to P7, and a second look at each on one of P3 to P6.

    Proposals and boxes to learn from are drawn with torch's global generator.
    """

    def __init__(self, channels: int = 256, strides: Sequence[int] = STRIDES) -> None:
        super().__init__()
        anchors = PyramidAnchors(strides)
        self.proposals = RegionProposalNetwork(
            anchors,
            _InFloat32(RPNHead(channels, anchors.num_anchors_per_location()[0])),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n=PROPOSALS,
            post_nms_top_n=PROPOSALS,
            nms_thresh=0.7,
        )
        self.heads = RoIHeads(
            _PyramidPool(strides[:4]),
            TwoMLPHead(channels * POOLED**2, HIDDEN * channels),
            _InFloat32(FastRCNNPredictor(HIDDEN * channels, num_classes=2)),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=512,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=MIN_SCORE,
            nms_thresh=MAX_OVERLAP,
            detections_per_img=MAX_DETECTIONS,
        )

    def losses(self, maps: Sequence[Tensor], sizes: Tensor, boxes: Sequence[Tensor]) -> dict[str, Tensor]:
        """torchvision's four terms, float32: of proposals "objectness" and "proposal_box", of persons
        "classification" and "box".

        Arguments as in :meth:`reseen.models.detectors.reppoints.RepPoints.losses`.
        """
        self.train()  # torchvision's parts give losses or boxes by their mode; they hold no layer that minds
        device = maps[0].device
        targets = [
            {
                "boxes": truth.to(device, torch.float32),
                "labels": torch.full((len(truth),), PERSON, device=device),
            }
            for truth in boxes
        ]
        scenes = ImageList(maps[0], scene_sizes(sizes))  # only the sizes are read
        features = {str(number): level for number, level in enumerate(maps)}
        proposals, first = self.proposals(scenes, features, targets)
        _, second = self.heads(features, proposals, scenes.image_sizes, targets)
        return {
            "objectness": first["loss_objectness"],
            "proposal_box": first["loss_rpn_box_reg"],
            "classification": second["loss_classifier"],
            "box": second["loss_box_reg"],
        }

    def forward(self, maps: Sequence[Tensor]) -> Dense:
        """The first look: proposal and logit of every anchor, of maps ``[B, C, h, w]`` each."""
        levels = self.proposals.head(list(maps))
        logits, codes = concat_box_prediction_layers(*levels)
        scenes, anchors = maps[0].shape[0], self.proposals.anchor_generator.of(maps)
        boxes = decoded(self.proposals.box_coder, codes.view(scenes, -1, 4), anchors)
        return Dense(boxes, logits.view(scenes, -1))

    def second_look(self, maps: Sequence[Tensor], rois: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[n, 2]`` (background, person) and box codes ``[n, 8]`` of ``rois`` ``[n, 5]``: scene, proposal."""
        pooled = self.heads.box_roi_pool.pooled(maps, rois)
        logits, codes = self.heads.box_predictor(self.heads.box_head(pooled))
        return logits, codes

    @torch.no_grad()
    def detect(self, maps: Sequence[Tensor], sizes: Tensor) -> list[Detections]:
        """Up to 100 persons of each scene: boxes ``[R, 4]`` inside it and scores ``[R]``, the best first."""
        self.eval()
        scenes, counts = scene_sizes(sizes), self.proposals.anchor_generator.counts(maps)
        proposals, _ = self.proposals.filter_proposals(*self(maps), scenes, counts)
        logits, codes = self.second_look(maps, numbered(proposals))
        boxes, scores, _ = self.heads.postprocess_detections(logits, codes, proposals, scenes)
        return list(zip(boxes, scores, strict=True))


class _InFloat32(nn.Module):
    """Outputs raised to float32, so that losses and boxes are computed in it also under autocast."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Any) -> tuple[Any, Any]:
        logits, codes = self.head(x)
        if isinstance(logits, list):
            return [level.float() for level in logits], [level.float() for level in codes]
        return logits.float(), codes.float()


class _PyramidPool(nn.Module):
    """RoIAlign 7x7 of each box on one level: a box of 224 pixels on stride 16, half the side a level lower.

    torchvision's own pooling derives strides from the sizes of image and map, see :class:`PyramidAnchors`.
    """

    def __init__(self, strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = tuple(strides)

    def forward(self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: Any) -> Tensor:
        return self.pooled(list(features.values()), numbered(boxes))

    def pooled(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """``[n, C, 7, 7]`` of ``rois`` ``[n, 5]``: scene and box."""
        area = (rois[:, 3:] - rois[:, 1:3]).prod(dim=1)
        level = (1 + (area.sqrt() / 224 + 1e-6).log2()).floor().clamp(0, len(self.strides) - 1)
        maps = [level.float() for level in maps]  # coordinates of a box need float32 too
        pooled = maps[0].new_zeros(rois.shape[0], maps[0].shape[1], POOLED, POOLED)
        for number, stride in enumerate(self.strides):
            here = (level == number).nonzero()[:, 0]
            values = roi_align(maps[number], rois[here], POOLED, 1 / stride, sampling_ratio=2)
            pooled = pooled.index_copy(0, here, values)
        return pooled
