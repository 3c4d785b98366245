"""The camera-aware term: the centres of a cluster in each camera, in the manner of CAP (Wang et al. 2021,
arXiv:2012.10674). It reads camera ids, and is off unless ``loss.camera_weight`` is above 0.

A cluster's centre lies in the camera that took most of its images, and the cluster loss pulls the others there. A
centre for each camera gives every view of the person the same pull.
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

CAMERAS = "cameras"  # int64 [M], -1 = unknown
CENTRES = "camera_centres"  # [P, D], unit rows: one per cluster and camera that has images of it
CENTRE_OF = "camera_centre_of"  # int64 [M], centre of each image; -1 = in no cluster
CLUSTER_OF = "cluster_of_camera_centre"  # int64 [P]


def keep_cameras(run: Run, crops: tuple[Crop, ...]) -> None:
    """Who took each image. Raises ReseenError where no camera is known."""
    cameras = cameras_of(crops)
    if not (cameras >= 0).any():
        raise ReseenError(
            "loss.camera_weight needs cameras, and no image has one: name them (docs/data.md), or leave it 0"
        )
    run.memory[CAMERAS] = torch.from_numpy(cameras)


def split_by_camera(run: Run, memory: Tensor, pseudo: PseudoLabels) -> None:
    """Centres of an epoch: means of the rows ``[M, D]`` of each (cluster, camera), as unit vectors.

    Images of an unknown camera are those of one more camera.
    """
    cameras = run.memory[CAMERAS].cpu().numpy()
    inside = pseudo.labels >= 0
    pairs, numbers = np.unique(
        np.stack([pseudo.labels[inside], cameras[inside]], axis=1), axis=0, return_inverse=True
    )
    centre_of = np.full(len(cameras), -1, dtype=np.int64)
    centre_of[inside] = numbers.ravel()
    rows = torch.from_numpy(centre_of)
    run.memory[CENTRES] = F.normalize(cluster_means(memory, rows, len(pairs)), dim=1)
    run.memory[CENTRE_OF] = rows.to(memory.device)
    run.memory[CLUSTER_OF] = torch.from_numpy(pairs[:, 0].copy()).to(memory.device)


def camera_term(run: Run, features: Tensor, labels: Tensor) -> Tensor:
    """The weighted loss of features ``[N, D]`` with pseudo labels ``[N]``."""
    value = camera_loss(features, run.memory[CENTRES], labels, run.memory[CLUSTER_OF])
    return run.config.loss.camera_weight * value


def move_centres(run: Run, rows: Tensor, features: Tensor) -> None:
    """Every image moves the centre of its cluster in its camera, in batch order."""
    c = run.config.loss
    momentum_update(
        run.memory[CENTRES], run.memory[CENTRE_OF][rows], features.detach().float(), momentum=c.momentum
    )
