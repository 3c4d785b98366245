"""An encoder on a data set: the one way in which commands, reports and runs embed and score."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reseen.config import Config
from reseen.data import clean_transform, grey_transform
from reseen.device import precision_here
from reseen.errors import ReseenError
from reseen.evaluation.protocol import open_test
from reseen.evaluation.reid import evaluate_features
from reseen.metrics import ReidScores
from reseen.models import Encoder, resolve_device, resolve_precision
from reseen.models.embedding import embed
from reseen.records import Crop, ReidData

BATCH = 128  # images, on an accelerator
# On a CPU, 32 images of 128x64: larger maps are given back to the system after every layer.
BATCH_PIXELS = 2**18
Keep = Callable[[NDArray[np.float64]], None]  # is given the average precision of each query [Q]


def sees_grey(config: Config, branch: str) -> bool:
    """Whether a branch was trained on grey images, so that it is shown grey ones unless somebody asks otherwise."""
    return branch == "second" and config.data.second_view == "grey"


def embedding_batch(config: Config, device: torch.device) -> int:
    """How many images go through a network together while embedding."""
    if device.type != "cpu":
        return BATCH
    return min(BATCH, max(1, BATCH_PIXELS // (config.data.height * config.data.width)))


def embed_crops(
    encoder: Encoder,
    crops: tuple[Crop, ...],
    config: Config,
    *,
    grey: bool = False,
    device: torch.device | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Features ``[M, D]``, on the CPU, of clean images in the size and precision that ``config`` names.

    Args:
        device: where to compute; None is the device that ``config`` names.
    """
    if device is None:
        device, precision = available(config)
    else:
        precision = resolve_precision(device, config.train.precision)
    return embed(
        encoder,
        crops,
        grey_transform(config.data) if grey else clean_transform(config.data),
        batch_size=embedding_batch(config, device),
        device=device,
        precision=precision,
        workers=config.data.workers,
        progress=progress,
    )


def available(config: Config) -> tuple[torch.device, str]:
    """The device and precision of ``config``, or this machine's own: a model trained elsewhere is used here."""
    try:
        device = resolve_device(config.train.device)
    except ReseenError:
        device = resolve_device("auto")
    return device, precision_here(device, config.train.precision)


def evaluate_encoder(encoder: Encoder, images: ReidData, config: Config) -> ReidScores:
    """Score an encoder on the query and gallery of ``images``, by the Market-1501 protocol.

    Raises:
        ReseenError: ``images`` has no test split, or none that can be scored.
    """
    test = open_test(images)
    query, gallery = (embed_crops(encoder, part.crops, config) for part in (test.query, test.gallery))
    return evaluate_features(query, gallery, test.query, test.gallery, same_pictures=test.same_pictures)


def as_record(scores: ReidScores) -> dict[str, float]:
    """``mean_ap`` and ``rank<k>`` as fractions, the way result files have them."""
    return {"mean_ap": scores.mean_ap, **{f"rank{rank}": value for rank, value in scores.cmc.items()}}
