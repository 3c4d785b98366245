"""Small runs of R-SiamNet for tests, and steps of them by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reseen.config import Config
from reseen.data import SceneBatch, SceneView
from reseen.data.scene_loaders import scene_batches
from reseen.methods.r_siamnet import METHOD
from reseen.records import Scene
from reseen.training import Run, fit, new_run
from scene_worlds import scene
from worlds import tiny_search

ALL_OFF = ("search.self_instance=false", "search.inter_instance=false", "search.cluster=false")
DETECTION = {
    "reppoints": ["classification", "init", "refine"],
    "retinanet": ["classification", "box"],
    "faster-rcnn": ["objectness", "proposal_box", "classification", "box"],
}


def quiet_fit(
    folder: Path,
    scenes: Sequence[Scene],
    *settings: str,
    resume: bool = False,
    method: Any = METHOD,
    watch=None,
) -> Run:
    return fit(
        tiny_search(*settings),
        tuple(scenes),
        method,
        folder=folder,
        root=scenes[0].path.parent,
        weights="none",
        resume=resume,
        watch=watch,
        say=lambda line: None,
    )


def begun(config: Config, scenes: tuple[Scene, ...]) -> Run:
    """A run before its first step: everybody in the memory, and alone."""
    run = new_run(config, METHOD, weights="none", say=lambda line: None)
    METHOD.start(run, scenes)
    run.labels = METHOD.assign(run, METHOD.embed(run, scenes), np.zeros(0, np.int64)).labels
    return run


def first_batch(run: Run, scenes: tuple[Scene, ...], rows: Sequence[int], flip: float = 0.5) -> SceneBatch:
    size = SceneView.of_config(run.config)
    batch = next(scene_batches(scenes, [list(rows)], size, seed=1, epoch=0, flip=flip))
    return batch.to("cpu", channels_last=True)


def terms_of(run: Run, batch: SceneBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    run.networks.train()
    return METHOD.losses(run, batch, torch.from_numpy(run.labels)[batch.persons])


def weights(run: Run) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in run.networks.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def curve(run: Run) -> list[dict[str, float]]:
    return [record["loss"] for record in run.history]


def blocks(folder: Path, *counts: int, first: int = 0) -> tuple[Scene, ...]:
    """Scenes of 96 x 64 pixels with so many persons each."""
    return tuple(
        scene(
            folder / f"{first + n}.png",
            [(4 + 11 * i % 70, 3 + 7 * i % 30, 12, 26) for i in range(count)],
            (96, 64),
        )
        for n, count in enumerate(counts)
    )
