"""From a file to pixels: 8-bit RGB, or one clear line about what is wrong with the file.

Ordinary JPEG files are decoded by TorchCodec, which is twice as fast as Pillow and gives the same pixels; its
image decoders come with their libraries and need no FFmpeg. Everything else goes through Pillow: it converts
CMYK, palette, 16-bit and transparent images, and takes the first frame of animated ones. Where TorchCodec does
not load (another build of torch than the one it was made for), Pillow reads JPEG files too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reseen.data.paths import relative
from reseen.errors import ReseenError
from reseen.pixels import BadImageError, check_bytes, check_size, decoded, opened_pixels, read_with, shown
from reseen.records import Crop, Labels, Scene, boxes_of

try:
    from torchcodec.decoders import decode_jpeg
except (ImportError, OSError, RuntimeError):  # missing, or a library of it finds no partner in this torch
    decode_jpeg = None


def read_image(path: str | Path) -> Tensor:
    """Decode an image file to uint8 ``[3, H, W]`` RGB, turned upright by its EXIF orientation.

    Grey, palette and CMYK images become RGB, 16-bit samples keep their high byte, transparency is dropped,
    and of an animation the first frame is taken.

    Raises:
        ReseenError: missing, empty, truncated, not an image, 32-bit, or larger than :data:`MAX_PIXELS`;
            the message names the file and the reason.
    """
    return read_with(_decode, path)


def decode_image(data: bytes, name: str = "the image") -> Tensor:
    """The same for bytes in memory, for example an upload; ``name`` begins the message of an error."""
    try:
        return _decode(data)
    except BadImageError as error:
        raise ReseenError(f"{shown(name)} {error}") from error


def image_pixels(image: Any) -> Tensor:
    """uint8 ``[3, H, W]`` of a path, a PIL image (upright, RGB) or an array uint8 ``[H, W, 3]`` or ``[H, W]``.

    Raises:
        ReseenError: it is none of these, or cannot be read.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    return torch.from_numpy(opened_pixels(image)).permute(2, 0, 1)


def scan_images(
    crops: Sequence[Crop], *, max_bad_share: float, progress: Callable[[int, int], None] | None = None
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
        name = relative(image.path, root).as_posix()
        digest.update(f"{name}\0{size}\0{image.camera}\n".encode("utf-8", "surrogateescape"))
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
    check_bytes(data)
    header = _jpeg_header(data)
    if header is None:
        return _decode_with_pillow(data)
    width, height, ordinary = header
    check_size(width, height)
    if not ordinary or decode_jpeg is None:
        return _decode_with_pillow(data)
    try:
        pixels: Tensor = decode_jpeg(data, mode="RGB")  # upright by its EXIF orientation
        return pixels
    except RuntimeError as error:
        raise BadImageError("is truncated or damaged") from error


def _decode_with_pillow(data: bytes) -> Tensor:
    return torch.from_numpy(decoded(data)).permute(2, 0, 1)  # channels last in memory, as TorchCodec's


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
    raise BadImageError("is truncated or damaged")
