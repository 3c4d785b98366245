"""Scenes in two steps: a detector alone, then re-identification of what it cut out (R-SiamNet's Table 7).

The run folder holds three parts, made one after the other: ``detector/`` (a run), ``crops/``, ``reid/`` (a run).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reseen.config import Config, differences
from reseen.data import fingerprint, open_data
from reseen.distributed import ALONE, Ranks
from reseen.errors import ReseenError
from reseen.evaluation.lists import Lists, open_lists
from reseen.evaluation.two_steps import detect_persons
from reseen.files import to_json, write_file
from reseen.inference import load_searcher, two_step_finder
from reseen.methods import get_method
from reseen.models.checkpoint import STEPS
from reseen.progress import Progress
from reseen.records import SearchData
from reseen.tasks import crops, scenes
from reseen.tasks.opening import open_scenes
from reseen.tasks.pictures import Picture
from reseen.tasks.search_results import search_results
from reseen.tasks.task import Scored, Scoring, Task, announce
from reseen.tasks.two_step.config import (
    TWO_STEP,
    TwoStepConfig,
    read_two_step,
    two_step_configuration,
    two_step_yaml,
)
from reseen.tasks.two_step.crops import MANIFEST, complete, in_words, read_summary, write_crops
from reseen.tasks.usable import usable_scenes
from reseen.training import LAST, read_checkpoint, trained_config
from reseen.training.checkpoint import MAY_CHANGE
from reseen.training.held import held
from reseen.training.parallel import check_batch
from reseen.training.run_folder import PER_QUERY, write_array
from reseen.training.settle import settled

METRICS, ENVIRONMENT = "metrics.jsonl", "environment.json"


def train(
    both: TwoStepConfig,
    data: SearchData,
    run_dir: Path,
    resume: bool,
    ranks: Ranks = ALONE,
) -> None:
    """Both steps on scenes that are already usable, and their scores, in each of the processes ``ranks``.

    Args:
        resume: go on with what ``run_dir`` holds; a finished run stays as it is.

    Raises:
        ReseenError: the detector finds nobody, ``run_dir`` was made with other settings or data, or see
            :func:`reseen.training.fit`.
    """
    _check_batches(both, ranks)
    if ranks.broadcast(lambda: not resume and (run_dir / "config.yaml").exists()):
        raise ReseenError(
            f"{run_dir} already holds a run: continue it with --resume, or choose another --run"
        )
    if resume and ranks.broadcast(lambda: _finished(run_dir, both, data)):
        return
    with held(run_dir, ranks):
        _train(both, data, run_dir, resume, ranks)


def _train(both: TwoStepConfig, data: SearchData, run_dir: Path, resume: bool, ranks: Ranks) -> None:
    if ranks.first:
        write_file(run_dir / "config.yaml", two_step_yaml(both))
        print(f"step 1 of 3, detector -> {run_dir / 'detector'}")
    scenes.train(both.detector, data, run_dir / "detector", resume, ranks)
    _cut(run_dir, data, ranks)
    cut = open_data(run_dir / "crops" / MANIFEST)
    if ranks.first:
        print(f"step 3 of 3, re-identification by {both.reid.recipe} -> {run_dir / 'reid'}")
    try:
        crops.train(both.reid, cut, run_dir / "reid", resume, ranks)
    except ReseenError as error:
        raise ReseenError(f"reid: {error}") from error
    if ranks.first:
        _finish(run_dir, data)


def score(source: Path, data: SearchData, how: Scoring, progress: Progress) -> list[Scored]:
    """Score a run folder as scenes are scored; ``how.epoch`` is of the second step, the detector is its last one."""
    number, find = two_step_finder(source, epoch=how.epoch, step=progress.step)
    about = {"data": data.name, "epoch": number, "chosen": how.epoch}
    return scenes.score_found(data, find, how, about, progress)


def rank(source: Path, data: SearchData, asked: SearchData | None, how: Scoring, progress: Progress) -> Lists:
    """As in scenes, by both steps."""
    return open_lists(data, asked, two_step_finder(source, epoch=how.epoch, step=progress.step)[1])


def pictures(run_dir: Path, data: SearchData, progress: Progress) -> list[Picture]:
    """A search result by both steps, where there are queries."""
    found = search_results(data, two_step_finder(run_dir, step=progress.step)[1])
    return [found] if found is not None else []


def _check_batches(both: TwoStepConfig, ranks: Ranks) -> None:
    """The batches of the second step too: not after hours of the first."""
    for step in STEPS:
        try:
            config: Config = getattr(both, step)
            check_batch(config, ranks, grouped=get_method(config.method).groups_batch)
        except ReseenError as error:
            raise ReseenError(f"{step}: {error}") from error


def _finished(run_dir: Path, both: TwoStepConfig, data: SearchData) -> bool:
    """Whether there is nothing left to do in ``run_dir``; looks before a file of it is touched.

    Raises:
        ReseenError: it was made with other settings, or is finished and was trained on other images.
    """
    files = {step: run_dir / step / "checkpoint" / LAST for step in STEPS}
    for step, last in files.items():
        if not last.exists():
            continue
        trained = trained_config(last)
        made = differences(trained, settled(getattr(both, step), 0, trained))
        changed = [f"{step}.{key}" for key in made if key not in MAY_CHANGE]
        if changed:
            raise ReseenError(
                f"{last} was made with other settings ({', '.join(changed)}): resume without changing them, "
                "or start a new --run"
            )
    if not (run_dir / METRICS).exists() or not all(last.exists() for last in files.values()):
        return False
    if read_checkpoint(files["detector"]).state["data"] != fingerprint(data.train, data.root):
        raise ReseenError(
            f"{run_dir} was trained on other images than --data holds now: give the same data, or start a new --run"
        )
    return True


def _cut(run_dir: Path, data: SearchData, ranks: Ranks) -> None:
    """The crops of the training scenes, by the first of several processes while the others wait."""
    folder = run_dir / "crops"

    def cut() -> None:
        with Progress() as progress:
            if not complete(folder):
                network, checkpoint = load_searcher(run_dir / "detector")
                found = detect_persons(network, data.train, checkpoint.config, step=progress.step)
                write_crops(folder, data, found)
            progress.say(f"step 2 of 3, crops -> {folder}: {in_words(read_summary(folder))}")

    ranks.broadcast(cut)


def _finish(run_dir: Path, data: SearchData) -> None:
    """Score where there is something to score; scores that are there stay."""
    done = run_dir / METRICS
    if done.exists():
        return
    record: dict[str, Any] = {"epoch": read_two_step(run_dir).reid.train.epochs}
    record["crops"] = read_summary(run_dir / "crops")
    with Progress() as progress:
        found = score(run_dir, data, Scoring(), progress) if scenes.foreseen(data, progress) else []
    for scored in found:
        announce(scored, run_dir)
        write_array(run_dir / PER_QUERY, scored.average_precision)
        record["test"] = scored.scores
    write_file(run_dir / ENVIRONMENT, (run_dir / "detector" / ENVIRONMENT).read_bytes())
    write_file(done, to_json(record) + "\n")


def _begin(both: TwoStepConfig, weights: Sequence[str]) -> TwoStepConfig:
    detector, reid = weights
    return TwoStepConfig(replace(both.detector, weights=detector), replace(both.reid, weights=reid))


def parts(run_dir: Path, data: SearchData) -> tuple[tuple[Path, Any], ...]:
    """The runs inside, each with the data that its report shows."""
    return (run_dir / STEPS[0], data), (run_dir / STEPS[1], open_data(run_dir / "crops" / MANIFEST))


IN_TWO_STEPS: Task[TwoStepConfig, SearchData] = Task(
    name=TWO_STEP,
    methods=(TWO_STEP,),
    options=frozenset({"also", "share", "gallery_size"}),
    configure=two_step_configuration,
    open=open_scenes,
    usable=usable_scenes,
    steps=lambda both: (both.detector, both.reid),
    begin=_begin,
    train=train,
    tested=scenes.SCENES.tested,
    check_test=scenes.check_test,
    score=score,
    rank=rank,
    trained=lambda source, epoch: read_two_step(source),
    pictures=pictures,
    parts=parts,
)
