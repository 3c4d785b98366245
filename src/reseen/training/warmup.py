"""A start for data without ImageNet weights: contrast each image with the others of its batch (SimCLR's NT-Xent).

The papers start from ImageNet weights; a small network from scratch needs something in their place. No identity and
no cluster is used. The result is a weight file like any other, for ``--weights``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from reseen.config import Config, DataConfig
from reseen.data import train_batches, uniform_batches
from reseen.data.transforms import LUMA, MEAN, STD
from reseen.errors import ReseenError
from reseen.losses import nt_xent_loss
from reseen.models import Encoder, autocast, build_encoder, resolve_device, resolve_precision
from reseen.records import Crop
from reseen.training.checkpoint import write_tensors
from reseen.training.run import Step


def warm_up(
    config: Config,
    crops: tuple[Crop, ...],
    path: Path,
    *,
    epochs: int,
    batch_size: int = 128,
    lr: float = 2e-3,
    temperature: float = 0.1,
    grey_share: float = 0.3,
    step: Step | None = None,
) -> Encoder:
    """Train one encoder from random weights on two views of each image; write its weights to ``path``.

    Args:
        config: model and data settings; both views are T of ``config.data``.
        grey_share: of the views that lose their colour, so that both branches of CACL find a start they can use.
        epochs: passes over the images; the learning rate falls from ``lr`` to 0 as a cosine.
        temperature: of NT-Xent; 0.1 in SimCLR's Table 5.

    Returns:
        The encoder on the CPU.
    """
    torch.manual_seed(config.seed)
    device = resolve_device(config.train.device)
    precision = resolve_precision(device, config.train.precision)
    encoder = build_encoder(config.model).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=lr, weight_decay=config.train.weight_decay)
    views = replace(config.data, second_view="none")
    iterations = max(1, len(crops) // batch_size)
    encoder.train()
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        drawn = {"seed": config.seed, "epoch": epoch}
        rows = uniform_batches(len(crops), batch_size=batch_size, iterations=iterations, **drawn)
        total = torch.zeros((), device=device)
        choose = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
        for batch in train_batches(
            crops,
            rows,
            views,
            **drawn,
            views=("first", "second"),
            workers=views.workers,
            pin=device.type == "cuda",
        ):
            first, second = (
                _some_grey(images, torch.rand(len(images), generator=choose) < grey_share, views)
                .to(device, non_blocking=True)
                .to(memory_format=torch.channels_last)
                for images in (batch.first, batch.second)
                if images is not None  # both views were asked for
            )
            with autocast(device, precision):
                first, second = encoder(first).features, encoder(second).features
            loss = nt_xent_loss(first, second, temperature=temperature)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.detach()
        if not torch.isfinite(total):  # once an epoch: each look makes an accelerator's host wait
            raise ReseenError(f"warm-up epoch {epoch + 1}: the loss is not finite, lower the learning rate")
        if step is not None:
            step("warm-up", epoch + 1, epochs, f"loss {total.item() / iterations:.3f}")
    encoder = encoder.cpu().eval()
    write_tensors(path, encoder.state_dict(), remedy="free space or choose another folder")
    return encoder


def _some_grey(images: Tensor, chosen: Tensor, config: DataConfig) -> Tensor:
    """Normalised images ``[N, 3, h, w]``; those that are ``chosen`` (bool ``[N]``) lose their colour."""
    mean, std, luma = (torch.tensor(x).view(3, 1, 1) for x in (config.mean or MEAN, config.std or STD, LUMA))
    grey = ((images[chosen] * std + mean) * luma).sum(1, keepdim=True)
    images[chosen] = (grey - mean) / std
    return images
