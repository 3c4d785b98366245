"""The persons of one job after the other, as rows: the way that both `reseen embed` and a gallery take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reseen.data.boxes import Boxes, cut_to_image
from reseen.data.images import read_image, usable_cpus
from reseen.data.paths import shown
from reseen.data.video import Frame, Sampling, read_video
from reseen.errors import ReseenError
from reseen.footage.finding import Finder
from reseen.footage.rows import STILL, Rows, thumbnail
from reseen.footage.sources import Source
from reseen.footage.tracks import Tracks, follow
from reseen.records import SceneDetections


@dataclass(frozen=True)
class Part:
    """What some images of a job, or some frames of its video, gave.

    ``images`` were looked at, readable or not; ``frame`` and ``seconds`` are those of the last frame (:data:`STILL` and
    0 for images). ``problems``: a line for each thing that is wrong with a source and did not stop the work.
    """

    rows: Rows
    images: int = 0
    frame: int = STILL
    seconds: float = 0.0
    problems: tuple[str, ...] = ()


def persons_in(
    job: Sequence[Source],
    finder: Finder,
    sampling: Sampling,
    *,
    before: Rows | None = None,
    frame: int = STILL,
) -> Iterator[Part]:
    """Find and embed the persons of a job of :class:`Footage`, some images or frames at a time.

    What cannot be read is a problem of its part and stops nothing. The parts of a job are the same every time. A video
    that was stopped goes on behind ``frame``, where ``before`` holds its rows up to there, with the same parts.

    Raises:
        ReseenError: the detector fits no image.
    """
    if job[0].video:
        yield from _in_video(job[0], finder, sampling, before, frame)
    else:
        yield from _in_images(job, finder)


def _in_images(job: Sequence[Source], finder: Finder) -> Iterator[Part]:
    for sources, loaded in _ahead(job, finder.batch):
        problems = [image for image in loaded if isinstance(image, str)]
        readable = [(s, image) for s, image in zip(sources, loaded, strict=True) if isinstance(image, Tensor)]
        images = [image for _, image in readable]
        boxes: list[Boxes | None] = []
        for source, image in readable:
            inside = None if source.boxes is None else cut_to_image(source.boxes, *image.shape[1:])[0]
            boxes.append(inside)
            if inside is not None and source.boxes is not None and len(inside) < len(source.boxes):
                lost = len(source.boxes) - len(inside)
                problems.append(f"{shown(source.name)}: {lost} boxes lie outside of it")
        found = finder.find(images, boxes)
        stills = [(source, STILL, np.nan) for source, _ in readable]
        yield Part(_rows(stills, images, found, finder.dim), len(sources), problems=tuple(problems))


def _in_video(
    source: Source, finder: Finder, sampling: Sampling, before: Rows | None, after: int
) -> Iterator[Part]:
    problems: list[str] = []
    tracks = Tracks.none(finder.dim) if before is None else Tracks.of(before)
    last = (after, 0.0)
    try:
        for frames in _batches(
            read_video(source.path, sampling, after=after, report=problems.append), finder.batch
        ):
            images = [frame.image for frame in frames]
            found = finder.find(images, [None] * len(images))
            rows = _rows([(source, f.number, f.seconds) for f in frames], images, found, finder.dim)
            numbers = []
            for frame, one in zip(frames, found, strict=True):
                walked, tracks = follow(tracks, one.boxes, one.features, frame.seconds)
                numbers.append(walked)
            last = frames[-1].number, frames[-1].seconds
            yield Part(replace(rows, tracks=np.concatenate(numbers)), 0, *last)
    except ReseenError as error:
        problems.append(str(error))
    yield Part(_rows([], [], [], finder.dim), 1, *last, tuple(problems))


def _rows(
    places: Sequence[tuple[Source, int, float]],
    images: Sequence[Tensor],
    found: Sequence[SceneDetections],
    dim: int,
) -> Rows:
    """``places``: source, frame and seconds of each image."""
    counts = [len(one.boxes) for one in found]
    each = [place for place, count in zip(places, counts, strict=True) for _ in range(count)]
    seconds = np.array([when for _, _, when in each], dtype=np.float64)
    offset = np.nan_to_num(seconds)  # an image begins and ends at its time
    return Rows(
        features=_below([one.features for one in found], dim),
        sources=tuple(source.name for source, _, _ in each),
        frames=np.array([frame for _, frame, _ in each], dtype=np.int64),
        seconds=seconds,
        times=np.array([source.start for source, _, _ in each], dtype=np.float64) + offset,
        cameras=np.array([source.camera for source, _, _ in each], dtype=np.int64),
        boxes=_below([one.boxes for one in found], 4),
        scores=np.concatenate([np.zeros(0, np.float32), *(one.scores for one in found)]).astype(np.float32),
        tracks=np.full(len(each), STILL, dtype=np.int64),
        thumbnails=tuple(
            thumbnail(image, box) for image, one in zip(images, found, strict=True) for box in one.boxes
        ),
    )


def _below(parts: Sequence[NDArray[np.float32]], columns: int) -> NDArray[np.float32]:
    return np.concatenate([np.zeros((0, columns), np.float32), *parts]).astype(np.float32)


def _batches(frames: Iterator[Frame], size: int) -> Iterator[list[Frame]]:
    batch: list[Frame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _ahead(job: Sequence[Source], size: int) -> Iterator[tuple[Sequence[Source], list[Tensor | str]]]:
    """The images of a job, some at a time; meanwhile the next ones are decoded. Of what cannot be, why not."""
    batches = [job[start : start + size] for start in range(0, len(job), size)]
    with ThreadPoolExecutor(min(16, usable_cpus() + 1)) as pool:
        coming: list[Future[Tensor | str]] = [pool.submit(_load, source) for source in batches[0]]
        for sources, following in zip(batches, [*batches[1:], ()], strict=True):
            now, coming = coming, [pool.submit(_load, source) for source in following]
            yield sources, [image.result() for image in now]


def _load(source: Source) -> Tensor | str:
    try:
        return read_image(source.path)
    except ReseenError as error:
        return str(error)
