"""Rows: persons with their features, and where and when each of them was seen."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from reseen.errors import ReseenError
from reseen.evaluation.two_steps import cut_out
from reseen.records import Labels

STILL = -1  # frame and track of a person in an image that is no frame of a video
THUMBNAIL = (96, 192)  # width and height in pixels that a thumbnail has at most
_QUALITY = 80  # JPEG


@dataclass(frozen=True)
class Rows:
    """n persons, in the order in which they were found.

    - ``features`` float32 ``[n, D]``, rows of length 1.
    - ``sources``: file of each, relative to the root with ``/`` (or whole, where it lies elsewhere). What is not UTF-8
      in a name is there as surrogates, as :func:`os.fsdecode` has it.
    - ``frames`` int64 ``[n]``: number of the frame in its video; :data:`STILL` in an image.
    - ``seconds`` float64 ``[n]``: since the first frame of the video; nan in an image.
    - ``times`` float64 ``[n]``: by the clock, seconds since 1970 (UTC); nan: not known.
    - ``cameras`` int64 ``[n]``: :data:`reseen.records.UNKNOWN_CAMERA` where not known.
    - ``boxes`` float32 ``[n, 4]``: xyxy in pixels of the image or frame as it is seen, upright. A crop's is all of it.
    - ``scores`` float32 ``[n]``: of the detection; 1 where nothing had to be detected.
    - ``tracks`` int64 ``[n]``: one number for each walk through a video, from 0; :data:`STILL` in an image.
    - ``thumbnails``: the person as a JPEG file, at most :data:`THUMBNAIL` pixels.
    """

    features: NDArray[np.float32]
    sources: tuple[str, ...]
    frames: Labels
    seconds: NDArray[np.float64]
    times: NDArray[np.float64]
    cameras: Labels
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    tracks: Labels
    thumbnails: tuple[bytes, ...]

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in vars(self).items()}
        if len(set(lengths.values())) > 1 or self.boxes.shape[1:] != (4,) or self.features.ndim != 2:
            raise ReseenError(f"columns of rows must have one length and boxes four numbers, not {lengths}")

    def __len__(self) -> int:
        return len(self.sources)


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of one or more parts, one below the other. Features must have one length D."""
    columns: dict[str, Any] = {}
    for name in vars(parts[0]):
        column = [getattr(part, name) for part in parts]
        table = isinstance(column[0], np.ndarray)
        columns[name] = np.concatenate(column) if table else tuple(itertools.chain(*column))
    return Rows(**columns)


def thumbnail(image: Tensor, box: NDArray[np.float32]) -> bytes:
    """A JPEG file of what ``box`` ``[4]`` (xyxy) holds of an image uint8 ``[3, H, W]``."""
    (crop,) = cut_out(image, box[None])
    picture = Image.fromarray(np.ascontiguousarray(crop.permute(1, 2, 0).numpy()))
    picture.thumbnail(THUMBNAIL)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
