"""One row and seed: train or go on, score as the row asks, and write its result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.config import Config
from reseen.errors import ReseenError
from reseen.evaluation import as_record, evaluate_encoder, sees_grey
from reseen.evaluation.search import evaluate_searcher
from reseen.files import write_file
from reseen.metrics import DEFAULT_CRITERION
from reseen.progress import Progress
from reseen.records import UNKNOWN_CAMERA, ReidData, SearchData
from reseen.reproduce.results import (
    SHORT,
    SOURCE,
    Digests,
    Result,
    configs_of,
    row_fingerprint,
    weights_digest,
    write_result,
)
from reseen.reproduce.tables import TWO_STEP, Row
from reseen.tasks.crops import train_run
from reseen.tasks.opening import chosen_file
from reseen.tasks.scene_scores import usual_size
from reseen.tasks.scenes import train_search_run
from reseen.tasks.two_step.config import TwoStepConfig
from reseen.tasks.two_step.run import two_step_run
from reseen.training import chosen_epochs, load_encoder, load_searcher
from reseen.training.run_folder import PER_QUERY, at, read_metrics

Scores = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Job:
    """A row, its seed, and everything that decides what comes out. ``weights``: of each step, where there are two."""

    name: str
    row: Row
    seed: int
    config: Config | TwoStepConfig
    data: ReidData | SearchData
    digests: Digests  # of the data
    weights: tuple[str, ...]

    @cached_property
    def training(self) -> str:
        """Fingerprint of the training alone: rows that only differ in how they are scored share a run folder."""
        return self._fingerprint({})

    @cached_property
    def fingerprint(self) -> str:
        view = (
            {"view": self.row.view} if self.row.view else {}
        )  # came later: rows without it keep their names
        return self._fingerprint({"branch": self.row.branch, "paths": self.row.paths, **view})

    def _fingerprint(self, scored: Mapping[str, object]) -> str:
        return row_fingerprint(self.config, self.digests, self.weights, scored=scored)

    def run_folder(self, out: Path) -> Path:
        """Named by what is trained and not by its recipe: recipes that come to the same are trained once."""
        method = TWO_STEP if isinstance(self.config, TwoStepConfig) else self.config.method
        return out / "runs" / f"{method}-{self.seed}-{self.training[:SHORT]}"

    def lock_file(self, out: Path) -> Path:
        return out / "runs" / f"{self.run_folder(out).name}.lock"

    def failure_file(self, out: Path) -> Path:
        return self.result_file(out).with_suffix(".failed")

    def result_file(self, out: Path) -> Path:
        return out / "rows" / f"{self.name}-{self.seed}-{self.fingerprint[:SHORT]}.json"


def measure(job: Job, out: Path) -> Result:
    """Train (what is finished is not done again), score, write the result file.

    Raises:
        ReseenError: whatever training or scoring raises.
    """
    run = job.run_folder(out)
    begun = run / "source.txt"
    if not run.exists():
        write_file(begun, f"{SOURCE}\n")
    started = time.perf_counter()
    _train(job, run)
    trained = time.perf_counter()
    scores, per_query = _scores(job, run)
    config = (
        {"detector": asdict(job.config.detector), "reid": asdict(job.config.reid)}
        if isinstance(job.config, TwoStepConfig)
        else asdict(job.config)
    )
    about = {
        "fingerprint": job.fingerprint,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "cameras": cameras_read(job),
        "seconds": {
            "training": _training_seconds(run),
            "here": trained - started,
            "scoring": time.perf_counter() - trained,
        },
        "machine": _read(run, "environment.json", json.loads),
        "source": SOURCE,
        "source_began": begun.read_text().strip() if begun.exists() else "not known",
        "train_digest": job.digests.train,
        "test_digest": job.digests.test,
        "criterion": DEFAULT_CRITERION,
        "weights": [
            weights_digest(weights, config.model.backbone)
            for weights, config in zip(job.weights, configs_of(job.config), strict=True)
        ],
        "scored": {
            "branch": job.row.branch,
            "view": job.row.view,
            "paths": job.row.paths,
            "share": job.row.share,
        },
        "run": run.name,
        "config": config,
    }
    result = Result(job.name, job.seed, job.data.name, scores, about, per_query)
    write_result(job.result_file(out), result)
    return result


def cameras_read(job: Job) -> str:
    """Who reads the cameras of training images: nobody, the sampler (it prefers other cameras), the clustering, the
    loss. Of two steps the second, whose crops have the cameras of their scenes; R-SiamNet reads none."""
    config = job.config.reid if isinstance(job.config, TwoStepConfig) else job.config
    if config.method == "r-siamnet":
        return "no"
    cameras = np.unique([image.camera for image in job.data.train])
    known = cameras[cameras != UNKNOWN_CAMERA]
    readers = [
        name
        for name, reads in (
            ("sampler", config.data.camera_aware == "auto" and len(known) > 1),
            ("clustering", config.cluster.camera_standardise and len(known) > 0),
            ("loss", config.loss.camera_weight > 0),
        )
        if reads
    ]
    return " and ".join(readers) or "no"


def _train(job: Job, run: Path) -> None:
    if isinstance(job.config, TwoStepConfig):
        assert isinstance(job.data, SearchData)
        detector, reid = (
            replace(config, weights=weights)
            for config, weights in zip((job.config.detector, job.config.reid), job.weights, strict=True)
        )
        two_step_run(TwoStepConfig(detector, reid), job.data, run, resume=True)
    elif isinstance(job.data, SearchData):
        train_search_run(job.config, job.data, run, resume=True, weights=job.weights[0])
    else:
        train_run(job.config, job.data, run, resume=True, weights=job.weights[0])


def _scores(job: Job, run: Path) -> tuple[Scores, NDArray[np.float64]]:
    """By the way of choosing an epoch, and the average precision of each query at the last one."""
    if job.row.branch or job.row.paths:
        return _scored_anew(job, run)
    history = read_metrics(run)
    scored = {int(record["epoch"]): at(record, "test") for record in history if at(record, "test")}
    if not scored:
        raise ReseenError(f"{run}: no query has an answer under another camera, so there is nothing to score")
    last = max(scored)
    scores: Scores = {"last": {"epoch": last, **scored[last]}}
    if not isinstance(job.config, TwoStepConfig):
        for way, epoch in chosen_epochs(history).items():
            if way != "last":
                found = scored.get(epoch) or _score_checkpoint(job, run, way)[0]
                scores[way] = {"epoch": epoch, **found}
    return scores, _read(run, PER_QUERY, lambda _: np.load(run / PER_QUERY))


def _scored_anew(job: Job, run: Path) -> tuple[Scores, NDArray[np.float64]]:
    """The last epoch by another branch or other paths than training scores; nothing else is chosen."""
    record, per_query = _score_checkpoint(job, run, "last")
    epoch = max(int(record["epoch"]) for record in read_metrics(run))
    return {"last": {"epoch": epoch, **record}}, per_query


def _score_checkpoint(job: Job, run: Path, way: str) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Score the checkpoint that was kept by ``way``, as :func:`chosen_file` knows them."""
    source = chosen_file(run, way)
    kept: list[NDArray[np.float64]] = []
    with Progress() as progress:
        if isinstance(job.data, SearchData):
            network, checkpoint = load_searcher(source)
            config = checkpoint.config
            if job.row.paths:
                config = replace(config, search=replace(config.search, paths_at_test=job.row.paths))
            sizes = usual_size(job.data) or (None,)
            record = evaluate_searcher(
                network, job.data, config, sizes=sizes, step=progress.step, keep=kept.append
            )
            return record, kept[0]
        encoder, checkpoint = load_encoder(source, branch=job.row.branch)
        branch = job.row.branch or checkpoint.state["deployed"]
        grey = job.row.view == "grey" if job.row.view else sees_grey(checkpoint.config, branch)
        scores = evaluate_encoder(encoder, job.data, checkpoint.config, grey=grey, step=progress.step)
    return as_record(scores), scores.average_precision


def _read(run: Path, name: str, parse: Callable[[bytes], Any]) -> Any:
    """A file of a run folder; where it is gone or broken the whole row has to be made again."""
    try:
        return parse((run / name).read_bytes())
    except (OSError, ValueError, EOFError) as error:
        raise ReseenError(f"{run / name} cannot be read ({error}): delete {run} to train it again") from error


def _training_seconds(run: Path) -> float:
    """Of all epochs together, however often the run was interrupted."""
    folders = [run / step for step in ("detector", "reid")] if (run / "reid").is_dir() else [run]
    return sum(
        float(at(record, "seconds", "epoch") or 0) for folder in folders for record in read_metrics(folder)
    )
