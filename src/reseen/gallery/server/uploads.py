"""Pictures that are sent: looked at before they are decoded, and kept nowhere."""

from __future__ import annotations

import io
import warnings
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
from fastapi import Request
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from reseen.data.boxes import Boxes, cut_to_image
from reseen.data.images import decode_image
from reseen.errors import ReseenError
from reseen.gallery.server.problems import ProblemError
from reseen.pixels import known_formats

TOGETHER = 4  # uploads that are held at a time; others wait


@dataclass(frozen=True)
class Limits:
    """Of an upload: bytes as sent, pixels as declared, and persons (boxes that are given, or persons found)."""

    bytes: int = 20_000_000
    pixels: int = 40_000_000
    persons: int = 100


async def upload(request: Request) -> AsyncIterator[bytes]:
    """The body of a request; few are in memory at a time, from the first byte to the answer."""
    async with request.app.state.uploads:
        yield await request.body()


def picture_of(data: bytes, limits: Limits) -> Tensor:
    """The picture as uint8 ``[3, H, W]``, upright as its EXIF orientation says.

    Raises:
        ProblemError: no picture, too many pixels (said by its header, before anything is decoded), or a damaged one.
    """
    width, height = declared_size(io.BytesIO(data))
    if width * height > limits.pixels:
        raise ProblemError(413, f"a picture has at most {limits.pixels:,} pixels, not {width} x {height}")
    try:
        return decode_image(data, "the picture")
    except ReseenError as error:
        raise ProblemError(422, str(error)) from error


def declared_size(file: IO[bytes]) -> tuple[int, int]:
    """Width and height as the header of a picture says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd metadata
            with Image.open(file, formats=known_formats()) as image:
                return image.size
    except Image.DecompressionBombError as error:
        raise ProblemError(413, "the picture declares far too many pixels: make it smaller") from error
    except UnidentifiedImageError as error:
        raise ProblemError(415, "send a picture: JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF") from error
    except Exception as error:  # Pillow's parsers raise almost anything on damaged headers
        raise ProblemError(422, "the picture is truncated or damaged") from error


def boxes_of(texts: Sequence[str], picture: Tensor) -> Boxes | None:
    """Boxes ``[n, 4]`` written as ``x1,y1,x2,y2`` each, cut at the borders of the picture; None: none are given.

    Raises:
        ProblemError: a box that shows nobody.
    """
    if not texts:
        return None
    height, width = picture.shape[1:]
    boxes = np.array([[float(number) for number in text.split(",")] for text in texts], dtype=np.float32)
    inside, kept = cut_to_image(boxes, height, width)
    if len(kept) < len(boxes):
        raise ProblemError(
            422,
            f"a box shows nobody: in a picture of {width} x {height} pixels give x1,y1,x2,y2 with x1 < x2 and y1 < y2",
        )
    return inside
