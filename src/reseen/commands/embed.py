"""``reseen embed``: images, scenes and videos to features, each with where and when it was seen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reseen.data.paths import shown
from reseen.distributed import Ranks, join
from reseen.errors import ReseenError
from reseen.files import to_json
from reseen.footage import Footage, Sampling, finder, open_footage
from reseen.footage.shards import ABOUT, embed_job, read_about, shards_in, write_about
from reseen.inference import Embedder, load_model
from reseen.progress import Progress

NAMED = 20  # problems that are named on the screen; features.json has them all


def embed(
    run: Path,
    path: Path,
    *,
    out: Path,
    detector: Path | None = None,
    annotated: bool = False,
    min_score: float | None = None,
    every: float = 0.5,
    keyframes: bool = False,
    camera_pattern: str | None = None,
    time_pattern: str | None = None,
    resume: bool = False,
) -> Path:
    """Embed the persons at ``path`` and write a folder of features (:mod:`reseen.footage.shards`). Returns ``out``.

    Processes that torchrun started divide the work; the files are the same for any number of them.

    Args:
        detector, min_score: see :func:`reseen.footage.finder`.
        annotated, camera_pattern, time_pattern: see :func:`reseen.footage.open_footage`.
        every, keyframes: of videos, see :class:`reseen.footage.Sampling`.

    Raises:
        ReseenError: no such run or path, nothing in it that can be read, features of something else in ``out``.
    """
    if min_score is not None and not 0 <= min_score <= 1:
        raise ReseenError(f"--min-score {min_score:g} is no share: give 0 to 1")
    sampling = Sampling(every, keyframes)
    with join() as ranks:
        model = load_model(run, device=None if ranks.alone else str(ranks.on("auto").device))
        find = finder(model, detector=detector, min_score=min_score)
        whole = isinstance(model, Embedder) and detector is None and not annotated
        footage = open_footage(
            path, whole=whole, annotated=annotated, camera_pattern=camera_pattern, time_pattern=time_pattern
        )
        about = {
            "model": {"name": model.config.method, "fingerprint": model.fingerprint, "dim": model.dim},
            "detector": None if detector is None else hashlib.sha256(detector.read_bytes()).hexdigest(),
            "settings": {
                "annotated": annotated,
                "min_score": min_score,
                "every": every,
                "keyframes": keyframes,
            },
            "sources": _digest(footage),
        }
        ranks.agree(to_json(about), "has other files or another model", "give all of them the same")
        ranks.broadcast(lambda: _begin(out, about, resume))
        with Progress(quiet=not ranks.first) as progress:
            for line in footage.skipped[:NAMED]:
                progress.say(f"skipped: {line}")
            _embed(footage, out, find, sampling, ranks, progress)
        ranks.wait()
        if ranks.first:
            _finish(out, about, footage)
    return out


def _embed(
    footage: Footage, out: Path, find: Any, sampling: Sampling, ranks: Ranks, progress: Progress
) -> None:
    jobs = list(enumerate(footage.jobs))[ranks.rank :: ranks.ranks]
    total, done = sum(len(job) for _, job in jobs), 0
    stage = "embed" if ranks.alone else f"embed (process 1 of {ranks.ranks})"
    for number, job in jobs:
        looked = 0
        for part in embed_job(out, number, job, find, sampling):
            looked += part.images
            where = f"{shown(job[0].name)} at {part.seconds:.0f} s" if job[0].video else ""
            progress.step(stage, done + looked, total, where)
        done += len(job)
        progress.step(stage, done, total)


def _digest(footage: Footage) -> str:
    """Of everything that is known of the sources before they are opened."""
    digest = hashlib.sha256()
    for source in footage.sources:
        digest.update(f"{source.name}\0{source.camera}\0{source.start}\n".encode("utf-8", "surrogateescape"))
        digest.update(b"" if source.boxes is None else source.boxes.astype("<f4").tobytes())
    return digest.hexdigest()


def _begin(out: Path, about: Mapping[str, Any], resume: bool) -> None:
    """Make ``out``, or look whether it holds a part of the same."""
    if not (out / ABOUT).exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ReseenError(f"{shown(out)} is there and holds no features: name a new folder with --out")
        write_about(out, {**about, "finished": False})
        return
    found = read_about(out)
    if not resume:
        raise ReseenError(
            f"{shown(out)} holds features: continue with --resume, or name a new folder with --out"
        )
    other = [key for key, value in about.items() if found.get(key) != value]
    if other:
        raise ReseenError(
            f"{shown(out)} was begun with other {' and '.join(other)}: resume with the same, or name a new folder "
            "with --out"
        )


def _finish(out: Path, about: Mapping[str, Any], footage: Footage) -> None:
    shards = shards_in(out)
    rows, images = sum(shard.rows for shard in shards), sum(shard.images for shard in shards)
    problems = [line for shard in shards for line in shard.problems]
    write_about(out, {**about, "finished": True, "rows": rows, "images": images, "problems": problems})
    for line in problems[:NAMED]:
        print(line)
    if len(problems) > NAMED:
        print(f"{len(problems) - NAMED} more problems are named in {shown(out / ABOUT)}")
    films = sum(source.video for source in footage.sources)
    kinds = [f"{count} {kind}" for count, kind in ((images - films, "images"), (films, "videos")) if count]
    print(f"{rows} persons in {' and '.join(kinds)}, {len(problems)} problems -> {shown(out)}")
