"""``reseen train two-step``: a detector alone, then re-identification of what it cut out (R-SiamNet's Table 7).

The run folder holds three parts, made one after the other: ``detector/`` (a run), ``crops/``, ``reid/`` (a run).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reseen.commands.report import report
from reseen.config import differences
from reseen.data import fingerprint, open_data
from reseen.distributed import ALONE, Ranks, join
from reseen.errors import ReseenError
from reseen.evaluation import Keep
from reseen.evaluation.search import search_record
from reseen.files import write_file
from reseen.progress import Progress
from reseen.records import SearchData
from reseen.tasks.configure import TWO_STEP
from reseen.tasks.crops import train_run
from reseen.tasks.scene_scores import scenes_to_score, tell, usual_size
from reseen.tasks.scenes import train_search_run
from reseen.tasks.two_step.config import (
    STEPS,
    TwoStepConfig,
    read_two_step,
    two_step_configuration,
    two_step_yaml,
)
from reseen.tasks.two_step.crops import MANIFEST, complete, in_words, read_summary, write_crops
from reseen.tasks.two_step.search import detect_persons, two_step_finder
from reseen.tasks.usable import usable_scenes
from reseen.training import LAST, load_searcher, read_checkpoint, trained_config
from reseen.training.checkpoint import MAY_CHANGE
from reseen.training.parallel import check_batch
from reseen.training.run_folder import keep_per_query
from reseen.training.settle import settled

METRICS, ENVIRONMENT = "metrics.jsonl", "environment.json"


def train_two_step(
    scenes: SearchData,
    run: Path | None,
    resume: bool,
    weights: str | None,
    recipe: str | None,
    config: Path | None,
    settings: list[str],
) -> Path:
    """Train the detector, cut out whom it finds, train re-identification on that; score. Returns the run folder.

    What is finished is not done again with ``resume``.

    Raises:
        ReseenError: ``run`` holds a run and it is not to be resumed, or see :func:`two_step_run`.
    """
    with join() as ranks:
        folder = run or Path("runs") / f"{TWO_STEP}-{scenes.name.lower()}"
        both = two_step_configuration(folder, resume, recipe, config, settings, weights)
        taken = ranks.broadcast(lambda: not resume and (folder / "config.yaml").exists())
        if taken:
            raise ReseenError(
                f"{folder} already holds a run: continue it with --resume, or choose another --run"
            )
        with Progress(quiet=not ranks.first) as progress:
            bad = both.detector.data.max_bad_share
            scenes = usable_scenes(scenes, max_bad_share=bad, progress=progress)
        two_step_run(both, scenes, folder, resume=resume, ranks=ranks)
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
    ranks: Ranks = ALONE,
) -> None:
    """Both steps on scenes that are already usable, and their scores, in each of the processes ``ranks``.

    Args:
        resume: go on with what ``folder`` holds; a finished run stays as it is.

    Raises:
        ReseenError: the detector finds nobody, ``folder`` was made with other settings or data, or see
            :func:`reseen.training.fit`.
    """
    _check_batches(both, ranks)
    if resume and ranks.broadcast(lambda: _finished(folder, both, scenes)):
        return
    if ranks.first:
        write_file(folder / "config.yaml", two_step_yaml(both))
        print(f"step 1 of 3, detector -> {folder / 'detector'}")
    train_search_run(both.detector, scenes, folder / "detector", resume=resume, ranks=ranks)
    _cut(folder, scenes, ranks)
    crops = open_data(folder / "crops" / MANIFEST)
    if ranks.first:
        print(f"step 3 of 3, re-identification by {both.reid.recipe} -> {folder / 'reid'}")
    try:
        train_run(both.reid, crops, folder / "reid", resume=resume, ranks=ranks)
    except ReseenError as error:
        raise ReseenError(f"reid: {error}") from error
    if ranks.first:
        _finish(folder, scenes)


def evaluate_two_step(
    run: Path, data: Path, *, epoch: str = "last", sizes: Sequence[int] = ()
) -> dict[str, Any]:
    """Score a two-step run as :func:`reseen.tasks.scene_scores.evaluate_search` does.

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


def _check_batches(both: TwoStepConfig, ranks: Ranks) -> None:
    """The batches of the second step too: not after hours of the first."""
    for step in STEPS:
        try:
            check_batch(getattr(both, step), ranks)
        except ReseenError as error:
            raise ReseenError(f"{step}: {error}") from error


def _finished(folder: Path, both: TwoStepConfig, scenes: SearchData) -> bool:
    """Whether there is nothing left to do in ``folder``; looks before a file of it is touched.

    Raises:
        ReseenError: it was made with other settings, or is finished and was trained on other images.
    """
    files = {step: folder / step / "checkpoint" / LAST for step in STEPS}
    for step, last in files.items():
        if not last.exists():
            continue
        trained, asked = trained_config(last), getattr(both, step)
        made = differences(trained, settled(asked, 0, trained))
        changed = [f"{step}.{key}" for key in made if key not in MAY_CHANGE]
        if changed:
            raise ReseenError(
                f"{last} was made with other settings ({', '.join(changed)}): resume without changing them, "
                "or start a new --run"
            )
    if not (folder / METRICS).exists() or not all(last.exists() for last in files.values()):
        return False
    if read_checkpoint(files["detector"]).state["data"] != fingerprint(scenes.train, scenes.root):
        raise ReseenError(
            f"{folder} was trained on other images than --data holds now: give the same data, or start a new --run"
        )
    return True


def _cut(folder: Path, scenes: SearchData, ranks: Ranks) -> None:
    """The crops of the training scenes, by the first of several processes while the others wait."""
    crops = folder / "crops"

    def cut() -> None:
        with Progress() as progress:
            if not complete(crops):
                network, checkpoint = load_searcher(folder / "detector")
                found = detect_persons(network, scenes.train, checkpoint.config, step=progress.step)
                write_crops(crops, scenes, found)
            progress.say(f"step 2 of 3, crops -> {crops}: {in_words(read_summary(crops))}")

    ranks.broadcast(cut)


def _finish(folder: Path, scenes: SearchData) -> None:
    """Score where there is something to score; scores that are there stay."""
    done = folder / METRICS
    if not done.exists():
        record: dict[str, Any] = {"epoch": read_two_step(folder).reid.train.epochs}
        record["crops"] = read_summary(folder / "crops")
        if scenes.test and scenes.probes:
            record["test"] = _score(folder, scenes, "last", usual_size(scenes), keep_per_query(folder))
        write_file(folder / ENVIRONMENT, (folder / "detector" / ENVIRONMENT).read_bytes())
        write_file(done, json.dumps(record) + "\n")
