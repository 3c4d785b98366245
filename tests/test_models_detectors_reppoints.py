"""RepPoints' arithmetic against loops, and what its gradients reach (specification 2.2 and 8.5)."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from oracles import reppoints as oracle
from reseen.models.detectors import reppoints
from reseen.models.detectors.grid import Grid
from reseen.models.detectors.reppoints import RepPoints, focal_loss, moment_boxes
from reseen.models.pyramid import STRIDES

SYMMETRIC = [v for y in (-1.0, 0.0, 1.0) for x in (-1.0, 0.0, 1.0) for v in (3 * y, 2 * x)]


def draw_maps(scenes: int = 2, height: int = 96, width: int = 128, channels: int = 16) -> list[torch.Tensor]:
    return [torch.randn(scenes, channels, -(-height // s), -(-width // s)) for s in STRIDES]


def head_with_spread_points(channels: int = 16) -> RepPoints:
    """A head whose first boxes are about 3 x 3 strides, so that some overlap a person well, some a little."""
    torch.manual_seed(0)
    head = RepPoints(channels)
    with torch.no_grad():
        head.first_points.bias.copy_(torch.tensor(SYMMETRIC) * 0.8)
        head.theta.copy_(torch.tensor([0.1, -0.2]))
        for layer in (head.first_points, head.refine_points, head.class_logit):
            layer.weight.normal_(std=0.3)
        head.class_logit.bias.zero_()  # so that a negative cell weighs as much as a positive one
    return head


@pytest.mark.parametrize("theta", [(0.0, 0.0), (0.3, -0.5)])
def test_moment_transform_is_the_loop(theta):
    points = torch.randn(7, 18) * 20 + 50
    boxes = moment_boxes(points, torch.tensor(theta))
    for box, row in zip(boxes.tolist(), points.tolist(), strict=True):
        assert box == pytest.approx(oracle.moment_box(row, theta), rel=1e-5)


def test_moment_transform_of_a_symmetric_set():
    """x in {-2, 0, 2} and y in {-3, 0, 3}, three times each: deviations sqrt(3) and 1.5 sqrt(3) around the centre."""
    points = torch.tensor([SYMMETRIC]) + torch.tensor([10.0, 20.0]).repeat(9)  # y + 10, x + 20
    half_x, half_y = math.sqrt(3), 1.5 * math.sqrt(3)
    expected = torch.tensor([[20 - half_x, 10 - half_y, 20 + half_x, 10 + half_y]])
    torch.testing.assert_close(moment_boxes(points, torch.zeros(2)), expected)
    wide = moment_boxes(points, torch.tensor([math.log(2), 0.0]))
    torch.testing.assert_close(wide[:, 2] - wide[:, 0], torch.tensor([4 * half_x]))
    torch.testing.assert_close(wide[:, 1::2], expected[:, 1::2])


def test_theta_gets_a_hundredth_of_its_gradient_and_points_all_of_theirs():
    points = torch.randn(5, 18, dtype=torch.float64, requires_grad=True)
    theta = torch.tensor([0.2, -0.1], dtype=torch.float64, requires_grad=True)
    direction = torch.randn(5, 4, dtype=torch.float64)

    def plain() -> torch.Tensor:
        y, x = points[:, 0::2], points[:, 1::2]
        half = torch.stack([x.std(1), y.std(1)], 1) * theta.exp()
        centre = torch.stack([x.mean(1), y.mean(1)], 1)
        return torch.cat([centre - half, centre + half], 1)

    torch.testing.assert_close(plain(), moment_boxes(points, theta))
    theirs = torch.autograd.grad((plain() * direction).sum(), [points, theta])
    ours = torch.autograd.grad((moment_boxes(points, theta) * direction).sum(), [points, theta])
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1] / 100)


def test_nine_points_in_one_place_have_a_finite_gradient():
    points = torch.zeros(2, 18, requires_grad=True)
    moment_boxes(points, torch.zeros(2)).sum().backward()
    assert points.grad.isfinite().all()


def test_focal_loss_is_the_loop():
    logits, positive = torch.randn(50) * 3, torch.rand(50) < 0.2
    expected = oracle.focal(logits.tolist(), positive.tolist())
    assert focal_loss(logits, positive).item() == pytest.approx(expected, rel=1e-5)
    assert focal_loss(torch.tensor([200.0, -200.0]), torch.tensor([False, True])).isfinite()


def losses_of(head, maps, sizes, truths):
    return head.losses(maps, torch.tensor(sizes), [torch.tensor(t).reshape(-1, 4) for t in truths])


@pytest.mark.parametrize(
    "truths",
    [
        (
            [[20.0, 10.0, 45.0, 40.0], [60.0, 5.0, 85.0, 70.0], [64.0, 48.0, 89.0, 75.0]],
            [[5.0, 8.0, 40.0, 60.0]],
        ),
        ([[20.0, 10.0, 45.0, 40.0]], []),
        ([], []),
    ],
)
def test_losses_with_their_normalisation_are_the_loop(truths):
    """Counts are per stage and at least 1 a scene; padding of the smaller scene and the ignored are left out."""
    head, maps, sizes = head_with_spread_points(), draw_maps(), [(96.0, 128.0), (64.0, 50.0)]
    with torch.no_grad():
        levels = [head._level(level, gather=False) for level in maps]
        out = [torch.cat(parts, 1).tolist() for parts in zip(*levels, strict=True)]
        ours = losses_of(head, maps, sizes, truths)
    shapes = [tuple(level.shape[2:]) for level in maps]
    theirs = oracle.losses(*out, head.theta.tolist(), truths, shapes, STRIDES, sizes)
    assert {name: value.item() for name, value in ours.items()} == pytest.approx(theirs, rel=1e-4)
    labels = oracle.max_iou(proposals(head, maps, sizes[0]), truths[0])
    if truths[0]:
        assert oracle.IGNORED in labels  # all three kinds take part in this test
        assert sum(label >= 0 for label in labels) > len(truths[0])


def proposals(head, maps, size):
    grid = Grid.of(maps, STRIDES)
    first = torch.cat([head._level(level, gather=False).first for level in maps], 1)[0]
    valid = grid.valid(size).nonzero()[:, 0]
    return head._boxes(first[valid], grid, valid).tolist()


def test_cells_in_the_padding_of_the_batch_have_no_gradient():
    head, maps = head_with_spread_points(), draw_maps(1)
    seen = []
    head.class_logit.register_forward_hook(lambda *a: (a[2].retain_grad(), seen.append(a[2]))[0])
    person = [[10.0, 10.0, 60.0, 60.0]]  # it overlaps proposals beyond the padded scene, 32 x 64
    sum(losses_of(head, maps, [(30.0, 50.0)], [person]).values()).backward()
    for logits, stride in zip(seen, STRIDES, strict=True):
        inside = torch.zeros_like(logits, dtype=torch.bool)
        inside[..., : -(-32 // stride), : -(-64 // stride)] = True
        assert (logits.grad[~inside] == 0).all()
        assert (logits.grad[inside] != 0).any()


def test_zero_outputs_of_the_first_stage_make_all_nine_taps_read_the_cell():
    head, level = RepPoints(16), torch.randn(2, 16, 6, 7)
    for parameter in head.first_points.parameters():
        nn.init.zeros_(parameter)
    for gather in (False, True):
        with torch.no_grad():
            ours = head._level(level, gather=gather)
            weight = head.class_conv.weight.sum((2, 3), keepdim=True)
            logits = head.class_logit(F.relu(F.conv2d(head.class_tower(level), weight)))
        torch.testing.assert_close(ours.logits, logits.flatten(1))
        assert (ours.first == 0).all()


def gradient_of_first_points(head, level, output, monkeypatch, share):
    monkeypatch.setattr(reppoints, "POINT_GRADIENT", share)
    head.zero_grad(set_to_none=True)
    getattr(head._level(level, gather=False), output).sum().backward()
    return head.first_points.weight.grad


@pytest.mark.parametrize("output", ["logits", "refined"])
def test_a_tenth_of_the_gradient_reaches_the_first_points(monkeypatch, output):
    """Only through the offsets of the deformable convolutions: the sum O2 + sg(O1) passes nothing on."""
    head, level = head_with_spread_points(), torch.randn(2, 16, 6, 7)
    assert reppoints.POINT_GRADIENT == 0.1
    whole = gradient_of_first_points(head, level, output, monkeypatch, 1.0)
    tenth = gradient_of_first_points(head, level, output, monkeypatch, 0.1)
    assert whole.abs().max() > 0
    torch.testing.assert_close(tenth, whole / 10, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        head.class_conv.weight.zero_()
        head.refine_conv.weight.zero_()
    assert (gradient_of_first_points(head, level, output, monkeypatch, 0.1) == 0).all()


def test_refined_offsets_start_from_the_first():
    head, level = head_with_spread_points(), torch.randn(1, 16, 4, 4)
    with torch.no_grad():
        nn.init.zeros_(head.refine_points.weight)
        out = head._level(level, gather=False)
    torch.testing.assert_close(out.refined, out.first)


def test_initial_scores_and_weights():
    torch.manual_seed(0)
    head = RepPoints(256)
    assert head.class_logit.bias.sigmoid().item() == pytest.approx(0.01)
    convs = [m.weight for m in head.modules() if isinstance(m, nn.Conv2d)]
    for weight in [*convs, head.class_conv.weight, head.refine_conv.weight]:
        assert weight.std().item() == pytest.approx(0.01, rel=0.15)  # 256 weights of the logit: 4 % is usual
    assert (head.theta == 0).all()


def test_every_parameter_learns_also_without_a_person():
    """Distributed training waits for the gradient of every parameter."""
    head, maps = head_with_spread_points(), draw_maps()
    for truths in (([[20.0, 10.0, 50.0, 80.0]], []), ([], [])):
        head.zero_grad(set_to_none=True)
        sum(losses_of(head, maps, [(96.0, 128.0)] * 2, truths).values()).backward()
        missing = [name for name, p in head.named_parameters() if p.grad is None]
        assert missing == []
        assert head.class_conv.weight.grad.abs().sum() > 0
        assert bool(head.refine_conv.weight.grad.abs().sum() > 0) == bool(truths[0])


def test_detection_reads_the_refined_boxes_and_their_logits():
    """One cell speaks: its box comes back, clipped, with its score."""
    head, maps = head_with_spread_points(), draw_maps(1)
    with torch.no_grad():
        head.class_logit.weight.zero_()
        head.class_logit.bias.fill_(1.0)
        grid = Grid.of(maps, STRIDES)
        out = [
            torch.cat(parts, 1) for parts in zip(*(head._level(m, gather=True) for m in maps), strict=True)
        ]
        boxes = head._boxes(out[2][0], grid, torch.arange(len(grid.cells))).clamp(min=0)
        boxes[:, 0::2].clamp_(max=128)
        boxes[:, 1::2].clamp_(max=96)
        ((found, scores),) = head.detect(maps, torch.tensor([[96, 128]]))
    torch.testing.assert_close(scores, torch.full_like(scores, 1 / (1 + math.exp(-1))))
    distance = (found[:, None] - boxes[None]).abs().amax(-1).amin(1)
    assert len(found) > 1
    assert distance.max() < 1e-3


def test_cells_in_the_padding_of_the_batch_are_never_detections(monkeypatch):
    """They learn nothing, so what they say means nothing, also where their boxes reach into the scene."""
    head, maps, size = RepPoints(16), draw_maps(1), (30.0, 50.0)
    valid = Grid.of(maps, STRIDES).valid(size).split([m.shape[2] * m.shape[3] for m in maps])
    levels = iter(
        [
            reppoints._Level(torch.where(inside, -9.0, 9.0)[None], *[wide(len(inside)) for _ in range(2)])
            for inside in valid
        ]
    )
    monkeypatch.setattr(head, "_level", lambda level, gather: next(levels))
    ((boxes, _),) = head.detect(maps, torch.tensor([size]))
    assert len(boxes) == 0


def wide(cells: int) -> torch.Tensor:
    return (torch.tensor(SYMMETRIC) * 10).expand(1, cells, 18)
