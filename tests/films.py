"""Films for tests: frames to files of videos, and films that are damaged in one way each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # [H, W, 3], even sides


def film(path: Path, frames: Iterable[Picture], *, rate: int = 10, keyframe_every: int = 5) -> Path:
    """H.264 in whatever container the name asks for."""
    with av.open(str(path), "w") as container:
        stream = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=rate)
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = {"g": str(keyframe_every), "bf": "0", "preset": "ultrafast", "crf": "18"}
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())
    return path


def counting(count: int, size: tuple[int, int] = (64, 48)) -> list[Picture]:
    """Frames of ``size`` (width, height) whose grey level says which they are (:func:`number_of`)."""
    return [np.full((size[1], size[0], 3), 20 + 5 * number, dtype=np.uint8) for number in range(count)]


def number_of(image: object) -> int:
    """Which frame of :func:`counting` an image is."""
    return round((float(np.asarray(image).mean()) - 20) / 5)


def cut(path: Path, share: float) -> Path:
    """A copy of a file that ends early."""
    short = path.with_stem(f"{path.stem}-cut")
    short.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return short


def turned(path: Path) -> Path:
    """A copy of an .mp4 that says it was filmed with the camera on its side: shown, its top left is top right."""
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd")
    matrix = header + 4 + 40  # version and flags, times, track, duration, layer, volume: then nine numbers
    for place, value in enumerate((0, 1 << 16, 0, -(1 << 16) % (1 << 32), 0, 0, 0, 0, 1 << 30)):
        data[matrix + 4 * place : matrix + 4 * place + 4] = value.to_bytes(4, "big")
    copy = path.with_stem(f"{path.stem}-turned")
    copy.write_bytes(data)
    return copy
