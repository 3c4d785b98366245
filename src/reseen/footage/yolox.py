"""A person detector of yours as an ONNX file: YOLOX (Ge et al. 2021), as its own exporter writes it.

What its README states: pixels BGR 0 to 255, resized to fit with the ratio kept, at the top left of a canvas of level
114; outputs ``[1, cells, 5 + classes]`` over three grids of strides 8, 16 and 32, row by row: offset of the centre in
cells, logarithm of the size in cells, objectness, classes. Class 0 of COCO is a person.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import nms

from reseen.data.boxes import cut_to_image
from reseen.data.paths import shown
from reseen.errors import ReseenError

Detect = Callable[[Tensor], tuple[NDArray[np.float32], NDArray[np.float32]]]

STRIDES = (8, 16, 32)
GREY = 114.0
SIZE = 640  # pixels, where the file leaves height and width open
MAX_IOU = 0.45  # of two boxes that are both kept: YOLOX's own
_LARGEST = 20.0  # of a logarithm: e^20 cells hold any image


def load_yolox(path: Path, *, min_score: float) -> Detect:
    """A function from an image uint8 ``[3, H, W]`` (RGB) to boxes ``[n, 4]`` (xyxy, its pixels) and scores ``[n]``.

    Surest first, scores (objectness times class) of at least ``min_score``.

    Raises:
        ReseenError: no onnxruntime, no such file, or no graph with YOLOX's inputs and outputs.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ReseenError(
            "--detector needs a package that is not installed: pip install 'reseen[export]'"
        ) from error
    if not path.is_file():
        raise ReseenError(f"there is no file {shown(path)}: --detector takes a YOLOX model as .onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's own classes, which have no public base
        raise ReseenError(
            f"{shown(path)} is not an ONNX model that can be run: give YOLOX as .onnx"
        ) from error
    inputs = session.get_inputs()
    shape = inputs[0].shape if len(inputs) == 1 else []
    if len(shape) != 4 or shape[1] != 3 or len(session.get_outputs()) != 1:
        raise _foreign(path, f"its inputs are {[one.shape for one in inputs]}")
    height, width = (side if isinstance(side, int) else SIZE for side in shape[2:])
    cells = grid(height, width)

    def detect(image: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        canvas, scale = letterbox(image, height, width)
        try:
            (output,) = session.run(None, {inputs[0].name: canvas})
        except Exception as error:
            raise _foreign(path, "it does not take images of that size") from error
        if output.ndim != 3 or output.shape[:2] != (1, len(cells)) or output.shape[2] < 6:
            raise _foreign(path, f"its output is {list(output.shape)}, not [1, {len(cells)}, 5 + classes]")
        boxes, scores = persons(output[0].astype(np.float32), cells, min_score)
        inside, kept = cut_to_image(boxes / scale, *image.shape[1:])
        return inside, scores[kept]

    return detect


def letterbox(image: Tensor, height: int, width: int) -> tuple[NDArray[np.float32], float]:
    """A canvas float32 ``[1, 3, height, width]`` with the image at its top left, BGR, and the scale of the image."""
    scale = min(height / image.shape[1], width / image.shape[2])
    size = [max(1, int(side * scale)) for side in image.shape[1:]]
    fitted = F.interpolate(image[None].flip(1).float(), size, mode="bilinear", align_corners=False)
    canvas = np.full((1, 3, height, width), GREY, dtype=np.float32)
    canvas[:, :, : size[0], : size[1]] = fitted.numpy()
    return canvas, scale


def grid(height: int, width: int) -> NDArray[np.float32]:
    """Column, row and stride of every cell ``[cells, 3]``, grid by grid, row by row."""
    grids = []
    for stride in STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        grids.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], axis=1))
    return np.concatenate(grids).astype(np.float32)


def persons(
    output: NDArray[np.float32], cells: NDArray[np.float32], min_score: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes ``[n, 4]`` (xyxy, pixels of the canvas) and scores ``[n]``, surest first, of outputs ``[cells, 5 + C]``."""
    scores = output[:, 4] * output[:, 5]
    sure = scores >= min_score  # not where it is NaN
    output, cells, scores = output[sure], cells[sure], scores[sure]
    stride = cells[:, 2:]
    centres = (output[:, :2] + cells[:, :2]) * stride
    sizes = np.exp(np.minimum(output[:, 2:4], _LARGEST)) * stride
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), MAX_IOU).numpy()
    return boxes[kept], scores[kept]


def _foreign(path: Path, what: str) -> ReseenError:
    return ReseenError(
        f"{shown(path)} is not YOLOX's, or exported with its decoding: {what}; export it without"
    )
