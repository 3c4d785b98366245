"""What a configuration leaves open, decided once before the first epoch and written down with the run."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from reseen.config import Config
from reseen.data.transforms import MEAN, STD
from reseen.device import autocast, resolve_precision
from reseen.models.weights import pixel_statistics

# k1 by the number of images; 30: the paper
IMAGES_PER_NEIGHBOUR, LEAST_NEIGHBOURS, MOST_NEIGHBOURS = 100, 10, 30
NEIGHBOURS_PER_EXPANSION = 5  # k1 / k2: 30 / 6 in the paper
TRIAL_STEPS, TRIAL_IMAGES = 2, 32
GAIN = 0.9  # of float32's time that bf16 may take at most: below that, its rounding buys nothing


def settled(
    config: Config, persons: int, before: Config | None = None, *, draws: float | None = None
) -> Config:
    """``config`` without open values: pixels as the weights were trained, sizes by the number of ``persons``.

    What a run decided holds when it goes on: ``before`` is the configuration of its checkpoint. The precision is
    chosen later (:func:`measured_precision`), for that needs the network. ``draws``: of an image in an epoch, where
    ``train.iterations`` is open; None: it stays open.
    """
    data, cluster, train = config.data, config.cluster, config.train
    if before is not None:
        if not data.mean:
            data = replace(data, mean=before.data.mean, std=before.data.std)
        if not cluster.k1:
            cluster = replace(cluster, k1=before.cluster.k1, k2=before.cluster.k2)
        if not train.iterations:
            train = replace(train, iterations=before.train.iterations)
        if train.precision == "auto":
            train = replace(train, precision=before.train.precision)
        return replace(config, data=data, cluster=cluster, train=train)
    if not data.mean:
        random = config.weights == "none"  # trained on no pixels: ImageNet's, as for our own networks
        mean, std = (MEAN, STD) if random else pixel_statistics(config.model.backbone)
        data = replace(data, mean=mean, std=std)
    if not cluster.k1:
        k1 = min(max(persons // IMAGES_PER_NEIGHBOUR, LEAST_NEIGHBOURS), MOST_NEIGHBOURS)
        cluster = replace(cluster, k1=k1, k2=max(1, k1 // NEIGHBOURS_PER_EXPANSION))
    if not train.iterations and draws is not None:
        train = replace(train, iterations=max(1, math.ceil(draws * persons / train.batch_size)))
    return replace(config, data=data, cluster=cluster, train=train)


def measured_precision(
    networks: nn.Module,
    forward: Callable[[nn.Module, int], Tensor],
    device: torch.device,
    precision: str,
    say: Callable[[str], None],
) -> str:
    """``precision``, where "auto" on a CPU with bf16 units is the faster of bf16 and float32 for this very network.

    Which one it is depends on the layers: depthwise convolutions are up to ten times slower in bf16 (oneDNN), dense
    ones up to twice as fast. Two forward and backward passes of a copy decide, each timed by its faster one.

    Args:
        forward: ``(networks, images)`` to a scalar: one forward pass in training mode over so many random images.
    """
    resolved = resolve_precision(device, precision)
    if precision != "auto" or resolved != "bf16" or device.type != "cpu":
        return resolved
    trial = copy.deepcopy(networks).train()
    seconds = {"none": math.inf, "bf16": math.inf}
    with torch.random.fork_rng(devices=[]):
        for _ in range(TRIAL_STEPS):
            for name in seconds:
                started = time.perf_counter()
                with autocast(device, name):
                    value = forward(trial, TRIAL_IMAGES)
                value.backward()  # type: ignore[no-untyped-call]
                seconds[name] = min(seconds[name], time.perf_counter() - started)
    ratio = seconds["bf16"] / seconds["none"]
    chosen = "bf16" if ratio < GAIN else "none"
    say(f"precision {chosen}: a step in bf16 takes {ratio:.2f} of the time in float32 on this machine")
    return chosen
