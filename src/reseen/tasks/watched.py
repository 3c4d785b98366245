"""What is measured of a run after an epoch, with identities that training never sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from reseen.metrics import clustering_scores
from reseen.records import UNLABELLED, Labels
from reseen.training import Method, Run

ScoreEpoch = Callable[[Run, Method[Any, Any]], dict[str, Any] | None]
Watch = Callable[[Run, Method[Any, Any]], dict[str, Any]]


def watcher(identities: Labels | None, score_epoch: ScoreEpoch) -> Watch:
    """Diagnostics after an epoch. Identities are read here and nowhere earlier; nothing flows back.

    Args:
        identities: ``[M]`` of the training persons (:data:`UNLABELLED` where one is not known), to score clusters
            with; None: nobody wrote them down, or nothing is clustered.
        score_epoch: test scores, asked for after every ``train.evaluate_every`` epochs and after the last; None where
            there is nothing to score, or in processes that do not score.
    """

    def watch(run: Run, method: Method[Any, Any]) -> dict[str, Any]:
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
