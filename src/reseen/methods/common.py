"""What several methods share: embedding for clustering, pseudo labels, one encoder and its memory."""

from __future__ import annotations

from functools import partial
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reseen.config import Config
from reseen.data import train_batches
from reseen.evaluation.encoders import embed_crops, embedding_batch
from reseen.losses import cluster_loss
from reseen.memory import cluster_means, momentum_update
from reseen.models import Encoder, build_encoder
from reseen.records import Crop
from reseen.training.feeding import draw_crops, load_crops
from reseen.training.run import Run

AUGMENTED_SALT = 7919  # keeps the clustering views apart from the training views of the same epoch


def crop_encoder(config: Config) -> Encoder:
    return build_encoder(config.model)


def rehearse_crops(networks: nn.Module, config: Config, count: int) -> Tensor:
    """Every encoder of ``networks`` on random crops."""
    images = torch.rand(count, 3, config.data.height, config.data.width)
    layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
    images = images.contiguous(memory_format=layout)
    encoders = [part for part in networks.children() if isinstance(part, Encoder)]
    return torch.stack([encoder(images).features.sum() for encoder in encoders]).sum()


ON_CROPS = (crop_encoder, draw_crops, load_crops, rehearse_crops)  # the first fields of a Method


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
    size = embedding_batch(run.config, run.device)
    own = crops[run.ranks.share(len(crops), size)]  # whole batches, so that they are those of one process
    told = partial(run.step, stage, total=len(own))
    features = embed_crops(encoder, own, run.config, grey=grey, device=run.device, progress=told)
    return run.ranks.gather_rows(features, run.ranks.sizes(len(crops), size)).to(run.device)


@torch.no_grad()
def embed_augmented(run: Run, encoder: Encoder, crops: tuple[Crop, ...], view: str) -> Tensor:
    """Features ``[M, D]`` of one fresh augmentation of every image (CACL, Algorithm 1, lines 3 and 4)."""
    size = embedding_batch(run.config, run.device)
    batches = np.array_split(np.arange(len(crops)), -(-len(crops) // size))
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


def memory_centroids(run: Run, name: str) -> Tensor:
    """Centres ``[K, D]``, Eq. (4) and (8): means of the instance memory now, or as they stood at the epoch's start, or
    moved since then by each query."""
    if run.config.loss.centroid_update == "step":
        return _means(run, name)
    return run.memory[f"{name}_centroids"]


def freeze_centroids(run: Run, name: str) -> None:
    """Centres once per epoch (CACL, Algorithm 1, line 6); nothing to do when they follow every step.

    A cluster-level memory (``momentum``) starts from them as unit vectors, as Cluster Contrast's does.
    """
    kind = run.config.loss.centroid_update
    if kind != "step":
        means = _means(run, name)
        run.memory[f"{name}_centroids"] = F.normalize(means, dim=1) if kind == "momentum" else means


def _means(run: Run, name: str) -> Tensor:
    return cluster_means(run.memory[name], torch.from_numpy(run.labels), int(run.labels.max()) + 1)


def contrast(run: Run, features: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
    """The cluster loss ``[N, D]`` against ``[K, D]`` with the run's temperature and focal exponent."""
    c = run.config.loss
    return cluster_loss(features, centroids, labels, temperature=c.temperature, focal_gamma=c.focal_gamma)


def update_memory(run: Run, name: str, rows: Tensor, labels: Tensor, features: Tensor) -> None:
    """Eq. (11) and (12) on one memory, in batch order; each query also moves its centre where that is a memory."""
    c, moved = run.config.loss, features.detach().float()
    momentum_update(run.memory[name], rows, moved, momentum=c.momentum)
    if c.centroid_update == "momentum":
        momentum_update(run.memory[f"{name}_centroids"], labels, moved, momentum=c.momentum)
