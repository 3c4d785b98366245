"""One row and seed: train or go on, score as the row asks, and write its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.config import Config
from reseen.distributed import ALONE
from reseen.errors import ReseenError
from reseen.files import from_json, write_file
from reseen.metrics import DEFAULT_CRITERION
from reseen.progress import Progress
from reseen.records import cameras_of
from reseen.reproduce.kinds import Kind
from reseen.reproduce.results import (
    SHORT,
    SOURCE,
    Digests,
    Result,
    row_fingerprint,
    weights_digest,
    write_result,
)
from reseen.reproduce.tables import Row
from reseen.tasks import Scoring
from reseen.training import chosen_epochs
from reseen.training.run_folder import PER_QUERY, at, read_metrics

Scores = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Job:
    """A row, its seed, and everything that decides what comes out. ``weights``: of each step, where there are two."""

    name: str
    row: Row
    seed: int
    kind: Kind
    config: Any  # of the kind's task
    data: Any
    digests: Digests  # of the data
    weights: tuple[str, ...]

    @cached_property
    def training(self) -> str:
        """Fingerprint of the training alone: rows that only differ in how they are scored share a run folder."""
        return self._fingerprint({})

    @cached_property
    def fingerprint(self) -> str:
        # Views came later: rows without one keep their names.
        view = {"view": self.row.view} if self.row.view else {}
        return self._fingerprint({"branch": self.row.branch, "paths": self.row.paths, **view})

    def _fingerprint(self, scored: Mapping[str, object]) -> str:
        return row_fingerprint(self.steps, self.digests, self.weights, scored=scored)

    @property
    def steps(self) -> tuple[Config, ...]:
        return self.kind.task.steps(self.config)

    def run_folder(self, out: Path) -> Path:
        """Named by what is trained and not by its recipe: recipes that come to the same are trained once."""
        method = self.steps[0].method if len(self.steps) == 1 else self.kind.task.name
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
    task = job.kind.task
    task.train(task.begin(job.config, job.weights), job.data, run, True, ALONE)
    trained = time.perf_counter()
    scores, per_query = _scores(job, run)
    about = {
        "fingerprint": job.fingerprint,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "cameras": job.kind.cameras(job.config, cameras_of(job.data.train)),
        "seconds": {
            "training": _training_seconds(job, run),
            "here": trained - started,
            "scoring": time.perf_counter() - trained,
        },
        "machine": _read(run, "environment.json", from_json),
        "source": SOURCE,
        "source_began": begun.read_text().strip() if begun.exists() else "not known",
        "train_digest": job.digests.train,
        "test_digest": job.digests.test,
        "criterion": DEFAULT_CRITERION,
        "weights": [
            weights_digest(weights, config.model.backbone)
            for weights, config in zip(job.weights, job.steps, strict=True)
        ],
        "scored": {name: getattr(job.row, name) for name in ("branch", "view", "paths", "share")},
        "run": run.name,
        "config": asdict(job.config),
    }
    result = Result(job.name, job.seed, job.data.name, scores, about, per_query)
    write_result(job.result_file(out), result)
    return result


def _scores(job: Job, run_dir: Path) -> tuple[Scores, NDArray[np.float64]]:
    """By the way of choosing an epoch, and the average precision of each query at the last one."""
    history = read_metrics(run_dir)
    if job.row.branch or job.row.paths:  # others than training scores; nothing else is chosen
        record, per_query = _score_checkpoint(job, run_dir, "last")
        return {"last": {"epoch": max(int(epoch["epoch"]) for epoch in history), **record}}, per_query
    scored = {int(record["epoch"]): at(record, "test") for record in history}
    scored = {epoch: test for epoch, test in scored.items() if test and test.get("mean_ap") is not None}
    if not scored:
        raise ReseenError(
            f"{run_dir}: metrics.jsonl has no test scores: delete the run folder to train it again"
        )
    last = max(scored)
    scores: Scores = {"last": {"epoch": last, **scored[last]}}
    for way, epoch in chosen_epochs(history).items() if len(job.steps) == 1 else ():
        if way != "last":
            found = scored.get(epoch) or _score_checkpoint(job, run_dir, way)[0]
            scores[way] = {"epoch": epoch, **found}
    return scores, _read(run_dir, PER_QUERY, lambda _: np.load(run_dir / PER_QUERY))


def _score_checkpoint(job: Job, run_dir: Path, way: str) -> tuple[Mapping[str, Any], NDArray[np.float64]]:
    """Score the checkpoint that was kept by ``way``, as the row asks."""
    how = Scoring(epoch=way, branch=job.row.branch, view=job.row.view, paths=job.row.paths)
    with Progress() as progress:
        scored = job.kind.task.score(run_dir, job.data, how, progress)[0]
    return scored.scores, scored.average_precision


def _read(run_dir: Path, name: str, parse: Callable[[bytes], Any]) -> Any:
    """A file of a run folder; where it is gone or broken the whole row has to be made again."""
    try:
        return parse((run_dir / name).read_bytes())
    except (OSError, ValueError, EOFError) as error:
        raise ReseenError(
            f"{run_dir / name} cannot be read ({error}): delete {run_dir} to train it again"
        ) from error


def _training_seconds(job: Job, run_dir: Path) -> float:
    """Of all epochs together, however often the run was interrupted."""
    folders = [part for part, _ in job.kind.task.parts(run_dir, job.data)] or [run_dir]
    return sum(
        float(at(record, "seconds", "epoch") or 0) for folder in folders for record in read_metrics(folder)
    )
