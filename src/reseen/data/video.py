"""Frames of a video, sampled by time. PyAV brings its own FFmpeg (the extra ``[video]``)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reseen.data.paths import shown
from reseen.errors import ReseenError
from reseen.pixels import MAX_PIXELS

if TYPE_CHECKING:
    import av

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".flv", ".3gp", ".mpg", ".mpeg", ".ts", ".mts"}
    | {".m2ts", ".h264", ".264", ".h265", ".265", ".hevc", ".ogv"}
)
MISSING = 0.5  # seconds without a frame, in the middle or before the declared end, of which nothing is said
_LOCAL = {"protocol_whitelist": "file"}  # a playlist that calls itself a video fetches nothing


@dataclass(frozen=True)
class Sampling:
    """Which frames are looked at: the first of every ``every`` seconds, or with ``keyframes`` those of them that a
    decoder reads without their neighbours, which is far quicker."""

    every: float = 0.5
    keyframes: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.every < math.inf:
            raise ReseenError(f"frames cannot be {self.every:g} seconds apart: give --every a time above 0")


@dataclass(frozen=True)
class Frame:
    """A frame: its ``number`` from 0, ``seconds`` after the first one, ``image`` uint8 ``[3, H, W]``, upright.

    With ``Sampling.keyframes`` the number follows from the time and the mean rate, else frames are counted.
    """

    number: int
    seconds: float
    image: Tensor


def is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def require_video() -> Any:
    """PyAV. Raises ReseenError where the extra is not installed."""
    try:
        import av
    except ImportError as error:
        raise ReseenError(
            "videos need a package that is not installed: pip install 'reseen[video]'"
        ) from error
    return av


def read_video(
    path: Path, sampling: Sampling, *, after: int = -1, report: Callable[[str], None]
) -> Iterator[Frame]:
    """The sampled frames of ``path`` with a number above ``after``, in order.

    ``report`` is given a line about each thing that is wrong with it but not fatal: damaged packets, an end before the
    declared one, frames without times. Frames may differ in size.

    Raises:
        ReseenError: missing, no video, too large, encrypted or cut so that nothing can be read of it.
    """
    with _opened(path) as (container, stream):
        yield from _sampled(path, container, stream, sampling, after, report)


def read_frame(path: Path, seconds: float) -> NDArray[np.uint8]:
    """The frame ``[H, W, 3]``, upright, that is ``seconds`` after the first one, as :class:`Frame` counts them.

    Raises:
        ReseenError: as :func:`read_video`; none of that length, or one without times.
    """
    with _opened(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None or first.pts is None or stream.time_base is None:
            raise ReseenError(f"{shown(path)} has no times: its frames cannot be found again")
        wanted = first.time + seconds
        container.seek(math.floor(wanted / stream.time_base), stream=stream)  # to the keyframe before it
        for frame in container.decode(stream):
            if frame.time is not None and frame.time >= wanted - 1e-3:
                return _upright(frame).permute(1, 2, 0).numpy()
    raise ReseenError(f"{shown(path)} ends before {seconds:.1f} s: it is not the video that was indexed")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream, of a kind and size that can be decoded; FFmpeg's errors in one line."""
    av = require_video()
    try:
        with open(path, "rb") as file, av.open(file, options=_LOCAL, metadata_errors="replace") as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise ReseenError(f"{shown(path)} has no video stream: remove it, or give another file")
            codec: Any = stream.codec_context  # its types know no codec that FFmpeg lacks
            if codec is None:
                raise ReseenError(f"{shown(path)} is of a kind that PyAV cannot decode: convert it")
            width, height = codec.width, codec.height
            if width * height > MAX_PIXELS:
                raise ReseenError(
                    f"{shown(path)} declares {width} x {height} pixels, more than {MAX_PIXELS:,}"
                )
            codec.options = {"max_pixels": str(MAX_PIXELS)}  # frames may become larger than what was declared
            yield container, stream
    except av.FFmpegError as error:
        raise ReseenError(
            f"{shown(path)} cannot be read as a video ({error.strerror}): replace or remove it"
        ) from error
    except OSError as error:
        raise ReseenError(f"{shown(path)} cannot be read: {error.strerror or error}") from error


def _sampled(
    path: Path,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    sampling: Sampling,
    after: int,
    report: Callable[[str], None],
) -> Iterator[Frame]:
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    declared = _declared(container, stream)
    stream.thread_type = "AUTO"
    if sampling.keyframes:
        stream.codec_context.skip_frame = "NONKEY"
    damaged: list[str] = []
    gaps: list[tuple[float, float]] = []
    untimed, number, slot, start, now = False, -1, -1, None, -1 / rate
    for frame in _decoded(container, stream, damaged):
        number += 1
        if frame.pts is None:
            untimed, now = True, now + 1 / rate
        else:
            start = frame.time if start is None else start
            before, now = now, frame.time - start
            if now - before > MISSING + 2 / rate:
                gaps.append((before, now))
        if sampling.keyframes:
            if frame.pts is None:
                raise ReseenError(
                    f"{shown(path)} has no times, so that keyframes have none: leave --keyframes out"
                )
            number = round(now * rate)
        last, slot = slot, math.floor(now / sampling.every + 1e-6)
        if slot != last and frame.is_corrupt:
            slot = last  # the next one stands in for it
        elif slot != last and number > after:
            yield Frame(number, now, _upright(frame))
    if number < 0:
        raise ReseenError(f"{shown(path)} holds no frame that can be decoded: replace or remove it")
    if damaged:
        report(f"{shown(path)}: {len(damaged)} damaged packets were left out ({damaged[0]})")
    if gaps and not sampling.keyframes:
        spans = ", ".join(f"{begin:.1f} to {end:.1f}" for begin, end in gaps[:3])
        report(
            f"{shown(path)}: {len(gaps)} gaps without a frame (seconds {spans}): damaged, or filmed with breaks"
        )
    if untimed:
        report(f"{shown(path)}: has no times; frames are counted at {rate:g} a second")
    # the last keyframe says nothing about the end
    if declared is not None and not sampling.keyframes and declared - (now + 1 / rate) > MISSING:
        report(f"{shown(path)}: ends after {now + 1 / rate:.1f} of {declared:.1f} seconds: cut or damaged")


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream, damaged: list[str]
) -> Iterator[av.VideoFrame]:
    """Every frame; what cannot be decoded is passed over and said in ``damaged``."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:  # the container ends in the middle of something
            damaged.append(str(error.strerror))
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            damaged.append(str(error.strerror))
            continue
        yield from frames


def _declared(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """Seconds that the file says the video lasts; Matroska says it for each stream in a tag, if at all."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None if container.duration is None else container.duration / 1e6


def _upright(frame: av.VideoFrame) -> Tensor:
    """uint8 ``[3, H, W]``, turned as the file says: a telephone films across and notes how it was held."""
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90) % 4)
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
