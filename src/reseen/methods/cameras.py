"""The camera-aware term: the centroids of a cluster in each camera, in the manner of CAP (Wang et al. 2021,
arXiv:2012.10674). It reads camera ids, and is off unless ``loss.camera_weight`` is above 0.

A cluster's centroid lies in the camera that took most of its images, and the cluster loss pulls the others there. A
centroid for each camera gives every view of the person the same pull.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reseen.errors import ReseenError
from reseen.losses import camera_loss
from reseen.memory import cluster_means, momentum_update
from reseen.records import Crop, PseudoLabels, cameras_of
from reseen.training.run import Run

# Their names in checkpoints; runs that have them go on.
CAMERAS = "cameras"  # int64 [M], -1 = unknown
CENTROIDS = "camera_centres"  # [P, D], unit rows: one per cluster and camera that has images of it
CENTROID_OF = "camera_centre_of"  # int64 [M], centroid of each image; -1 = in no cluster
CLUSTER_OF = "cluster_of_camera_centre"  # int64 [P]


def start(run: Run, crops: tuple[Crop, ...]) -> None:
    """Who took each image. Raises ReseenError where no camera is known."""
    if not run.config.loss.camera_weight:
        return
    cameras = cameras_of(crops)
    if not (cameras >= 0).any():
        raise ReseenError(
            "loss.camera_weight needs cameras, and no image has one: name them (docs/data.md), or leave it 0"
        )
    run.memory[CAMERAS] = torch.from_numpy(cameras)


def remember(run: Run, pseudo: PseudoLabels) -> None:
    """Centroids of an epoch: means of the remembered rows ``[M, D]`` of each (cluster, camera), as unit vectors.

    Images of an unknown camera are those of one more camera.
    """
    if not run.config.loss.camera_weight:
        return
    memory = run.memory["first"]
    cameras = run.memory[CAMERAS].cpu().numpy()
    inside = pseudo.labels >= 0
    pairs, numbers = np.unique(
        np.stack([pseudo.labels[inside], cameras[inside]], axis=1), axis=0, return_inverse=True
    )
    centroid_of = np.full(len(cameras), -1, dtype=np.int64)
    centroid_of[inside] = numbers.ravel()
    rows = torch.from_numpy(centroid_of)
    run.memory[CENTROIDS] = F.normalize(cluster_means(memory, rows, len(pairs)), dim=1)
    run.memory[CENTROID_OF] = rows.to(memory.device)
    run.memory[CLUSTER_OF] = torch.from_numpy(pairs[:, 0].copy()).to(memory.device)


def losses(run: Run, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The term, times its weight, of features ``[N, D]`` with pseudo labels ``[N]``."""
    weight = run.config.loss.camera_weight
    if not weight:
        return {}
    loss = camera_loss(features, run.memory[CENTROIDS], labels, run.memory[CLUSTER_OF])
    return {"camera": weight * loss}


def update(run: Run, rows: Tensor, keys: dict[str, Tensor]) -> None:
    """Every image moves the centroid of its cluster in its camera, in batch order."""
    c = run.config.loss
    if c.camera_weight:
        features = keys["first"].detach().float()
        momentum_update(run.memory[CENTROIDS], run.memory[CENTROID_OF][rows], features, momentum=c.momentum)
