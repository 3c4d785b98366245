"""Batches of images. The same batches come out whatever the number of worker processes or ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reseen.config import DataConfig
from reseen.data.images import read_image, usable_cpus
from reseen.data.transforms import Transform, resized, training_transform
from reseen.errors import ReseenError
from reseen.records import Crop

VIEWS = ("first", "second")
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class TrainBatch:
    """N rows int64 ``[N]`` of the training crops and their views ``[N, 3, h, w]``; None: not asked for."""

    rows: Tensor
    first: Tensor | None
    second: Tensor | None

    @property
    def persons(self) -> Tensor:
        """Row of each person in arrays ``[M]``: int64 ``[N]``."""
        return self.rows

    def to(self, device: torch.device | str, channels_last: bool = False) -> TrainBatch:
        """The batch on ``device``, images in channels_last layout if asked."""

        def move(images: Tensor | None) -> Tensor | None:
            layout = torch.channels_last if channels_last else torch.contiguous_format
            return None if images is None else images.to(device, non_blocking=True, memory_format=layout)

        return TrainBatch(self.rows.to(device, non_blocking=True), move(self.first), move(self.second))

    def pin_memory(self) -> TrainBatch:
        """The batch in page-locked memory, from which an accelerator copies while the host goes on."""
        first, second = (
            None if images is None else images.pin_memory() for images in (self.first, self.second)
        )
        return TrainBatch(self.rows.pin_memory(), first, second)


def train_batches(
    crops: Sequence[Crop],
    batches: Sequence[ArrayLike],
    config: DataConfig,
    *,
    seed: int,
    epoch: int,
    views: Sequence[str] = VIEWS,
    workers: int = 0,
    rank: int = 0,
    ranks: int = 1,
    position: int = 0,
    pin: bool = False,
) -> Iterator[TrainBatch]:
    """Decode and augment the crops of each batch. Both views of an image come from one decoded image.

    The randomness of a view is a function of (``seed``, ``epoch``, position of the draw in the epoch, view):
    the number of workers and of ranks changes nothing, and the caller's generator is left as it was.

    Args:
        batches: rows ``[N]`` into ``crops`` for every batch of the epoch (see :mod:`reseen.data.samplers`).
        views: ``"first"`` (T) and ``"second"`` (T', then ``config.second_view``), or one of them.
        workers: loader processes; 0 loads in this one, -1 decides by the machine.
        rank, ranks: yield only this rank's contiguous share of each batch, augmented as in the whole.
        position: of the first row in the epoch, where ``batches`` are not the epoch's first.
        pin: page-locked memory, for an accelerator; where loader processes load.

    Raises:
        ReseenError: an image cannot be read (its name and why), or a loader process died.
    """
    chosen = tuple(
        training_transform(config, second=view == "second") if view in views else None for view in VIEWS
    )
    keys = []
    for batch in batches:
        rows = np.asarray(batch, dtype=np.int64)
        low, high = rank * len(rows) // ranks, (rank + 1) * len(rows) // ranks
        keys.append((position + low, rows[low:high]))
        position += len(rows)
    shared_size = (config.height, config.width) if config.zoom == 0 else None
    make = partial(_train_batch, tuple(crops), chosen, shared_size, (seed, epoch))
    yield from _load(make, keys, workers, pin)


def clean_batches(
    crops: Sequence[Crop], transform: Transform, *, batch_size: int, workers: int = 0, pin: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every crop once, in order: rows int64 ``[N]`` and images ``[N, 3, h, w]``; the last may be smaller.

    Raises:
        ReseenError: an image cannot be read (its name and why), or a loader process died.
    """
    rows = np.arange(len(crops), dtype=np.int64)
    keys = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    yield from _load(partial(_clean_batch, tuple(crops), transform), keys, workers, pin)


def resolve_workers(workers: int) -> int:
    """-1 becomes half of the usable cores, one to eight; a single core has nothing to spare."""
    if workers >= 0:
        return workers
    cores = usable_cpus()
    return 0 if cores == 1 else min(8, cores // 2)


def view_seed(seed: int, epoch: int, position: int, view: int) -> int:
    """A well mixed 63-bit seed of one view: splitmix64 (Steele et al. 2014), once per number."""
    state = 0
    for number in (seed, epoch, position, view):
        state = (state ^ number) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state >> 1


def _train_batch(
    crops: tuple[Crop, ...],
    transforms: tuple[Transform | None, ...],
    shared_size: tuple[int, int] | None,
    seeds: tuple[int, int],
    key: tuple[int, NDArray[np.int64]],
) -> TrainBatch:
    start, rows = key
    views: list[list[Tensor]] = [[] for _ in transforms]
    before = torch.get_rng_state()
    try:
        for position, row in enumerate(rows.tolist(), start=start):
            image = read_image(crops[row].path)
            if shared_size is not None:
                image = resized(image, *shared_size)  # once for both views
            for number, transform in enumerate(transforms):
                if transform is not None:
                    # Not torch.manual_seed: that one would reseed the accelerator too.
                    torch.default_generator.manual_seed(view_seed(*seeds, position, number))
                    views[number].append(transform(image))
    finally:
        torch.set_rng_state(before)
    first, second = (torch.stack(images) if images else None for images in views)
    return TrainBatch(torch.from_numpy(rows.copy()), first, second)


def _clean_batch(
    crops: tuple[Crop, ...], transform: Transform, rows: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    images = [transform(read_image(crops[row].path)) for row in rows.tolist()]
    return torch.from_numpy(rows.copy()), torch.stack(images)


@dataclass(frozen=True)
class _Failure:
    """A worker's error on its way to the caller: raised over there, its text would be a traceback."""

    message: str


class _Batches(Dataset[Any]):
    """Item ``i`` is the batch of key ``i``."""

    def __init__(self, make: Any, keys: Sequence[Any]) -> None:
        self.make, self.keys = make, keys

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.make(self.keys[index])
        except ReseenError as error:
            return _Failure(str(error))


def _load(make: Any, keys: Sequence[Any], workers: int, pin: bool) -> Iterator[Any]:
    """``make(key)`` for each key in order, ahead of time in ``workers`` processes and then pinned if asked."""
    workers = min(resolve_workers(workers), len(keys))
    if workers == 0:
        yield from map(make, keys)
        return
    loader = DataLoader(
        _Batches(make, keys),
        batch_size=None,
        num_workers=workers,
        collate_fn=_unchanged,
        pin_memory=pin,
        generator=torch.Generator(),  # else the loader draws from the caller's
    )
    try:
        for batch in loader:
            if isinstance(batch, _Failure):
                raise ReseenError(batch.message)
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) or "Caught" in str(error):
            raise
        raise ReseenError(
            "a loading process ended early, most often for want of (shared) memory: set data.workers=0, "
            "or a smaller train.batch_size"
        ) from error


def _unchanged(batch: Any) -> Any:
    return batch
