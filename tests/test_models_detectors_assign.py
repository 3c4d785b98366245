"""Both assignments of RepPoints against loops, with ties, crowds and padding."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oracles import reppoints as oracle
from reseen.models.detectors import assign
from reseen.models.detectors.assign import IGNORED, NEGATIVE, centre_assignment, max_iou_assignment
from reseen.models.detectors.grid import Grid
from reseen.models.pyramid import STRIDES


def grid_of(height: int, width: int) -> Grid:
    return Grid.of([torch.zeros(1, 1, -(-height // s), -(-width // s)) for s in STRIDES], STRIDES)


def boxes(rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


# Sides that are powers of two and centres on a grid: equal distances are common, and exact in float32.
exact = st.builds(
    lambda x, y, w, h: (4 * x - w / 2, 4 * y - h / 2, 4 * x + w / 2, 4 * y + h / 2),
    st.integers(0, 64),
    st.integers(0, 48),
    st.sampled_from([8, 16, 32, 64, 128, 256]),
    st.sampled_from([8, 16, 32, 64, 128, 256, 1024]),
)
rough = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h),
    *(st.floats(low, high, width=32) for low, high in ((0, 200), (0, 150), (1, 90), (1, 160))),
)


# The same box again, one corner moved by the smallest step of float32: near-ties that rounding could turn around.
twins = st.builds(
    lambda box, side, up: [
        box,
        [*box[:side], float(np.nextafter(np.float32(box[side]), up)), *box[side + 1 :]],
    ],
    st.tuples(*(st.integers(*limits) for limits in ((0, 99), (0, 99), (100, 190), (100, 190)))),
    st.integers(0, 3),
    st.sampled_from([np.float32(-1e9), np.float32(1e9)]),
).flatmap(st.permutations)
truths = st.lists(exact, max_size=6) | st.lists(rough, max_size=6) | twins


@settings(max_examples=200, deadline=None)
@given(truths, st.integers(20, 192), st.integers(20, 256))
@example([(0, 2**-24, 1, 2 + 2**-24), (0, 0, 1, 1)], 20, 20)  # was drawn once, and float32 made a tie of it
def test_centre_assignment_is_the_loop(truth, height, width):
    grid = grid_of(192, 256)
    ours = centre_assignment(boxes(truth), grid, (height, width))
    rows = boxes(truth).tolist()
    assert ours.tolist() == oracle.centre(rows, grid.shapes, STRIDES, (height, width))


@pytest.mark.parametrize(
    ("w", "h", "stride"),
    [
        (8, 8, 8),
        (32, 64, 8),
        (64, 64, 16),
        (60, 240, 16),
        (128, 128, 32),
        (64, 256, 32),
        (512, 512, 128),
        (9e3, 9e3, 128),
    ],
)
def test_a_person_belongs_to_the_level_of_its_size(w, h, stride):
    grid = grid_of(192, 256)
    owners = centre_assignment(boxes([[100 - w / 2, 80 - h / 2, 100 + w / 2, 80 + h / 2]]), grid, (192, 256))
    (cell,) = (owners >= 0).nonzero()[:, 0]
    assert grid.cell_strides[cell] == stride


def test_a_cell_that_two_want_goes_to_the_closer_and_of_equals_to_the_first():
    grid = grid_of(64, 64)
    near, far = [14, 14, 34, 34], [16, 16, 36, 36]  # centres 24 and 26: both nearest to the cell at 24
    cell = 3 * 8 + 3
    for truth, owner in (([near, far], 0), ([far, near], 1), ([near, near], 0)):
        owners = centre_assignment(boxes(truth), grid, (64, 64))
        assert owners[cell] == owner
        assert (owners >= 0).sum() == 1


def test_no_cell_in_the_padding_of_the_batch_is_assigned():
    grid = grid_of(192, 256)
    beyond = boxes([[60, 70, 92, 110], [200, 150, 230, 190]])  # beyond a scene of 50 x 60, padded to 64 x 64
    owners = centre_assignment(beyond, grid, (50, 60))
    cells = grid.cells[owners >= 0]
    assert len(cells)
    assert (cells < 64).all()
    assert (grid.valid((50, 60)) >= (owners >= 0)).all()


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (33, 200), (192, 256), (500, 10)])
def test_valid_cells_are_those_inside_the_padded_scene(size):
    grid = grid_of(192, 256)
    expected = [valid for *_, valid in oracle.cells(grid.shapes, STRIDES, size)]
    assert grid.valid(size).tolist() == expected
    assert [(x, y, s) for x, y, s, _ in oracle.cells(grid.shapes, STRIDES, size)] == [
        (x, y, s) for (x, y), s in zip(grid.cells.tolist(), grid.cell_strides.tolist(), strict=True)
    ]


small = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h),
    *(st.integers(low, high) for low, high in ((0, 9), (0, 9), (1, 7), (1, 7))),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(small, min_size=1, max_size=25), st.lists(small, max_size=6), st.sampled_from([1, 2, 256]))
def test_max_iou_assignment_is_the_loop(proposals, truth, block):
    before, assign._BLOCK = assign._BLOCK, block  # thousands of persons go through in blocks
    try:
        ours = max_iou_assignment(boxes(proposals), boxes(truth))
    finally:
        assign._BLOCK = before
    assert ours.tolist() == oracle.max_iou(proposals, truth)


def test_thresholds_of_max_iou():
    truth = boxes([[0, 0, 10, 10], [100, 100, 110, 110]])
    good = [100, 100, 110, 110]
    proposals = boxes([[0, 0, 10, 5], [0, 0, 10, 4], [0, 0, 10, 3.9], [0, 0, 10, 9], good, [50, 50, 60, 60]])
    assert max_iou_assignment(proposals, truth).tolist() == [0, IGNORED, NEGATIVE, 0, 1, NEGATIVE]


def test_everybody_takes_the_best_proposals_however_poor():
    truth = boxes([[0, 0, 10, 10]])
    proposals = boxes([[9, 9, 19, 19], [-9, -9, 1, 1], [8, 9, 18, 19], [30, 30, 40, 40]])
    assert max_iou_assignment(proposals, truth).tolist() == [NEGATIVE, NEGATIVE, 0, NEGATIVE]
    assert max_iou_assignment(proposals[[0, 1, 3]], truth).tolist() == [0, 0, NEGATIVE]  # equals, both


def test_whoever_no_proposal_touches_takes_none():
    """Otherwise the best IoU, 0, would make every disjoint proposal positive."""
    proposals = boxes([[0, 0, 10, 10], [20, 0, 30, 10]])
    assert max_iou_assignment(proposals, boxes([[50, 50, 60, 60]])).tolist() == [NEGATIVE, NEGATIVE]


def test_without_persons_everything_is_negative():
    assert max_iou_assignment(boxes([[0, 0, 1, 1]] * 3), boxes([])).tolist() == [NEGATIVE] * 3
    assert (centre_assignment(boxes([]), grid_of(64, 64), (64, 64)) == NEGATIVE).all()
