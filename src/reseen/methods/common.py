"""What methods on crops share: their networks and batches, and the features that are clustered."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reseen.config import Config
from reseen.data import train_batches
from reseen.evaluation.encoders import embed_crops, embedding_batch
from reseen.models import Encoder, build_encoder
from reseen.models.encoders import check_maps
from reseen.records import Crop, PseudoLabels
from reseen.training.feeding import choose_crops, load_crops
from reseen.training.health import SIGNS
from reseen.training.run import Run

AUGMENTED_SALT = 7919  # keeps the clustering views apart from the training views of the same epoch


def crop_encoder(config: Config) -> Encoder:
    encoder = build_encoder(config.model)
    check_maps(encoder, config.data.height, config.data.width)
    return encoder


def rehearse_crops(networks: nn.Module, config: Config, count: int) -> Tensor:
    """Every encoder of ``networks`` on random crops."""
    layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
    images = torch.rand(count, 3, config.data.height, config.data.width).contiguous(memory_format=layout)
    encoders = (part for part in networks.children() if isinstance(part, Encoder))
    return torch.stack([encoder(images).features.sum() for encoder in encoders]).sum()


def advice_on_clusters(run: Run, pseudo: PseudoLabels) -> str:
    """Which knob of clustering to turn where fewer than two classes are left."""
    cluster = run.config.cluster
    outliers = pseudo.num_outliers / max(len(pseudo.labels), 1)
    knob = (
        f"lower cluster.k1 (now {cluster.k1}) for {len(pseudo.labels)} images"
        if len(pseudo.labels) <= 2 * cluster.k1
        else f"raise cluster.eps (now {cluster.eps}) or lower cluster.k1 (now {cluster.k1})"
        if outliers > 0.5
        else f"lower cluster.eps (now {cluster.eps}), or start from better weights (--weights)"
    )
    return (
        f"({outliers:.0%} of the images in none), "
        f"there is nothing to contrast: {knob}, in a new --run; what was saved is kept"
    )


ON_CROPS: dict[str, Any] = {  # what every method on crops shares, by the names of Method's fields
    "encoder": crop_encoder,
    "shipped": lambda config, encoder: encoder,
    "choose": choose_crops,
    "load": load_crops,
    "rehearse": rehearse_crops,
    "advice": advice_on_clusters,
    "signs": SIGNS,
    "draws": 2.0,  # the paper's 400 batches of 64 for the 12,936 images of Market-1501
}


class OneBranch(nn.Module):
    """The networks of the baselines: a single encoder."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def shipped(self) -> Encoder:
        return self.encoder


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
    batches = np.array_split(np.arange(len(crops)), -(-len(crops) // embedding_batch(run.config, run.device)))
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
