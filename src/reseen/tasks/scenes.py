"""``reseen train r-siamnet`` and the scoring of such a run: scenes with boxes in, a network that searches out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from reseen.commands.report import report
from reseen.config import Config
from reseen.distributed import ALONE, Ranks, join
from reseen.errors import ReseenError
from reseen.evaluation import Keep
from reseen.evaluation.search import evaluate_searcher
from reseen.methods import get_method
from reseen.metrics import clustering_scores
from reseen.progress import Progress
from reseen.records import UNLABELLED, SearchData
from reseen.tasks.configure import configuration
from reseen.tasks.usable import usable_scenes
from reseen.training import Method, Run, fit
from reseen.training.run_folder import keep_per_query


def train_search(
    method: str,
    scenes: SearchData,
    run: Path | None,
    resume: bool,
    weights: str | None,
    recipe: str | None,
    config: Path | None,
    settings: list[str],
) -> Path:
    """Train on scenes, score where they have a test part, write the report. Returns the run folder."""
    with join() as ranks:
        folder = run or Path("runs") / f"{Path(recipe or method).stem}-{scenes.name.lower()}"
        resolved = configuration(method, folder, resume, recipe, config, settings, weights)
        with Progress(quiet=not ranks.first) as progress:
            scenes = usable_scenes(scenes, max_bad_share=resolved.data.max_bad_share, progress=progress)
        train_search_run(resolved, scenes, folder, resume=resume, ranks=ranks)
        if ranks.first:
            report(folder, scenes=scenes)
    return folder


def train_search_run(
    config: Config,
    scenes: SearchData,
    folder: Path,
    *,
    resume: bool,
    weights: str | Path | None = None,
    ranks: Ranks = ALONE,
) -> Run:
    """One run on scenes that are already :func:`usable_scenes`, in each of the processes ``ranks``.

    Raises:
        ReseenError: fewer than two persons to tell apart, or see :func:`reseen.training.fit`.
    """
    if str(weights or config.weights) == "none" and config.search.freeze:
        raise ReseenError(
            "search.freeze=true keeps pretrained layers as they are, and --weights none has none to keep: "
            "set search.freeze=false, or give weights"
        )
    if scenes.train_boxes < 2:
        raise ReseenError(
            f"{scenes.root} has {scenes.train_boxes} persons to train on: give scenes with more boxes"
        )
    with Progress(quiet=not ranks.first) as progress:
        return fit(
            config,
            scenes.train,
            get_method(config.method),
            folder=folder,
            root=scenes.root,
            weights=weights,
            resume=resume,
            watch=lambda state, method: watch_search(state, method, scenes, keep=keep_per_query(folder)),
            step=progress.step,
            say=progress.say,
            ranks=ranks,
        )


def watch_search(run: Run, method: Method, scenes: SearchData, *, keep: Keep | None = None) -> dict[str, Any]:
    """Diagnostics after an epoch. Identities are read here and nowhere earlier; nothing flows back.

    Only the first of several processes scores. ``keep`` is given each query's average precision.
    """
    record: dict[str, Any] = {}
    if scenes.train_identities is not None and run.config.search.cluster:
        identities = np.concatenate(scenes.train_identities)
        known = identities != UNLABELLED
        if known.any():
            scores = clustering_scores(run.labels[known], identities[known])
            record["diagnostics"] = {name: float(value) for name, value in asdict(scores).items()}
    every, last = run.config.train.evaluate_every, run.epoch == run.config.train.epochs
    if scenes.test and scenes.probes and run.ranks.first and (last or (every and run.epoch % every == 0)):
        network = method.deployed(run.networks)
        record["test"] = evaluate_searcher(network, scenes, run.config, step=run.step, keep=keep)
    return record
