"""Cluster Contrast (Dai et al. 2021, arXiv:2103.11568): one encoder and one memory row per cluster.

Each epoch embeds the clean images, clusters them, drops outliers and rebuilds the centroids from those same
features; during the epoch each query moves the row of its cluster.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reseen.data import TrainBatch
from reseen.memory import cluster_means, momentum_update
from reseen.methods.common import (
    ON_CROPS,
    OneBranch,
    contrast,
    embed_clean,
    first_view,
    only_encoder,
)
from reseen.methods.labelling import pseudo_labels
from reseen.records import Crop, Labels, PseudoLabels
from reseen.training.run import Method, Run


def embed(run: Run, crops: tuple[Crop, ...]) -> Tensor:
    return embed_clean(run, run.networks.encoder, crops)


def assign(run: Run, features: Tensor, cameras: Labels) -> PseudoLabels:
    return pseudo_labels(features, cameras, run.config.cluster, run.ranks)


def remember(run: Run, features: Tensor, pseudo: PseudoLabels) -> None:
    """Centroids are unit vectors: the normalised mean of each cluster."""
    means = cluster_means(features, torch.from_numpy(pseudo.labels), pseudo.num_clusters)
    run.memory["centroids"] = F.normalize(means, dim=1)


def losses(run: Run, batch: TrainBatch, labels: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """ClusterNCE: cross-entropy over the similarities to all centroids."""
    with run.autocast():
        x = run.networks.encoder(batch.first).features
    return {"cluster": contrast(run, x, run.memory["centroids"], labels)}, {"centroids": x}


def update(run: Run, rows: Tensor, labels: Tensor, keys: dict[str, Tensor]) -> None:
    """Every query moves the row of its cluster, in batch order."""
    momentum_update(
        run.memory["centroids"], labels, keys["centroids"].detach().float(), momentum=run.config.loss.momentum
    )


METHOD = Method(
    **ON_CROPS,
    build=OneBranch,
    deployed=only_encoder,
    views=first_view,
    embed=embed,
    assign=assign,
    remember=remember,
    losses=losses,
    update=update,
)
