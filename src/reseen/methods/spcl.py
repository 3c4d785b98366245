"""SpCL without a source domain (Ge et al. 2020, arXiv:2006.02713): one encoder, an instance memory, reliable clusters.

A cluster is kept where it hardly changes when eps grows (independence) and hardly changes when eps shrinks
(compactness), against a threshold that the first epoch sets and the best of the cluster
itself; everybody else is a class of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reseen.clustering import dbscan, jaccard_graph, keep_reliable, spcl_alpha, spcl_reliability
from reseen.data import TrainBatch
from reseen.methods.common import (
    ON_CROPS,
    OneBranch,
    contrast,
    embed_clean,
    first_view,
    freeze_centroids,
    memory_centroids,
    only_encoder,
    update_memory,
)
from reseen.methods.labelling import settle_outliers, standardise_per_camera
from reseen.records import Crop, Labels, PseudoLabels
from reseen.training.parallel import shared_neighbours
from reseen.training.run import Method, Run

THRESHOLD = "spcl_alpha"  # least independence, set by the first epoch; kept with the memory, so it is saved


def start(run: Run, crops: tuple[Crop, ...]) -> None:
    run.memory["first"] = embed_clean(run, run.networks.encoder, crops)


def embed(run: Run, crops: tuple[Crop, ...]) -> Tensor:
    """SpCL clusters its memory; ``cluster.features: fresh`` fills it anew each epoch."""
    if run.config.cluster.features == "fresh" and run.epoch > 0:
        start(run, crops)
    return run.memory["first"]


def assign(run: Run, features: Tensor, cameras: Labels) -> PseudoLabels:
    """Three DBSCANs on one graph (Section 3.3 of SpCL). Also sets alpha, once: 90 % of the first clusters pass."""
    c = run.config.cluster
    if c.camera_standardise:
        features = standardise_per_camera(features, cameras)
    neighbours = shared_neighbours(features, c.k1, run.ranks)

    def cluster() -> Labels:
        distances = jaccard_graph(features, k1=c.k1, k2=c.k2, neighbours=neighbours).distances(
            c.eps + c.tight_gap
        )
        labels, loose, tight = (
            dbscan(distances, eps=eps, min_samples=c.min_samples)
            for eps in (c.eps, c.eps + c.tight_gap, c.eps - c.tight_gap)
        )
        independence, compactness = spcl_reliability(labels, loose, tight)
        if THRESHOLD not in run.memory:
            alpha = spcl_alpha(labels, independence)
            run.memory[THRESHOLD] = torch.tensor([alpha], dtype=torch.float64)
        alpha = run.memory[THRESHOLD].item()
        return keep_reliable(labels, independence, compactness, min_independence=alpha)

    kept = run.ranks.broadcast(cluster)
    alpha = run.ranks.broadcast(lambda: run.memory[THRESHOLD].item())
    run.memory[THRESHOLD] = torch.tensor([alpha], dtype=torch.float64)
    return settle_outliers(PseudoLabels.of(kept), c)


def remember(run: Run, features: Tensor, pseudo: PseudoLabels) -> None:
    freeze_centroids(run, "first")


def losses(run: Run, batch: TrainBatch, labels: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The unified contrastive loss: with a constant memory, mean similarity to members = similarity to their mean."""
    with run.autocast():
        x = run.networks.encoder(batch.first).features
    return {"cluster": contrast(run, x, memory_centroids(run, "first"), labels)}, {"first": x}


def update(run: Run, rows: Tensor, labels: Tensor, keys: dict[str, Tensor]) -> None:
    update_memory(run, "first", rows, labels, keys["first"])


METHOD = Method(
    **ON_CROPS,
    build=OneBranch,
    deployed=only_encoder,
    views=first_view,
    start=start,
    embed=embed,
    assign=assign,
    remember=remember,
    losses=losses,
    update=update,
)
