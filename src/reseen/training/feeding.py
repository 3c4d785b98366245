"""What an epoch is fed: which images make a batch, and the batches; one pair of functions per kind of data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.data import TrainBatch, balanced_batches, train_batches, uniform_batches
from reseen.data.scene_loaders import SceneBatch, scene_batches
from reseen.data.scene_transforms import SceneView
from reseen.errors import ReseenError
from reseen.records import Crop, PseudoLabels, Scene, cameras_of
from reseen.training.run import Batches, Run, known_cameras


def choose_crops(run: Run, pseudo: PseudoLabels, crops: tuple[Crop, ...]) -> Batches:
    """Rows of every batch of this epoch: identity-balanced, or any image when nothing is clustered.

    With ``cluster.outliers: negatives`` an outlier stays a class of the loss and is in no batch.
    """
    train, seed = run.config.train, run.config.seed
    if not run.config.cluster.enabled:
        return uniform_batches(
            len(crops), batch_size=train.batch_size, iterations=train.iterations, seed=seed, epoch=run.epoch
        )
    cameras = known_cameras(crops)
    chosen = pseudo.drop_singletons() if run.config.cluster.outliers == "negatives" else pseudo
    return balanced_batches(
        chosen.labels,
        cameras if cameras is not None else cameras_of(crops),
        batch_size=train.batch_size,
        instances=train.instances,
        iterations=train.iterations,
        camera_aware=run.config.data.camera_aware == "auto" and cameras is not None,
        seed=seed,
        epoch=run.epoch,
    )


def load_crops(
    run: Run, crops: tuple[Crop, ...], batches: Sequence[NDArray[np.int64]], views: tuple[str, ...]
) -> Iterator[TrainBatch]:
    """This process's share of each batch, on its device."""
    for batch in train_batches(crops, batches, run.config.data, views=views, **_how(run)):
        yield batch.to(run.device, channels_last=run.config.train.channels_last)


def choose_scenes(run: Run, pseudo: PseudoLabels, scenes: tuple[Scene, ...]) -> Batches:
    """Every scene once, in a random order; what does not fill a batch waits for the next epoch's order.

    ``train.iterations`` of 1 or more: that many batches. A batch holds no scene twice, and as many for each process.

    Raises:
        ReseenError: fewer scenes than processes.
    """
    train, processes = run.config.train, run.ranks.ranks
    size = min(train.batch_size, len(scenes)) // processes * processes
    if not size:
        raise ReseenError(f"{len(scenes)} scenes cannot be shared by {processes} processes: start fewer")
    iterations = train.iterations or len(scenes) // size
    return uniform_batches(
        len(scenes), batch_size=size, iterations=iterations, seed=run.config.seed, epoch=run.epoch
    )


def load_scenes(
    run: Run, scenes: tuple[Scene, ...], batches: Sequence[NDArray[np.int64]], views: tuple[str, ...]
) -> Iterator[SceneBatch]:
    """This process's share of each batch, on its device. ``views`` is for crops: both paths see one scene."""
    config = run.config
    size = SceneView.of_config(config)
    for batch in scene_batches(scenes, batches, size, flip=config.data.flip, **_how(run)):
        yield batch.to(run.device, channels_last=config.train.channels_last)


def _how(run: Run) -> dict[str, Any]:
    return {
        "seed": run.config.seed,
        "epoch": run.epoch,
        "workers": run.config.data.workers,
        "rank": run.ranks.rank,
        "ranks": run.ranks.ranks,
        "pin": run.device.type == "cuda",
    }
