"""A run that is watched from outside: what is measured after an epoch, with identities that training never sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reseen.config import Config
from reseen.distributed import Ranks
from reseen.methods import get_method
from reseen.metrics import clustering_scores
from reseen.progress import Progress
from reseen.records import UNLABELLED, Crop, Labels, Scene
from reseen.training import Method, Run, fit

ScoreEpoch = Callable[[Run, Method], dict[str, Any] | None]
Watch = Callable[[Run, Method], dict[str, Any]]


def watcher(identities: Labels | None, score_epoch: ScoreEpoch) -> Watch:
    """Diagnostics after an epoch. Identities are read here and nowhere earlier; nothing flows back.

    Args:
        identities: ``[M]`` of the training persons (:data:`UNLABELLED` where one is not known), to score clusters
            with; None: nobody wrote them down, or nothing is clustered.
        score_epoch: test scores, asked for after every ``train.evaluate_every`` epochs and after the last; None where
            there is nothing to score, or in processes that do not score.
    """

    def watch(run: Run, method: Method) -> dict[str, Any]:
        record: dict[str, Any] = {}
        known = identities != UNLABELLED if identities is not None else None
        if identities is not None and known is not None and known.any():
            scores = clustering_scores(run.labels[known], identities[known])
            record["diagnostics"] = {name: float(value) for name, value in asdict(scores).items()}
        every, last = run.config.train.evaluate_every, run.epoch == run.config.train.epochs
        if last or (every and run.epoch % every == 0):
            test = score_epoch(run, method)
            if test is not None:
                record["test"] = test
        return record

    return watch


def fit_watched(
    config: Config,
    images: Sequence[Crop] | Sequence[Scene],
    run_dir: Path,
    *,
    root: Path,
    resume: bool,
    ranks: Ranks,
    watch: Watch,
    note: str | None = None,
) -> Run:
    """:func:`reseen.training.fit` with the method that ``config`` names, and progress on the screen.

    ``note``: a line that is said before it begins.
    """
    with Progress(quiet=not ranks.first) as progress:
        if note:
            progress.say(note)
        return fit(
            config,
            tuple(images),
            get_method(config.method),
            folder=run_dir,
            root=root,
            resume=resume,
            watch=watch,
            step=progress.step,
            say=progress.say,
            ranks=ranks,
        )
