"""The state of a run, and the record by which one paper differs from another."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reseen.config import Config
from reseen.data import TrainBatch
from reseen.models import Encoder, autocast
from reseen.records import Crop, Labels, PseudoLabels, cameras_of
from reseen.training.ranks import ALONE, Ranks

Step = Callable[..., None]  # (stage, done, total, note): progress of what runs now


def _silent(stage: str, done: int, total: int, note: str = "") -> None: ...


@dataclass
class Run:
    """Everything that training changes; all of it goes into a checkpoint, but for what is marked.

    ``memory`` holds named tensors ``[M, D]`` or ``[K, D]`` (which ones is the method's business), ``labels``
    the pseudo labels of the current epoch, ``history`` one record per finished epoch.
    """

    config: Config
    networks: Any  # the nn.Module that the method built
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device
    precision: str
    memory: dict[str, Tensor] = field(default_factory=dict)
    labels: Labels = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    step: Step = _silent  # not saved: whoever watches
    ranks: Ranks = ALONE  # not saved: a run goes on with another number of processes
    averaged: nn.Module | None = None  # not saved: averages gradients over them (reseen.training.parallel)

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for the forward pass only: losses are computed in float32, outside of it."""
        return autocast(self.device, self.precision)


@dataclass(frozen=True)
class Method:
    """What one paper does differently; everything else is :func:`reseen.training.train_epoch`.

    ``run.memory`` is theirs alone: ``start`` fills it, ``embed`` may refresh it, ``remember`` and ``update`` move it.
    """

    build: Callable[[Config, Encoder], nn.Module]  # networks around a ready encoder (its weights are loaded)
    deployed: Callable[[nn.Module], Encoder]  # the branch that is evaluated and shipped
    views: Callable[[Config], tuple[str, ...]]  # what a batch holds: "first", "second"
    start: Callable[[Run, tuple[Crop, ...]], None]  # once, before the first epoch
    embed: Callable[[Run, tuple[Crop, ...]], Tensor]  # features [M, D] that are clustered
    assign: Callable[[Run, Tensor, Labels], PseudoLabels]  # (run, features, cameras) -> pseudo labels
    remember: Callable[[Run, Tensor, PseudoLabels], None]  # once an epoch, after clustering
    losses: Callable[[Run, TrainBatch, Tensor], tuple[dict[str, Tensor], dict[str, Tensor]]]
    # (run, batch, labels [N]) -> ({term: scalar}, {memory name: features [N, D]})
    update: Callable[[Run, TrainBatch, Tensor, dict[str, Tensor]], None]  # after optimizer.step()


def learning_rate(config: Config, epoch: int) -> float:
    """Step schedule (CACL, Section 4.2: a tenth every 20 of 80 epochs). ``epoch`` counts from 0."""
    passed = sum(epoch >= max(1, round(share * config.train.epochs)) for share in config.train.lr_steps)
    return config.train.lr * 0.1**passed


def known_cameras(crops: tuple[Crop, ...]) -> Labels | None:
    """Camera of each crop ``[M]``, or None when there are not at least two known cameras."""
    cameras = cameras_of(crops)
    known = np.unique(cameras[cameras >= 0])
    return cameras if len(known) > 1 else None
