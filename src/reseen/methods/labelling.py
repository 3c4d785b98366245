"""Pseudo labels as CACL makes them, and what SpCL shares of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reseen.clustering import dbscan, jaccard_graph, refine, refine_official, refined_parts
from reseen.config import ClusterConfig
from reseen.distributed import ALONE, Ranks
from reseen.records import OUTLIER, Labels, PseudoLabels
from reseen.training.parallel import shared_neighbours
from reseen.training.run import Run

MIN_TO_STANDARDISE = 8  # images of a camera


def assign(run: Run, features: Tensor, cameras: Labels) -> PseudoLabels:
    """CACL, Algorithm 1, line 5. Without clustering (Table 7, first row) nobody gets a label."""
    if not run.config.cluster.enabled:
        return PseudoLabels(np.full(len(features), OUTLIER, dtype=np.int64))
    return pseudo_labels(features, cameras, run.config.cluster, run.ranks)


def pseudo_labels(
    features: Tensor, cameras: Labels, config: ClusterConfig, ranks: Ranks = ALONE
) -> PseudoLabels:
    """k-reciprocal Jaccard, DBSCAN, refinement by Eq. (1): features ``[M, D]`` to pseudo labels (CACL, Section 3.1)."""
    if config.camera_standardise:
        features = standardise_per_camera(features, cameras)
    neighbours = shared_neighbours(features, config.k1, ranks)

    parts: list[int] = []

    def cluster() -> Labels:
        graph = jaccard_graph(features, k1=config.k1, k2=config.k2, neighbours=neighbours)
        distances = graph.distances(config.eps)
        labels = dbscan(distances, eps=config.eps, min_samples=config.min_samples)
        if config.refine == "none":
            return labels
        tight = dbscan(distances, eps=config.eps - config.tight_gap, min_samples=config.min_samples)
        within = graph.within(labels)
        refined = (
            refine(labels, tight, within, removed_to=config.removed_to)
            if config.refine == "paper"
            else refine_official(labels, tight, within)
        )
        parts[:] = refined_parts(labels, tight, refined)
        return refined

    pseudo = PseudoLabels.of(ranks.broadcast(cluster))
    if config.refine != "none":
        left, stayed = ranks.broadcast(lambda: np.array(parts)).tolist()
        pseudo = replace(pseudo, parts_left=left, parts_stayed=stayed)
    return settle_outliers(pseudo, config)


def settle_outliers(pseudo: PseudoLabels, config: ClusterConfig) -> PseudoLabels:
    """Outliers become classes of their own (drawn or not: ``choose_crops``), or are dropped, whichever
    way they became outliers."""
    return pseudo.drop_singletons() if config.outliers == "drop" else pseudo.keep_outliers()


def standardise_per_camera(features: Tensor, cameras: Labels) -> Tensor:
    """Z-score each dimension within each camera, then L2-normalise: ``[M, D]`` to ``[M, D]``.

    For data where features tell the camera before the person, so that clusters hold one camera only.
    """
    result = features.clone()  # a camera of too few images to standardise keeps what it has
    for camera in np.unique(cameras):
        rows = torch.from_numpy(np.flatnonzero(cameras == camera)).to(features.device)
        if len(rows) >= MIN_TO_STANDARDISE:
            part = features[rows]
            result[rows] = (part - part.mean(0)) / (part.std(0, unbiased=False) + 1e-6)
    result = torch.where(result.norm(dim=1, keepdim=True) > 1e-6, result, features)
    return F.normalize(result, dim=1)
