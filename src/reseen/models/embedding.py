"""Features of many crops: the network in evaluation mode, images without augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reseen.data.loaders import clean_batches
from reseen.device import autocast, resolve_device, resolve_precision
from reseen.models.encoders import Encoder, evaluation_mode
from reseen.models.folding import folded
from reseen.records import Crop


def embed(
    encoder: Encoder,
    crops: Sequence[Crop],
    transform: Callable[[Tensor], Tensor],
    *,
    batch_size: int,
    device: str | torch.device = "auto",
    precision: str = "auto",
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """L2-normalised features ``[M, D]``, float32 on the CPU, in the order of ``crops``.

    The encoder is moved to ``device``; its training mode is what it was before when this returns or raises.
    ``progress`` is called with the number of images done.
    """
    device = resolve_device(device)
    precision = resolve_precision(device, precision)
    encoder.to(device)
    features = torch.empty(len(crops), encoder.dim)
    done = 0
    with evaluation_mode(encoder), torch.inference_mode():
        pin = device.type == "cuda"
        network = folded(encoder).to(memory_format=torch.channels_last)
        for rows, images in clean_batches(crops, transform, batch_size=batch_size, workers=workers, pin=pin):
            images = images.to(device, non_blocking=True, memory_format=torch.channels_last)
            with autocast(device, precision):
                features[rows] = network(images).features.float().cpu()
            done += len(rows)
            if progress is not None:
                progress(done)
    return features
