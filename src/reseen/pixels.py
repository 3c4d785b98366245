"""Images and boxes in them without torch: a file to 8-bit RGB by Pillow, or one line about what is wrong with it."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from reseen.errors import ReseenError

Pixels = NDArray[np.uint8]  # [H, W, 3] RGB
Boxes = NDArray[np.float32]  # [n, 4], xyxy, pixels
T = TypeVar("T")

MAX_PIXELS = 100_000_000  # declared size beyond which nothing is decoded: 300 MB of pixels
MAX_BYTES = 4 * MAX_PIXELS  # of a file; what is larger cannot hold an image of that size in 8-bit RGB
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")  # nothing that runs a program
LARGE = 20_000_000  # pixels from which images are decoded one after the other, not by all threads at once
_LARGE = threading.Lock()
_ROWS = 2048
_ORIENTATION = 0x0112
_FLOAT_MODES = ("I", "F")  # 32-bit samples: no agreed range to map to 8 bits


class BadImageError(Exception):
    """Why an image cannot be used, to be said after its name."""


def shown(path: str | Path) -> str:
    """``path`` on one printable line, whatever bytes the file system holds."""
    text = str(path).encode("utf-8", "replace").decode("utf-8")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def read_with(decode: Callable[[bytes], T], path: str | Path) -> T:
    """What ``decode`` makes of a file's bytes.

    Raises:
        ReseenError: the file cannot be read, or ``decode`` raised :class:`BadImageError`; the message names both.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise BadImageError("is not a file")
        with open(path, "rb") as file:
            return decode(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise ReseenError(f"{shown(path)} cannot be read: {error.strerror or error}") from error
    except BadImageError as error:
        raise ReseenError(f"{shown(path)} {error}: replace or remove it") from error


def pixels_of(image: Any) -> Pixels:
    """uint8 ``[H, W, 3]`` of a path, a PIL image (upright, RGB) or an array uint8 ``[H, W, 3]`` or ``[H, W]``.

    Raises:
        ReseenError: it is none of these, or cannot be read.
    """
    return read_with(decoded, image) if isinstance(image, str | Path) else opened_pixels(image)


def opened_pixels(image: Any) -> Pixels:
    """The same of what is no path: an image that Pillow has opened or made, or an array."""
    if isinstance(image, Image.Image):
        name = shown(getattr(image, "filename", "") or "the image")
        try:
            return _rgb(image)
        except BadImageError as error:
            raise ReseenError(f"{name} {error}") from error
        except Exception as error:  # Pillow's decoders raise almost anything on damaged data
            raise ReseenError(f"{name} cannot be decoded ({error}): replace it") from error
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ReseenError(
            f"an image is a path, a PIL image, or an array uint8 [H, W, 3]; not {array.dtype} {list(array.shape)}"
        )
    return np.ascontiguousarray(array)


def decoded(data: bytes) -> Pixels:
    """A file's bytes by Pillow: uint8 ``[H, W, 3]``, turned upright by its EXIF orientation.

    Grey, palette and CMYK images become RGB, 16-bit samples keep their high byte, transparency is dropped,
    and of an animation the first frame is taken.

    Raises:
        BadImageError: empty, truncated, not an image, 32-bit, or larger than :data:`MAX_PIXELS`.
    """
    check_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd metadata; sizes are checked here
            with Image.open(io.BytesIO(data), formats=known_formats()) as image:
                return _rgb(image)
    except BadImageError:
        raise
    except UnidentifiedImageError as error:
        raise BadImageError("is not an image of a kind that can be read (JPEG, PNG, WebP, ...)") from error
    except Image.DecompressionBombError as error:
        raise BadImageError(f"is larger than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged data
        raise BadImageError("is truncated or damaged") from error


def check_bytes(data: bytes) -> None:
    if not data:
        raise BadImageError("is empty (0 bytes)")
    if len(data) > MAX_BYTES:
        raise BadImageError(f"is larger than {MAX_BYTES:,} bytes")


def check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImageError(f"declares {width} x {height} pixels, more than {MAX_PIXELS:,}")
    if width * height == 0:
        raise BadImageError("declares no pixels")


@cache
def known_formats() -> tuple[str, ...]:
    """Of :data:`FORMATS`, those this Pillow knows (AVIF since 11.3); it raises KeyError on others."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _rgb(image: Image.Image) -> Pixels:
    """uint8 ``[H, W, 3]``, upright; Pillow decodes here."""
    check_size(*image.size)
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if image.mode in _FLOAT_MODES and not deep:
        raise BadImageError("has 32-bit samples; save it with 8 bits")
    with _LARGE if image.width * image.height > LARGE else nullcontext():
        if image.getexif().get(_ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        if deep:
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.height <= _ROWS:
            return np.array(image.convert("RGB"))
        pixels = np.empty((image.height, image.width, 3), np.uint8)
        for top in range(0, image.height, _ROWS):  # whole, a large one would be in memory four times
            rows = image.crop((0, top, image.width, min(top + _ROWS, image.height)))
            pixels[top : top + rows.height] = np.asarray(rows.convert("RGB"))
        return pixels


def scene_size(height: int, width: int, long: int, short: int) -> tuple[int, int]:
    """Height and width at which a network sees a scene: same ratio, the longer side at most ``long`` pixels and the
    shorter one at most ``short``, as large as that allows."""
    scale = min(long / max(height, width), short / min(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def has_area(boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which xyxy boxes ``[n, 4]`` are finite, not inverted and not empty."""
    finite: NDArray[np.bool_] = np.isfinite(boxes).all(axis=1)
    return finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def cut_to_image(boxes: Boxes, height: int, width: int) -> tuple[Boxes, NDArray[np.int64]]:
    """Boxes cut at the borders of their image ``[n', 4]`` and the rows ``[n']`` of those that are left of n."""
    limit = np.array([width, height, width, height], dtype=np.float32)
    inside = np.clip(boxes, 0, limit)  # NaN stays
    kept = np.flatnonzero(has_area(inside)).astype(np.int64)
    return inside[kept], kept


def boxes_inside(boxes: Any, height: int, width: int) -> Boxes:
    """Boxes float32 ``[n, 4]`` that somebody gives for an image of that size, cut at its borders.

    Raises:
        ReseenError: other rows than x1, y1, x2, y2, or one that lies outside, has no area or is not a number.
    """
    given = np.asarray(boxes, dtype=np.float32)
    if given.size and (given.ndim != 2 or given.shape[1] != 4):
        raise ReseenError(f"boxes must be rows of x1, y1, x2, y2, not of shape {given.shape}")
    inside, kept = cut_to_image(given.reshape(-1, 4), height, width)
    lost = sorted(set(range(len(given))) - set(kept.tolist()))
    if lost:
        raise ReseenError(
            f"box {lost[0]} is {given[lost[0]].tolist()}: in an image of {width} x {height} pixels it shows "
            "nobody; give x1, y1, x2, y2 with x1 < x2 and y1 < y2 that reach into the image"
        )
    return inside


def whole_pixels(boxes: Boxes, height: int, width: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the whole pixels that boxes ``[n, 4]`` in an image of that size touch, one at least each."""
    places = []
    for x1, y1, x2, y2 in boxes.tolist():
        left, top = (min(max(int(np.floor(v)), 0), side - 1) for v, side in ((x1, width), (y1, height)))
        right, bottom = (int(np.ceil(min(v, side))) for v, side in ((x2, width), (y2, height)))
        places.append((slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))))
    return places
