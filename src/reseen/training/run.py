"""The state of a run, and the record by which one paper differs from another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reseen.config import Config
from reseen.distributed import ALONE, Ranks
from reseen.models import autocast
from reseen.records import Crop, Labels, PseudoLabels, Scene, cameras_of


class Batch(Protocol):
    """What the epoch asks of a batch, of crops or of scenes."""

    @property
    def persons(self) -> Tensor:
        """Row of each person in arrays ``[M]``: int64 ``[N]``."""


Images = TypeVar("Images", tuple[Crop, ...], tuple[Scene, ...])  # a method is written for one of them
SomeBatch = TypeVar("SomeBatch", bound=Batch)
Batches = Sequence[NDArray[np.int64]]  # rows into the images, a batch each
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


def _nothing(*_: Any) -> None: ...


def _no_views(config: Config) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Method(Generic[Images, SomeBatch]):
    """What one paper does differently; everything else is :func:`reseen.training.train_epoch`.

    ``run.memory`` is theirs alone: ``start`` fills it, ``embed`` may refresh it, ``remember`` and ``update`` move it.
    """

    # what it works on: crops share these (reseen.methods.common.ON_CROPS)
    encoder: Callable[[Config], nn.Module]  # what the weights of a run are loaded into
    shipped: Callable[[Config, Any], nn.Module]  # an encoder as it is used after training
    choose: Callable[[Run, PseudoLabels, Images], Batches]  # which persons are in which batch of this epoch
    load: Callable[
        [Run, Images, Batches, tuple[str, ...]], Iterator[SomeBatch]
    ]  # this process's share of them
    rehearse: Callable[[Any, Config, int], Tensor]  # forward pass of so many random images, to a scalar
    advice: Callable[[Run, PseudoLabels], str]  # what to do where fewer than two classes are left
    signs: tuple[Callable[..., str | None], ...] = ()  # of trouble to come (reseen.training.health)
    draws: float | None = None  # of an image in an epoch whose iterations are auto; None: `choose` knows
    groups_batch: bool = True  # whether its batch norm sees groups of model.bn_group_size images

    # what it computes
    build: Callable[[Config, Any], nn.Module]  # networks around the encoder
    deployed: Callable[[Any], Any]  # networks to the part that is evaluated and shipped
    views: Callable[[Config], tuple[str, ...]] = _no_views  # what a batch of crops holds: "first", "second"
    start: Callable[[Run, Images], None] = _nothing  # once, before the first epoch
    embed: Callable[[Run, Images], Tensor]  # features [M, D] that are clustered
    assign: Callable[[Run, Tensor, Labels], PseudoLabels]  # (run, features, cameras) -> pseudo labels
    remember: Callable[[Run, Tensor, PseudoLabels], None] = _nothing  # once an epoch, after clustering
    losses: Callable[[Run, SomeBatch, Tensor], tuple[dict[str, Tensor], dict[str, Tensor]]]
    # (run, batch, labels [N]) -> ({term: scalar}, {memory name: features [N, D]})
    update: Callable[[Run, Tensor, Tensor, dict[str, Tensor]], None] = _nothing
    # (run, rows [N], labels [N], features), after optimizer.step()


def learning_rate(config: Config, epoch: int, step: int | None = None) -> float:
    """Step schedule (CACL, Section 4.2: a tenth every 20 of 80 epochs). ``epoch`` counts from 0.

    ``step`` counts the run's steps from 1: the first ``train.warmup`` of them rise in a line from a third.
    """
    train = config.train
    passed = sum(epoch >= max(1, round(share * train.epochs)) for share in train.lr_steps)
    rising = 1.0 if step is None or step > train.warmup else 1 / 3 + 2 / 3 * step / train.warmup
    return train.lr * 0.1**passed * rising


def known_cameras(images: tuple[Crop, ...] | tuple[Scene, ...]) -> Labels | None:
    """Camera of each person ``[M]``, or None when there are not at least two known cameras."""
    cameras = cameras_of(images)
    known = np.unique(cameras[cameras >= 0])
    return cameras if len(known) > 1 else None
