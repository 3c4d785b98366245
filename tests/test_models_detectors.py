"""What every detector keeps to: finite losses, boxes inside the scene, and 8 drawn scenes learnt by heart."""

import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.ops import roi_align

from reseen.errors import ReseenError
from reseen.metrics import DetectionScores, SceneDetections, box_iou, detection_scores
from reseen.models.detectors import DETECTORS, build_detector
from reseen.models.detectors.anchors import PyramidAnchors
from reseen.models.detectors.faster_rcnn import _PyramidPool
from reseen.models.detectors.grid import keep_best
from reseen.models.pyramid import STRIDES, build_pyramid
from reseen.street import draw_scenes

HEIGHT, WIDTH = 96, 128
NAMES = list(DETECTORS)
PERSONS = {
    "two": [[20.0, 10.0, 45.0, 80.0], [60.0, 20.0, 90.0, 90.0]],
    "one": [[30.0, 30.0, 50.0, 70.0]],
    "whole scene": [[0.0, 0.0, 128.0, 96.0]],
    "at the border": [[0.0, 0.0, 12.0, 40.0], [120.0, 60.0, 128.0, 96.0]],
    "smaller than a cell": [[50.25, 50.25, 51.0, 52.0]],
    "none": [],
}


def maps_of(scenes: int = 2, channels: int = 16) -> list[Tensor]:
    return [torch.randn(scenes, channels, -(-HEIGHT // s), -(-WIDTH // s)) for s in STRIDES]


def build(name: str, channels: int = 16) -> nn.Module:
    torch.manual_seed(0)
    return build_detector(name, channels)


def excited(name: str) -> nn.Module:
    """A head that sees persons everywhere."""
    head = build(name)
    biases = {
        "reppoints": lambda: head.class_logit.bias,
        "retinanet": lambda: head.head.classification_head.cls_logits.bias,
        "faster-rcnn": lambda: head.heads.box_predictor.head.cls_score.bias[1:],
    }
    with torch.no_grad():
        biases[name]().fill_(1.5)
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return head


def test_the_three_detectors_have_names():
    assert NAMES == ["reppoints", "retinanet", "faster-rcnn"]
    with pytest.raises(ReseenError, match="did you mean reppoints"):
        build_detector("repoints")
    with pytest.raises(ReseenError, match="use reppoints, retinanet, faster-rcnn"):
        build_detector("yolo")


@pytest.mark.parametrize("persons", PERSONS)
@pytest.mark.parametrize("name", NAMES)
def test_losses_are_finite_and_reach_every_parameter(name, persons):
    head, maps = build(name), maps_of()
    for level in maps:
        level.requires_grad_()
    boxes = [torch.tensor(PERSONS[persons]).reshape(-1, 4), torch.zeros(0, 4)]
    losses = head.losses(maps, torch.tensor([[HEIGHT, WIDTH], [70, 90]]), boxes)
    assert all(value.shape == () and value.dtype == torch.float32 for value in losses.values())
    sum(losses.values()).backward()
    gradients = [p.grad for p in head.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert all(level.grad.isfinite().all() for level in maps)
    assert all(value >= 0 for value in losses.values())
    for key in set(losses) & {"init", "refine", "box"}:  # "smaller than a cell" may overlap no proposal
        assert (losses[key] > 0) == bool(PERSONS[persons]) or persons == "smaller than a cell", key


@pytest.mark.parametrize("name", NAMES)
def test_under_autocast_losses_are_float32_and_close(name):
    head, maps = build(name), maps_of()
    boxes = [torch.tensor(PERSONS["two"]), torch.tensor(PERSONS["one"])]
    sizes = torch.tensor([[HEIGHT, WIDTH]] * 2)
    torch.manual_seed(1)
    exact = head.losses(maps, sizes, boxes)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = head.losses(maps, sizes, boxes)
    for key, value in lowered.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[key].item(), rel=0.1)
    sum(lowered.values()).backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("lowered", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_boxes_are_inside_their_scene_and_apart(name, lowered):
    head, maps = excited(name), maps_of()
    sizes = [(90, 121), (40, 50)]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=lowered):
        found = head.detect(maps, torch.tensor(sizes))
    for (boxes, scores), (height, width) in zip(found, sizes, strict=True):
        assert boxes.dtype == scores.dtype == torch.float32
        assert 5 < len(boxes) <= 100
        assert len(boxes) == len(scores)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2] <= width).all()
        assert (boxes[:, 3] <= height).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (scores > 0.05).all()
        assert (scores[:-1] >= scores[1:]).all()
        overlap = box_iou(boxes.numpy(), boxes.numpy())
        np.fill_diagonal(overlap, 0)
        assert overlap.max() <= 0.5 + 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_detection_needs_no_mode_and_no_grad_of_the_caller(name):
    head, maps = excited(name), maps_of(1)
    found = head.train().detect(maps, torch.tensor([[HEIGHT, WIDTH]]))[0]
    again = head.eval().detect(maps, torch.tensor([[HEIGHT, WIDTH]]))[0]
    assert torch.equal(found[0], again[0])
    assert not found[0].requires_grad
    assert "classification" in head.eval().losses(maps, torch.tensor([[HEIGHT, WIDTH]]), [torch.zeros(0, 4)])


@pytest.mark.parametrize("name", NAMES)
def test_an_untrained_detector_finds_nobody_with_confidence(name):
    for boxes, scores in build(name).detect(maps_of(), torch.tensor([[HEIGHT, WIDTH]] * 2)):
        assert boxes.shape == (len(scores), 4)
        assert (scores < 0.8).all()


def test_keep_best_by_hand():
    boxes = torch.tensor(
        [
            [0, 0, 10, 10],
            [0, 0, 10, 9],
            [20, 0, 30, 10],
            [-50, -50, -40, -40],
            [95, 5, 120, 300],
            [40, 0, 50, 10],
        ]
    ).float()
    scores = torch.tensor([0.6, 0.9, 0.05, 0.9, 0.3, 0.051])
    kept, best = keep_best(boxes, scores, (80, 100))
    assert kept.tolist() == [[0, 0, 10, 9], [95, 5, 100, 80], [40, 0, 50, 10]]
    assert best.tolist() == pytest.approx([0.9, 0.3, 0.051])
    many = torch.arange(300.0)[:, None] * 12 + torch.tensor([0.0, 0.0, 10.0, 10.0])
    assert len(keep_best(many, torch.rand(300) + 0.1, (9e3, 9e3))[0]) == 100


def test_anchors_lie_at_exact_strides_where_a_map_is_rounded_up():
    """928 pixels make 8 cells of stride 128; dividing the sizes would make it 116."""
    maps = [torch.zeros(2, 1, -(-928 // s), -(-1504 // s)) for s in STRIDES]
    anchors = PyramidAnchors(STRIDES)(None, maps)
    assert len(anchors) == 2
    centres = (anchors[0][:, :2] + anchors[0][:, 2:]) / 2
    assert centres[-1].tolist() == [11 * 128, 7 * 128]
    sides = (anchors[0][:, 2:] - anchors[0][:, :2]).prod(1).sqrt()
    assert sides[0] == pytest.approx(32, rel=0.05)
    assert sides[-1] == pytest.approx(512, rel=0.05)


@pytest.mark.parametrize(("side", "level"), [(20, 0), (220, 0), (230, 1), (440, 1), (900, 3), (4000, 3)])
def test_a_box_is_pooled_from_the_level_of_its_size(side, level):
    maps = {str(i): torch.randn(2, 4, 1024 // s, 1024 // s) for i, s in enumerate(STRIDES)}
    box = torch.tensor([[10.0, 15.0, 10.0 + side, 15.0 + side]])
    pooled = _PyramidPool(STRIDES[:4])(maps, [torch.zeros(0, 4), box], None)
    rois = torch.cat([torch.ones(1, 1), box], 1)
    expected = roi_align(maps[str(level)], rois, 7, 1 / STRIDES[level], sampling_ratio=2)
    torch.testing.assert_close(pooled, expected)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Eight drawn scenes at 224 x 126 pixels, padded to 128: images, sizes, boxes."""
    scenes = draw_scenes(tmp_path_factory.mktemp("street"), train_scenes=8, test_scenes=1).train
    images, boxes = torch.zeros(8, 3, 128, 224), []
    for i, scene in enumerate(scenes):
        image = Image.open(scene.path).resize((224, 126), Image.Resampling.BILINEAR)
        images[i, :, :126] = (torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - 0.45) / 0.25
        boxes.append(torch.from_numpy(scene.boxes) * (224 / 640))
    return images, torch.tensor([[126, 224]] * 8), boxes


def scores_of(
    pyramid: nn.Module, head: nn.Module, drawn: tuple[Tensor, Tensor, list[Tensor]]
) -> DetectionScores:
    images, sizes, boxes = drawn
    pyramid.eval()
    with torch.no_grad():
        found = head.detect(pyramid(images), sizes)
    pyramid.train()
    detections = {str(i): SceneDetections(b, s, b) for i, (b, s) in enumerate(found)}
    return detection_scores(detections, {str(i): box for i, box in enumerate(boxes)})


@pytest.mark.timeout(900)  # 10 to 20 CPU seconds each; the rest is patience on a busy machine
@pytest.mark.parametrize(
    ("name", "channels", "scenes", "lr"),
    [("reppoints", 64, 4, 0.004), ("retinanet", 64, 4, 0.002), ("faster-rcnn", 32, 8, 0.004)],
)
def test_drawn_scenes_are_learnt_by_heart(drawn, name, channels, scenes, lr):
    """From scratch, nothing frozen: AP over .9 within 200 steps of Adam, by a network of half a million weights."""
    drawn = tuple(part[:scenes] for part in drawn)
    images, sizes, boxes = drawn
    torch.manual_seed(0)
    pyramid, _ = build_pyramid("test_resnet", channels=channels, weights="none")
    head = build_detector(name, channels)
    if name == "faster-rcnn":  # of 512 regions most are on the same few persons: the pictures are small
        head.heads.fg_bg_sampler.batch_size_per_image = 128
    before = {key: value.detach().clone() for key, value in head.named_parameters()}
    parameters = [*pyramid.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=lr)
    started, score = time.process_time(), None
    for step in range(200):
        optimizer.param_groups[0]["lr"] = lr * min(1.0, (step + 1) / 10)
        rows = torch.randperm(scenes)[:4].tolist()
        losses = head.losses(pyramid(images[rows]), sizes[rows], [boxes[row] for row in rows])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(parameters, 35)
        optimizer.step()
        if step % 10 == 9 and step >= 49:
            score = scores_of(pyramid, head, drawn)
            if score.average_precision > 0.92:
                break
    taken = time.process_time() - started
    print(f"{name}: AP {score.average_precision:.3f} after {step + 1} steps, {taken:.1f} CPU seconds")
    assert score.average_precision > 0.9
    assert score.recall > 0.9
    for key, value in head.named_parameters():
        moved = (value - before[key]).norm()
        assert moved > 0, key
        if key in ("class_conv.weight", "refine_conv.weight"):  # the deformable convolutions really train
            assert moved > 0.1 * before[key].norm(), key
