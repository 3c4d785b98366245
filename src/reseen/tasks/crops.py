"""A run of a method on crops, watched from outside of training."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from reseen.config import Config
from reseen.distributed import ALONE, Ranks
from reseen.errors import ReseenError
from reseen.evaluation import Keep, as_record, evaluate_features, sees_grey
from reseen.methods import get_method
from reseen.methods.common import embed_clean
from reseen.metrics import clustering_scores
from reseen.progress import Progress
from reseen.records import UNKNOWN_CAMERA, ReidData
from reseen.training import Method, Run, deployed_name, fit
from reseen.training.run_folder import keep_per_query


def train_run(
    config: Config,
    images: ReidData,
    folder: Path,
    *,
    resume: bool,
    weights: str | Path | None = None,
    ranks: Ranks = ALONE,
) -> Run:
    """One run on data that is already read and :func:`usable`, in each of the processes ``ranks``.

    Raises:
        ReseenError: too few images, or see :func:`reseen.training.fit`.
    """
    count, k1 = len(images.train), config.cluster.k1
    if count < config.train.instances:
        raise ReseenError(f"{images.root} holds {count} usable images: training needs more")
    if config.cluster.enabled and count <= k1:  # everybody would be everybody's neighbour, and one cluster
        raise ReseenError(
            f"{images.root} holds {count} usable images, no more than cluster.k1 = {k1} neighbours: "
            "lower cluster.k1 and cluster.k2 (--set), or give more images"
        )
    cameras = {crop.camera for crop in images.train}
    with Progress(quiet=not ranks.first) as progress:
        if len(cameras) == 1 and cameras != {UNKNOWN_CAMERA}:
            progress.say("all images are of one camera: nothing here teaches or tests other cameras")
        return fit(
            config,
            images.train,
            get_method(config.method),
            folder=folder,
            root=images.root,
            weights=weights,
            resume=resume,
            watch=lambda state, method: watch(state, method, images, keep=keep_per_query(folder)),
            step=progress.step,
            say=progress.say,
            ranks=ranks,
        )


def watch(run: Run, method: Method, images: ReidData, *, keep: Keep | None = None) -> dict[str, Any]:
    """Diagnostics after an epoch. Identities are read here and nowhere earlier; nothing flows back.

    Several processes share the embedding; only the first scores. ``keep`` is given each query's average precision.
    """
    record: dict[str, Any] = {}
    identities = images.train_identities
    if identities is not None and run.config.cluster.enabled:
        record["diagnostics"] = {
            name: float(value) for name, value in asdict(clustering_scores(run.labels, identities)).items()
        }
    every, last = run.config.train.evaluate_every, run.epoch == run.config.train.epochs
    if images.query and images.gallery and (last or (every and run.epoch % every == 0)):
        encoder = method.deployed(run.networks)
        grey = sees_grey(run.config, deployed_name(run, method))
        query, gallery = (
            embed_clean(run, encoder, part.crops, grey=grey, stage=f"embed {name}").cpu()
            for name, part in (("query", images.query), ("gallery", images.gallery))
        )
        if not run.ranks.first:
            return record
        scores = evaluate_features(query, gallery, images.query, images.gallery)
        if scores.valid_queries:  # with one camera there is nothing to find across cameras
            record["test"] = as_record(scores)
            if keep is not None:
                keep(scores.average_precision)
    return record
