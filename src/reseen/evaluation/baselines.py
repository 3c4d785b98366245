"""What a model must beat to have learnt anything: features that nobody trained.

A weak straw man misleads. On well aligned boxes a normalised thumbnail was seen to rank as well as a trained
network, while the colour histogram, which camera casts upset, stayed far behind: print all of them.

Each function takes crops and returns float32 ``[M, D]`` with L2-normalised rows, so that the inner product
ranks. Each raises ReseenError for an image that cannot be read.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from reseen.data.images import read_image
from reseen.records import Crop

Features = NDArray[np.float32]

BANDS = 8  # horizontal bands of a person, head to feet
HEIGHT, WIDTH = 128, 64  # pixels that histograms look at, so that all bands are of one size
BINS = (8, 4, 4)  # hue, saturation, value
CHANCE_DIM = 64


def chance(crops: Sequence[Crop], *, seed: int = 0) -> Features:
    """Random unit features: what a blind guess scores. A function of file name and ``seed``."""
    if not crops:
        return np.zeros((0, CHANCE_DIM), dtype=np.float32)
    streams = (np.random.default_rng([seed, zlib.crc32(crop.path.name.encode())]) for crop in crops)
    return _unit([rng.standard_normal(CHANCE_DIM) for rng in streams])


def colour_histogram(crops: Sequence[Crop]) -> Features:
    """Global HSV histogram; the inner product is the Bhattacharyya coefficient."""
    return _each(crops, lambda image: np.sqrt(_hsv_histogram(_hsv(image))))


def striped_histogram(crops: Sequence[Crop]) -> Features:
    """An HSV histogram per horizontal band, so that shirt and trousers are told apart."""

    def stripes(image: Tensor) -> NDArray[Any]:
        histograms = [_hsv_histogram(band) for band in np.split(_hsv(image), BANDS)]
        roots: NDArray[Any] = np.sqrt(np.concatenate(histograms))
        return roots

    return _each(crops, stripes)


def thumbnail(crops: Sequence[Crop]) -> Features:
    """Area-resized 32 x 16 RGB, zero mean and unit variance per image: the inner product correlates."""
    return _each(crops, lambda image: _standardised(_area(image, 32, 16)))


def row_means(crops: Sequence[Crop]) -> Features:
    """Mean colour of 8 horizontal bands, zero mean and unit variance per image."""
    return _each(crops, lambda image: _standardised(_area(image, BANDS, 1)))


BASELINES: dict[str, Callable[[Sequence[Crop]], Features]] = {
    "chance": chance,
    "colour_histogram": colour_histogram,
    "striped_histogram": striped_histogram,
    "thumbnail": thumbnail,
    "row_means": row_means,
}


def _each(crops: Sequence[Crop], describe: Callable[[Tensor], NDArray[Any]]) -> Features:
    if not crops:
        return np.zeros((0, 1), dtype=np.float32)
    return _unit([describe(read_image(crop.path)) for crop in crops])


def _unit(rows: list[NDArray[Any]]) -> Features:
    """Stack and L2-normalise; a row of zeros (an image of one colour, standardised) stays zero."""
    features = np.stack(rows).astype(np.float64)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.where(lengths > 1e-9, lengths, 1.0)).astype(np.float32)


def _area(image: Tensor, height: int, width: int) -> NDArray[np.float32]:
    """Mean colours in 0..255 ``[height, width, 3]`` of the cells of a grid over an image of any size."""
    cells: NDArray[np.float32] = (
        F.adaptive_avg_pool2d(image.float(), (height, width)).permute(1, 2, 0).numpy()
    )
    return cells


def _standardised(values: NDArray[Any]) -> NDArray[Any]:
    flat = values.reshape(-1).astype(np.float64)
    centred = flat - flat.mean()
    spread = centred.std()
    return centred / spread if spread > 1e-3 else np.zeros_like(centred)


def _hsv(image: Tensor) -> NDArray[np.uint8]:
    """8-bit hue, saturation, value ``[HEIGHT, WIDTH, 3]``."""
    pixels = np.rint(_area(image, HEIGHT, WIDTH)).astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).convert("HSV"))


def _hsv_histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Shares of pixels in the bins of colour space, one vector of 128."""
    hue, saturation, value = (
        channel.astype(np.int64) * bins // 256
        for channel, bins in zip(np.moveaxis(pixels, -1, 0), BINS, strict=True)
    )
    cells = (hue * BINS[1] + saturation) * BINS[2] + value
    counts = np.bincount(cells.reshape(-1), minlength=int(np.prod(BINS)))
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares
