"""From a file to pixels: 8-bit RGB, or one clear line about what is wrong with the file.

Ordinary JPEG files are decoded by TorchCodec, which is twice as fast as Pillow and gives the same pixels; its
image decoders come with their libraries and need no FFmpeg. Everything else goes through Pillow: it converts
CMYK, palette, 16-bit and transparent images, and takes the first frame of animated ones. Where TorchCodec does
not load (another build of torch than the one it was made for), Pillow reads JPEG files too.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from reseen.data.paths import shown
from reseen.errors import ReseenError
from reseen.records import Crop, Labels, Scene, boxes_of

try:
    from torchcodec.decoders import decode_jpeg
except (ImportError, OSError, RuntimeError):  # missing, or a library of it finds no partner in this torch
    decode_jpeg = None

MAX_PIXELS = 100_000_000  # declared size beyond which nothing is decoded: 300 MB of pixels
MAX_BYTES = 4 * MAX_PIXELS  # of a file; what is larger cannot hold an image of that size in 8-bit RGB
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")  # nothing that runs a program
_FLOAT_MODES = ("I", "F")  # 32-bit samples: no agreed range to map to 8 bits


class _BadImageError(Exception):
    """Why an image cannot be used, to be said after its name."""


def read_image(path: str | Path) -> Tensor:
    """Decode an image file to uint8 ``[3, H, W]`` RGB, turned upright by its EXIF orientation.

    Grey, palette and CMYK images become RGB, 16-bit samples keep their high byte, transparency is dropped,
    and of an animation the first frame is taken.

    Raises:
        ReseenError: missing, empty, truncated, not an image, 32-bit, or larger than :data:`MAX_PIXELS`;
            the message names the file and the reason.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise _BadImageError("is not a file")
        with open(path, "rb") as file:
            return _decode(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise ReseenError(f"{shown(path)} cannot be read: {error.strerror or error}") from error
    except _BadImageError as error:
        raise ReseenError(f"{shown(path)} {error}: replace or remove it") from error


def decode_image(data: bytes, name: str = "the image") -> Tensor:
    """The same for bytes in memory, for example an upload; ``name`` begins the message of an error."""
    try:
        return _decode(data)
    except _BadImageError as error:
        raise ReseenError(f"{shown(name)} {error}") from error


def pillow_pixels(image: Image.Image) -> Tensor:
    """The same for an image that Pillow has opened or made.

    Raises:
        ReseenError: it cannot be decoded, has 32-bit samples, or is larger than :data:`MAX_PIXELS`.
    """
    name = shown(getattr(image, "filename", "") or "the image")
    try:
        return torch.from_numpy(_rgb(image)).permute(2, 0, 1)
    except _BadImageError as error:
        raise ReseenError(f"{name} {error}") from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged data
        raise ReseenError(f"{name} cannot be decoded ({error}): replace it") from error


def image_pixels(image: Any) -> Tensor:
    """uint8 ``[3, H, W]`` of a path, a PIL image (upright, RGB) or an array uint8 ``[H, W, 3]`` or ``[H, W]``.

    Raises:
        ReseenError: it is none of these, or cannot be read.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return pillow_pixels(image)
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ReseenError(
            f"an image is a path, a PIL image, or an array uint8 [H, W, 3]; not {array.dtype} {list(array.shape)}"
        )
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)


def scan_images(
    crops: Sequence[Crop],
    *,
    max_bad_share: float,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[tuple[Crop, ...], Labels, tuple[str, ...]]:
    """Decode every image once and leave out those that cannot be used.

    Args:
        max_bad_share: how many of the M images may be bad, as a share; 1 lists all problems and never raises.
        progress: called with (done, total) now and then.

    Returns:
        The good crops, their rows ``[M']`` in ``crops`` (int64), and one line per bad image.

    Raises:
        ReseenError: no crops at all, or more than ``max_bad_share`` of them are bad.
    """
    if not crops:
        raise ReseenError("there is no image to check: the training part of the data is empty")
    sizes, problems = measure_images(crops, progress=progress)
    if len(problems) > max_bad_share * len(crops):
        raise ReseenError(
            f"{len(problems)} of {len(crops)} images are unusable, more than "
            f"data.max_bad_share={max_bad_share:g} allows: replace or remove them, or raise it; "
            f"first: {problems[0]}"
        )
    kept = np.flatnonzero(sizes[:, 0])
    return tuple(crops[row] for row in kept.tolist()), kept, problems


def measure_images(
    images: Sequence[Crop] | Sequence[Scene], *, progress: Callable[[int, int], None] | None = None
) -> tuple[Labels, tuple[str, ...]]:
    """Decode every image once: heights and widths int64 ``[M, 2]``, 0 where it cannot be read, and why not."""
    sizes = np.zeros((len(images), 2), dtype=np.int64)
    problems: list[str] = []
    with ThreadPoolExecutor(max_workers=min(16, usable_cpus() + 1)) as pool:
        for row, found in enumerate(pool.map(_size, images)):
            if isinstance(found, str):
                problems.append(found)
            else:
                sizes[row] = found
            if progress is not None and (row % 64 == 63 or row + 1 == len(images)):
                progress(row + 1, len(images))
    return sizes, tuple(problems)


def fingerprint(images: Sequence[Crop] | Sequence[Scene], root: Path) -> str:
    """Hex digest over the images in their order: names relative to ``root``, sizes, cameras, boxes; no identities.

    Raises:
        ReseenError: a file is missing.
    """
    digest = hashlib.sha256()
    for image in images:
        try:
            size = os.stat(image.path).st_size
        except OSError as error:
            raise ReseenError(f"{shown(image.path)} cannot be read: {error.strerror}") from error
        name = image.path.relative_to(root) if image.path.is_relative_to(root) else image.path
        digest.update(f"{name.as_posix()}\0{size}\0{image.camera}\n".encode("utf-8", "surrogateescape"))
        digest.update(boxes_of(image).astype("<f4").tobytes())
    return digest.hexdigest()


def usable_cpus() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _size(image: Crop | Scene) -> tuple[int, int] | str:
    try:
        _, height, width = read_image(image.path).shape
    except ReseenError as error:
        return str(error)
    return height, width


def _decode(data: bytes) -> Tensor:
    if not data:
        raise _BadImageError("is empty (0 bytes)")
    if len(data) > MAX_BYTES:
        raise _BadImageError(f"is larger than {MAX_BYTES:,} bytes")
    header = _jpeg_header(data)
    if header is None:
        return _decode_with_pillow(data)
    width, height, ordinary = header
    _check_size(width, height)
    if not ordinary or decode_jpeg is None:
        return _decode_with_pillow(data)
    try:
        pixels: Tensor = decode_jpeg(data, mode="RGB")  # upright by its EXIF orientation
        return pixels
    except RuntimeError as error:
        raise _BadImageError("is truncated or damaged") from error


def _decode_with_pillow(data: bytes) -> Tensor:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd metadata; sizes are checked here
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                pixels = _rgb(image)
    except _BadImageError:
        raise
    except UnidentifiedImageError as error:
        raise _BadImageError("is not an image of a kind that can be read (JPEG, PNG, WebP, ...)") from error
    except Image.DecompressionBombError as error:
        raise _BadImageError(f"is larger than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged data
        raise _BadImageError("is truncated or damaged") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)  # channels last in memory, as TorchCodec's


@cache
def _formats() -> tuple[str, ...]:
    """Of :data:`FORMATS`, those this Pillow knows (AVIF since 11.3); it raises KeyError on others."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """uint8 ``[H, W, 3]``, upright; Pillow decodes here."""
    _check_size(*image.size)
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if image.mode in _FLOAT_MODES and not deep:
        raise _BadImageError("has 32-bit samples; save it with 8 bits")
    upright = ImageOps.exif_transpose(image)
    if deep:
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    return np.array(upright.convert("RGB"))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _BadImageError(f"declares {width} x {height} pixels, more than {MAX_PIXELS:,}")
    if width * height == 0:
        raise _BadImageError("declares no pixels")


def _jpeg_header(data: bytes) -> tuple[int, int, bool] | None:
    """Width, height and whether TorchCodec decodes it well (8 bit, grey or three colours); None: no JPEG."""
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    place = 2
    while place + 9 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            precision, parts = data[place + 4], data[place + 9]
            height = int.from_bytes(data[place + 5 : place + 7], "big")
            width = int.from_bytes(data[place + 7 : place + 9], "big")
            return width, height, precision == 8 and parts in (1, 3)
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # a marker without a segment
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    raise _BadImageError("is truncated or damaged")
