"""``reseen index``: the persons in images, scenes and videos become rows of a gallery."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from reseen.data.paths import shown
from reseen.errors import ReseenError
from reseen.footage import Footage, Sampling, finder, joined, open_footage, persons_in
from reseen.gallery import Gallery
from reseen.inference import Embedder, load_model
from reseen.progress import Progress
from reseen.tasks import read_calibration

NAMED = 20  # problems that are named
DAY = 86400.0  # seconds


def index(
    run: Path,
    path: Path,
    *,
    gallery: str,
    resume: bool = False,
    prefix: str = "",
    expires: float | None = None,
    detector: Path | None = None,
    annotated: bool = False,
    min_score: float | None = None,
    every: float = 0.5,
    keyframes: bool = False,
    camera_pattern: str | None = None,
    time_pattern: str | None = None,
) -> Gallery:
    """Add the persons at ``path`` to a gallery: some images or a whole video at a time, which are then safe.

    The run's calibration goes along, where it has one (docs/how-sure.md).

    Args:
        resume: leave out the sources of which there are rows.
        prefix: a folder's name for sources, to tell those of several folders apart.
        expires: days until the rows have to go.
        detector, min_score: see :func:`reseen.footage.finder`.
        every, keyframes: of videos, see :class:`reseen.footage.Sampling`.
        annotated, camera_pattern, time_pattern: see :func:`reseen.footage.open_footage`.

    Raises:
        ReseenError: no such run or path, sources that the gallery has already, or a full disk: what was added until
            then stays, and ``resume`` goes on.
    """
    if expires is not None and not 0 < expires < float("inf"):
        raise ReseenError(f"--expires {expires:g} is no time: give a number of days above 0")
    sampling = Sampling(every, keyframes)
    model = load_model(run)
    rows = Gallery.open(gallery, model, run=run)
    find = finder(model, detector=detector, min_score=min_score)
    whole = isinstance(model, Embedder) and detector is None and not annotated
    footage = open_footage(
        path, whole=whole, annotated=annotated, camera_pattern=camera_pattern, time_pattern=time_pattern
    )
    footage = _new(footage, rows, prefix, resume)
    problems = [f"skipped: {line}" for line in footage.skipped]
    total, done, persons = len(footage.sources), 0, 0
    with Progress() as progress:
        for job in footage.jobs:
            parts, looked = [], 0
            for part in persons_in(job, find, sampling):
                parts.append(part.rows)
                problems += part.problems
                looked += part.images
                where = f"{shown(job[0].name)} at {part.seconds:.0f} s" if job[0].video else ""
                progress.step("index", done + looked, total, where)
            found = joined(parts)
            expiries = None if expires is None else np.full(len(found), time.time() + expires * DAY)
            if len(found):
                rows.add(**vars(found), expiries=expiries)
            done, persons = done + len(job), persons + len(found)
    if (calibration := read_calibration(run, model)) is not None:
        rows.keep_calibration(calibration)
    for line in problems[:NAMED]:
        print(line)
    more = f", {len(problems)} problems" if problems else ""
    print(f"{persons} persons in {total} images and videos{more} -> {gallery}, which holds {len(rows)}")
    return rows


def _new(footage: Footage, rows: Gallery, prefix: str, resume: bool) -> Footage:
    """The sources, by the names that they have in the gallery, of which it holds no rows."""
    there = rows.sources()
    named = [
        tuple(
            replace(source, name=f"{prefix.rstrip('/')}/{source.name}" if prefix else source.name)
            for source in job
        )
        for job in footage.jobs
    ]
    known = [source.name for job in named for source in job if source.name in there]
    if known and not resume:
        raise ReseenError(
            f"{rows.place} holds rows of {len(known)} of these sources, the first is {shown(known[0])}: add the others "
            "with --resume, or call these differently with --prefix NAME"
        )
    left = [tuple(source for source in job if source.name not in there) for job in named]
    return replace(footage, jobs=tuple(job for job in left if job))
