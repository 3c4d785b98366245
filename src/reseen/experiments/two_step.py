"""``reseen train two-step``: a detector alone, then re-identification of what it cut out (R-SiamNet's Table 7).

The run folder holds three parts, made one after the other: ``detector/`` (a run), ``crops/``, ``reid/`` (a run).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reseen.data import open_data
from reseen.errors import ReseenError
from reseen.evaluation import Keep
from reseen.evaluation.search import search_record
from reseen.experiments.canvas import write_atomically
from reseen.experiments.configure import TWO_STEP, stored_weights
from reseen.experiments.kinds import open_scenes
from reseen.experiments.progress import Progress
from reseen.experiments.run_files import keep_per_query
from reseen.experiments.run_report import report
from reseen.experiments.search import train_search_run
from reseen.experiments.search_evaluate import scenes_to_score, tell, usual_size
from reseen.experiments.train_crops import train_run
from reseen.experiments.two_step_config import (
    TwoStepConfig,
    read_two_step,
    two_step_configuration,
    two_step_yaml,
)
from reseen.experiments.two_step_crops import MANIFEST, in_words, read_summary, write_crops
from reseen.experiments.two_step_search import detect_persons, two_step_finder
from reseen.experiments.usable import usable_scenes
from reseen.records import Labels, SearchData
from reseen.training import ALONE, Ranks, join, load_searcher


def train_two_step(
    data: Path,
    run: Path | None,
    resume: bool,
    weights: str | None,
    recipe: str | None,
    config: Path | None,
    settings: list[str],
) -> Path:
    """Train the detector, cut out whom it finds, train re-identification on that; score. Returns the run folder.

    What is finished is not done again with ``resume``.
    """
    with join() as ranks:
        scenes = open_scenes(data, TWO_STEP)
        folder = run or Path("runs") / f"{TWO_STEP}-{scenes.name.lower()}"
        both = two_step_configuration(folder, resume, recipe, config, settings)
        if ranks.first and not resume and (folder / "config.yaml").exists():
            raise ReseenError(
                f"{folder} already holds a run: continue it with --resume, or choose another --run"
            )
        with Progress(quiet=not ranks.first) as progress:
            bad = both.detector.data.max_bad_share
            scenes = usable_scenes(scenes, max_bad_share=bad, progress=progress)
        start = weights or (stored_weights(folder / "detector") if resume else None) or "imagenet"
        two_step_run(both, scenes, folder, resume=resume, weights=(start, start), ranks=ranks)
        if ranks.first:
            report(folder / "detector", scenes=scenes)
            report(folder / "reid", images=open_data(folder / "crops" / MANIFEST))
            report(folder, scenes=scenes)
    return folder


def two_step_run(
    both: TwoStepConfig,
    scenes: SearchData,
    folder: Path,
    *,
    resume: bool,
    weights: tuple[str, str],
    ranks: Ranks = ALONE,
) -> None:
    """Both steps on scenes that are already usable, and their scores, in each of the processes ``ranks``.

    Args:
        weights: what the detector and the second network begin with.
    """
    if ranks.first:
        write_atomically(folder / "config.yaml", two_step_yaml(both).encode())
        print(f"step 1 of 3, detector -> {folder / 'detector'}")
    train_search_run(
        both.detector, scenes, folder / "detector", resume=resume, weights=weights[0], ranks=ranks
    )
    _cut(folder, scenes, ranks)
    crops = open_data(folder / "crops" / MANIFEST)
    if ranks.first:
        print(f"step 3 of 3, re-identification by {both.reid.recipe} -> {folder / 'reid'}")
    try:
        train_run(both.reid, crops, folder / "reid", resume=resume, weights=weights[1], ranks=ranks)
    except ReseenError as error:
        raise ReseenError(f"reid: {error}") from error
    if ranks.first:
        _finish(folder, scenes)


def evaluate_two_step(
    run: Path, data: Path, *, epoch: str = "last", sizes: Sequence[int] = ()
) -> dict[str, Any]:
    """Score a two-step run as :func:`reseen.experiments.search_evaluate.evaluate_search` does.

    Args:
        epoch: of the second step; the detector is that of its last epoch.
        sizes: of the gallery, as there.
    """
    scenes, sizes = scenes_to_score(data, f"{run} ({TWO_STEP})", sizes)
    with Progress() as progress:
        bad = read_two_step(run).detector.data.max_bad_share
        scenes = usable_scenes(scenes, max_bad_share=bad, progress=progress)
    return _score(run, scenes, epoch, sizes)


def _score(
    run: Path, scenes: SearchData, epoch: str, sizes: Sequence[int], keep: Keep | None = None
) -> dict[str, Any]:
    """Score, print and add to RUN/evaluations.jsonl; ``keep`` is given each query's average precision."""
    with Progress() as progress:
        number, find = two_step_finder(run, epoch=epoch, step=progress.step)
        found = find(scenes.test, scenes.test_names, scenes.probes)
        record = search_record(found, scenes, sizes=sizes or (None,), step=progress.step, keep=keep)
    tell(run, {"data": scenes.name, "epoch": number, "chosen": epoch}, record, sizes)
    return record


def _cut(folder: Path, scenes: SearchData, ranks: Ranks) -> None:
    """The crops of the training scenes, by the first of several processes while the others wait."""
    crops = folder / "crops"

    def cut() -> Labels:
        with Progress() as progress:
            if not (crops / MANIFEST).exists():
                network, checkpoint = load_searcher(folder / "detector")
                found = detect_persons(network, scenes.train, checkpoint.config, step=progress.step)
                write_crops(crops, scenes, found)
            progress.say(f"step 2 of 3, crops -> {crops}: {in_words(read_summary(crops))}")
        return np.empty(0, dtype=np.int64)

    ranks.from_first(cut)


def _finish(folder: Path, scenes: SearchData) -> None:
    """Score where there is something to score; scores that are there stay."""
    done = folder / "metrics.jsonl"
    if not done.exists():
        record: dict[str, Any] = {"epoch": read_two_step(folder).reid.train.epochs}
        record["crops"] = read_summary(folder / "crops")
        if scenes.test and scenes.probes:
            record["test"] = _score(folder, scenes, "last", usual_size(scenes), keep_per_query(folder))
        write_atomically(folder / "environment.json", (folder / "detector" / "environment.json").read_bytes())
        write_atomically(done, (json.dumps(record) + "\n").encode())
