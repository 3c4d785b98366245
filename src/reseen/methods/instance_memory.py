"""A memory row for every image, of each branch that there is; its centroids, and how both move."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reseen.memory import cluster_means, momentum_update
from reseen.training.run import Run

BRANCHES = ("first", "second")  # the names of the memories


def centroids(run: Run) -> dict[str, Tensor]:
    """``[K, D]`` by branch, Eq. (4) and (8) of CACL: means of its memory now, or as they stood at the epoch's start, or
    moved since then by each query."""
    if run.config.loss.centroid_update == "step":
        return {name: _means(run, name) for name in _remembered(run)}
    return {name: run.memory[f"{name}_centroids"] for name in _remembered(run)}


def freeze_centroids(run: Run) -> None:
    """Centroids once per epoch (CACL, Algorithm 1, line 6); nothing to do when they follow every step.

    A cluster-level memory (``momentum``) starts from them as unit vectors, as Cluster Contrast's does.
    """
    moves = run.config.loss.centroid_update
    for name in _remembered(run) if moves != "step" else ():
        means = _means(run, name)
        run.memory[f"{name}_centroids"] = F.normalize(means, dim=1) if moves == "momentum" else means


def update_memories(run: Run, rows: Tensor, labels: Tensor, keys: dict[str, Tensor]) -> None:
    """Eq. (11) and (12) of CACL, in batch order; each query also moves its centroid where that is a memory."""
    c = run.config.loss
    for name in _remembered(run):
        moved = keys[name].detach().float()
        momentum_update(run.memory[name], rows, moved, momentum=c.momentum)
        if c.centroid_update == "momentum":
            momentum_update(run.memory[f"{name}_centroids"], labels, moved, momentum=c.momentum)


def _remembered(run: Run) -> list[str]:
    return [name for name in BRANCHES if name in run.memory]


def _means(run: Run, name: str) -> Tensor:
    return cluster_means(run.memory[name], torch.from_numpy(run.labels), int(run.labels.max()) + 1)
