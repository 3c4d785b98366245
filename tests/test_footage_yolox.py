"""A detector as an ONNX file: YOLOX's grid, its letterbox, and what is no YOLOX."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from command_runs import done
from films import film
from reseen.errors import ReseenError
from reseen.footage.shards import read_features
from reseen.footage.yolox import SIZE, grid, letterbox, load_yolox, persons
from test_cli import call

SIDE = 64  # pixels of the stand-in's canvas: 8 x 8, 4 x 4 and 2 x 2 cells
WHO = (
    # cell; offset of the centre, logarithm of the size; objectness, person, something else
    (9, (0.5, 0.25, np.log(2), np.log(3), 0.9, 0.8, 0.1)),  # stride 8, column 1, row 1
    (10, (-0.4, 0.25, np.log(2), np.log(3), 0.9, 0.7, 0.1)),  # the same person from the cell beside
    (64 + 6, (0.5, 0.5, 0.0, np.log(2), 0.5, 0.9, 0.1)),  # stride 16, column 2, row 1
    (80 + 3, (0.0, 0.0, 0.0, 0.0, 0.9, 0.1, 0.9)),  # stride 32: something else
)
BOXES = [[4, -2, 20, 22], [32, 8, 48, 40]]  # centres 12, 10 and 40, 24; sizes 16 x 24 and 16 x 32
SCORES = [0.72, 0.45]


def stand_in(path: Path, *, outputs: int = 84, side: int | str = SIDE, channels: int = 3) -> Path:
    """A graph that takes an image and answers with :data:`WHO`, whatever the image shows."""
    table = np.zeros((1, outputs, 7), np.float32)
    for cell, row in WHO:
        table[0, cell] = row
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nought"], ["nothing"]),
        helper.make_node("Add", ["table", "nothing"], ["output"]),
    ]
    values = {"table": table, "nought": np.zeros((), np.float32)}
    graph = helper.make_graph(
        nodes,
        "stand-in",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, channels, side, side])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def yolox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in(tmp_path_factory.mktemp("yolox") / "yolox.onnx")


def test_boxes_follow_from_the_grid(yolox: Path) -> None:
    boxes, scores = load_yolox(yolox, min_score=0.3)(torch.zeros(3, SIDE, SIDE, dtype=torch.uint8))
    np.testing.assert_allclose(scores, SCORES, atol=1e-6)
    np.testing.assert_allclose(boxes, [[4, 0, 20, 22], BOXES[1]], atol=1e-4)  # cut at the border
    assert len(load_yolox(yolox, min_score=0.5)(torch.zeros(3, SIDE, SIDE, dtype=torch.uint8))[0]) == 1


@pytest.mark.parametrize(("height", "width", "scale"), [(32, 64, 1), (128, 96, 0.5), (20, 32, 2)])
def test_boxes_are_in_pixels_of_the_image_whatever_its_size(
    height: int, width: int, scale: float, yolox: Path
) -> None:
    boxes, _ = load_yolox(yolox, min_score=0.3)(torch.zeros(3, height, width, dtype=torch.uint8))
    limit = [width, height, width, height]
    np.testing.assert_allclose(boxes, np.clip(np.array(BOXES) / scale, 0, limit), atol=1e-4)


def test_an_image_lies_at_the_top_left_of_a_grey_canvas_in_bgr() -> None:
    image = torch.zeros(3, 30, 20, dtype=torch.uint8)
    image[0], image[2] = 200, 50  # red, blue
    canvas, scale = letterbox(image, 60, 80)
    assert (scale, canvas.shape, canvas.dtype) == (2, (1, 3, 60, 80), np.float32)
    assert canvas[0, :, 0, 0].tolist() == [50, 0, 200]
    assert canvas[0, :, 59, 39].tolist() == [50, 0, 200]
    assert (canvas[0, :, :, 40:] == 114).all()


def test_cells_are_listed_grid_by_grid_and_row_by_row() -> None:
    cells = grid(64, 32)
    assert len(cells) == 8 * 4 + 4 * 2 + 2 * 1
    assert cells[[0, 1, 4, 32, 40, 41]].tolist() == [
        [0, 0, 8],
        [1, 0, 8],
        [0, 1, 8],
        [0, 0, 16],
        [0, 0, 32],
        [0, 1, 32],
    ]


def test_numbers_that_are_none_find_nobody() -> None:
    output = np.full((84, 7), np.nan, np.float32)
    output[3] = [0, 0, 1e9, 1e9, 1, 1, 0]  # as large as can be said
    boxes, scores = persons(output, grid(SIDE, SIDE), 0.3)
    assert np.isfinite(boxes).all()
    assert scores.tolist() == [1]


def test_open_sizes_are_yolox_s_own(tmp_path: Path) -> None:
    cells = len(grid(SIZE, SIZE))
    detect = load_yolox(stand_in(tmp_path / "open.onnx", outputs=cells, side="side"), min_score=0.3)
    assert len(detect(torch.zeros(3, SIZE, SIZE, dtype=torch.uint8))[0]) > 0


@pytest.mark.parametrize(
    ("options", "why"),
    [({"outputs": 99}, r"its output is \[1, 99, 7\], not \[1, 84"), ({"channels": 1}, "its inputs are")],
)
def test_another_network_is_one_line(options: dict[str, int], why: str, tmp_path: Path) -> None:
    path = stand_in(tmp_path / "other.onnx", **options)
    with pytest.raises(ReseenError, match=why):
        load_yolox(path, min_score=0.3)(torch.zeros(3, 8, 8, dtype=torch.uint8))
    path.write_bytes(b"no model")
    with pytest.raises(ReseenError, match="is not an ONNX model"):
        load_yolox(path, min_score=0.3)


def test_without_the_extra_one_line_says_which(yolox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ReseenError, match=r"pip install 'reseen\[export\]'"):
        load_yolox(yolox, min_score=0.3)


def test_a_crop_model_searches_films_with_it(trained: tuple[Path, str], yolox: Path, tmp_path: Path) -> None:
    film(
        tmp_path / "film.mp4", np.random.default_rng(0).integers(0, 255, (20, SIDE, SIDE, 3), dtype=np.uint8)
    )
    words = ("embed", trained[0], tmp_path / "film.mp4", "--out", tmp_path / "features")
    code, _, err = call(*words)
    assert (code, "film.mp4 is a video, and this model embeds crops of persons: give --detector" in err) == (
        2,
        True,
    )
    said = done(*words, "--detector", yolox)
    assert said.endswith(f"8 persons in 1 videos, 0 problems -> {tmp_path / 'features'}\n")
    (rows,) = read_features(tmp_path / "features")
    assert rows.boxes[:2].round().tolist() == [[4, 0, 20, 22], BOXES[1]]
    np.testing.assert_allclose(rows.scores[:2], SCORES, atol=1e-6)
