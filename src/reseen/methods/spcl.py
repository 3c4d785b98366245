"""SpCL without a source domain (Ge et al. 2020, arXiv:2006.02713): one encoder, an instance memory, reliable clusters.

A cluster is kept where it hardly changes when eps grows (independence) and hardly changes when eps shrinks
(compactness), against thresholds that the first epoch sets; everybody else is a class of their own.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from reseen.clustering import dbscan, jaccard_graph, keep_reliable, spcl_reliability, spcl_thresholds
from reseen.config import Config
from reseen.data import TrainBatch
from reseen.losses import cluster_loss
from reseen.methods.common import (
    OneBranch,
    embed_clean,
    freeze_centroids,
    memory_centroids,
    settle_outliers,
    standardise_per_camera,
    update_rows,
)
from reseen.models import Encoder
from reseen.records import Crop, Labels, PseudoLabels
from reseen.training.run import Method, Run

THRESHOLDS = (
    "spcl_thresholds"  # (independence, compactness) of the first epoch; part of the memory, so it is saved
)


def start(run: Run, crops: tuple[Crop, ...]) -> None:
    run.memory["first"] = embed_clean(run, run.networks.encoder, crops)


def embed(run: Run, crops: tuple[Crop, ...]) -> Tensor:
    """SpCL clusters its memory; ``cluster.features: fresh`` embeds anew."""
    if run.config.cluster.features == "memory":
        return run.memory["first"]
    return embed_clean(run, run.networks.encoder, crops)


def assign(run: Run, features: Tensor, cameras: Labels) -> PseudoLabels:
    """Three DBSCANs on one graph; thresholds come from the first epoch and stay (Section 3.3 of SpCL)."""
    c = run.config.cluster
    if c.camera_standardise:
        features = standardise_per_camera(features, cameras)
    distances = jaccard_graph(features, k1=c.k1, k2=c.k2).distances(c.eps + c.tight_gap)
    labels, loose, tight = (
        dbscan(distances, eps=eps, min_samples=c.min_samples)
        for eps in (c.eps, c.eps + c.tight_gap, c.eps - c.tight_gap)
    )
    independence, compactness = spcl_reliability(labels, loose, tight)
    if THRESHOLDS not in run.memory:
        run.memory[THRESHOLDS] = torch.tensor(
            spcl_thresholds(labels, independence, compactness), dtype=torch.float64
        )
    least_independence, least_compactness = run.memory[THRESHOLDS].tolist()
    kept = keep_reliable(
        labels,
        independence,
        compactness,
        min_independence=least_independence,
        min_compactness=least_compactness,
    )
    return settle_outliers(PseudoLabels.of(kept), c)


def remember(run: Run, features: Tensor, pseudo: PseudoLabels) -> None:
    freeze_centroids(run, "first")


def losses(run: Run, batch: TrainBatch, labels: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The unified contrastive loss: with a constant memory, mean similarity to members = similarity to their mean."""
    with run.autocast():
        x = run.networks.encoder(batch.first).features
    c = run.config.loss
    loss = cluster_loss(
        x, memory_centroids(run, "first"), labels, temperature=c.temperature, focal_gamma=c.focal_gamma
    )
    return {"cluster": loss}, {"first": x}


def update(run: Run, batch: TrainBatch, labels: Tensor, keys: dict[str, Tensor]) -> None:
    update_rows(run, "first", batch.rows, keys["first"])


def build(config: Config, encoder: Encoder) -> OneBranch:
    return OneBranch(encoder)


METHOD = Method(
    build=build,
    deployed=lambda networks: cast(OneBranch, networks).encoder,
    views=lambda config: ("first",),
    start=start,
    embed=embed,
    assign=assign,
    remember=remember,
    losses=losses,
    update=update,
)
