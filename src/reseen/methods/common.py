"""What several methods share: embedding for clustering, pseudo labels, one encoder and its memory."""

from __future__ import annotations

from functools import partial
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reseen.clustering import dbscan, jaccard_graph, refine, refine_official
from reseen.config import ClusterConfig, Config
from reseen.data import train_batches
from reseen.evaluation.encoders import BATCH, embed_crops
from reseen.losses import cluster_loss
from reseen.memory import cluster_means, momentum_update
from reseen.models import Encoder, build_encoder
from reseen.records import Crop, Labels, PseudoLabels
from reseen.training.feeding import draw_crops, load_crops
from reseen.training.parallel import shared_neighbours
from reseen.training.ranks import ALONE, Ranks
from reseen.training.run import Run

AUGMENTED_SALT = 7919  # keeps the clustering views apart from the training views of the same epoch
MIN_TO_STANDARDISE = 8  # images of a camera


def crop_encoder(config: Config) -> Encoder:
    return build_encoder(config.model)


ON_CROPS = (crop_encoder, draw_crops, load_crops)  # the first fields of a Method


class OneBranch(nn.Module):
    """The networks of the baselines: a single encoder."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder


def only_encoder(networks: nn.Module) -> Encoder:
    return cast(OneBranch, networks).encoder


def first_view(config: Config) -> tuple[str, ...]:
    return ("first",)


def embed_clean(
    run: Run, encoder: Encoder, crops: tuple[Crop, ...], *, grey: bool = False, stage: str = "embed"
) -> Tensor:
    """Features ``[M, D]`` of the unaugmented images, evaluation mode, on the run's device."""
    own = crops[run.ranks.share(len(crops), BATCH)]  # whole batches, so that they are those of one process
    told = partial(run.step, stage, total=len(own))
    features = embed_crops(encoder, own, run.config, grey=grey, device=run.device, progress=told)
    return run.ranks.gather_rows(features, run.ranks.sizes(len(crops), BATCH)).to(run.device)


@torch.no_grad()
def embed_augmented(run: Run, encoder: Encoder, crops: tuple[Crop, ...], view: str) -> Tensor:
    """Features ``[M, D]`` of one fresh augmentation of every image (CACL, Algorithm 1, lines 3 and 4)."""
    batches = np.array_split(np.arange(len(crops)), -(-len(crops) // BATCH))
    sizes = [sum(map(len, batches[share])) for share in run.ranks.shares(len(batches))]
    own, before = sizes[run.ranks.rank], sum(sizes[: run.ranks.rank])
    encoder.eval()
    features = [torch.empty(0, encoder.dim, device=run.device)]
    for batch in train_batches(
        crops,
        batches[run.ranks.share(len(batches))],
        run.config.data,
        seed=run.config.seed + AUGMENTED_SALT,
        epoch=run.epoch,
        views=(view,),
        workers=run.config.data.workers,
        position=before,
        pin=run.device.type == "cuda",
    ):
        batch = batch.to(run.device, channels_last=run.config.train.channels_last)
        with run.autocast():
            features.append(encoder(getattr(batch, view)).features.float())
        run.step("embed", sum(map(len, features)), own, "")
    return run.ranks.gather_rows(torch.cat(features), sizes)


def pseudo_labels(
    features: Tensor, cameras: Labels, config: ClusterConfig, ranks: Ranks = ALONE
) -> PseudoLabels:
    """k-reciprocal Jaccard, DBSCAN, refinement by Eq. (1): features ``[M, D]`` to pseudo labels (CACL, Section 3.1)."""
    if config.camera_standardise:
        features = standardise_per_camera(features, cameras)
    neighbours = shared_neighbours(features, config.k1, ranks)

    def cluster() -> Labels:
        graph = jaccard_graph(features, k1=config.k1, k2=config.k2, neighbours=neighbours)
        distances = graph.distances(config.eps)
        labels = dbscan(distances, eps=config.eps, min_samples=config.min_samples)
        if config.refine == "none":
            return labels
        tight = dbscan(distances, eps=config.eps - config.tight_gap, min_samples=config.min_samples)
        within = graph.within(labels)
        if config.refine == "paper":
            return refine(labels, tight, within, removed_to=config.removed_to)
        return refine_official(labels, tight, within)

    return settle_outliers(PseudoLabels.of(ranks.from_first(cluster)), config)


def settle_outliers(pseudo: PseudoLabels, config: ClusterConfig) -> PseudoLabels:
    """Images that are alone are kept as classes of their own, or dropped, whichever way they came to be alone."""
    return pseudo.keep_outliers() if config.outliers == "keep" else pseudo.drop_singletons()


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


def memory_centroids(run: Run, name: str) -> Tensor:
    """Cluster means of an instance memory ``[K, D]``, Eq. (4) and (8): now, or as they stood at the epoch's start."""
    if run.config.loss.centroid_update == "epoch":
        return run.memory[f"{name}_centroids"]
    return _means(run, name)


def freeze_centroids(run: Run, name: str) -> None:
    """Centres once per epoch (CACL, Algorithm 1, line 6); nothing to do when they follow every step."""
    if run.config.loss.centroid_update == "epoch":
        run.memory[f"{name}_centroids"] = _means(run, name)


def _means(run: Run, name: str) -> Tensor:
    return cluster_means(run.memory[name], torch.from_numpy(run.labels), int(run.labels.max()) + 1)


def contrast(run: Run, features: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
    """The cluster loss ``[N, D]`` against ``[K, D]`` with the run's temperature and focal exponent."""
    c = run.config.loss
    return cluster_loss(features, centroids, labels, temperature=c.temperature, focal_gamma=c.focal_gamma)


def update_rows(run: Run, name: str, rows: Tensor, features: Tensor) -> None:
    """Eq. (11) and (12) on one memory, in batch order."""
    momentum_update(run.memory[name], rows, features.detach().float(), momentum=run.config.loss.momentum)
