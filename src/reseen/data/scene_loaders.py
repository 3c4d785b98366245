"""Batches of scenes with their boxes. The same ones come out whatever the number of worker processes or ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from reseen.data.images import read_image
from reseen.data.loaders import _load, view_seed
from reseen.data.scene_transforms import SceneView, SeenScene, padded, seen_scene
from reseen.records import Labels, Scene


@dataclass(frozen=True)
class SceneBatch:
    """B scenes of one batch, padded to common sides.

    ``images`` float32 ``[B, 3, H, W]``, H and W multiples of 32; ``sizes`` int64 ``[B, 2]`` (height, width before
    padding); ``scales`` float32 ``[B, 2]`` (x, y: pixels of the batch per pixel of the file); ``boxes`` float32
    ``[n, 4]`` of each scene (xyxy, pixels of the batch); ``rows`` int64 ``[n]`` of each scene: the place of each box
    among all boxes of all scenes, which is its row in a memory; ``scenes`` int64 ``[B]``.
    """

    images: Tensor
    sizes: Tensor
    scales: Tensor
    boxes: list[Tensor]
    rows: list[Tensor]
    scenes: Tensor

    @property
    def persons(self) -> Tensor:
        """``rows`` of all scenes, one after the other: int64 ``[N]``."""
        return torch.cat(self.rows) if self.rows else torch.empty_like(self.scenes)

    def to(self, device: torch.device | str, channels_last: bool = False) -> SceneBatch:
        """The batch on ``device``, images in channels_last layout if asked."""
        layout = torch.channels_last if channels_last else torch.contiguous_format

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return SceneBatch(
            self.images.to(device, non_blocking=True, memory_format=layout),
            move(self.sizes),
            move(self.scales),
            [move(boxes) for boxes in self.boxes],
            [move(rows) for rows in self.rows],
            move(self.scenes),
        )


def scene_batches(
    scenes: Sequence[Scene],
    batches: Sequence[ArrayLike],
    size: SceneView,
    *,
    seed: int,
    epoch: int,
    flip: float = 0.5,
    workers: int = 0,
    rank: int = 0,
    ranks: int = 1,
    pin: bool = False,
) -> Iterator[SceneBatch]:
    """Decode, resize and mirror the scenes of each batch.

    A scene is mirrored or not by (``seed``, ``epoch``, its row) alone: the number of workers and of ranks and the
    order of the batches change nothing. Pixels are drawn from nowhere else.

    Args:
        batches: rows into ``scenes`` for every batch, in the order in which they are wanted.
        flip: probability that a scene is mirrored.
        workers: loader processes; 0 loads in this one, -1 decides by the machine.
        rank, ranks: yield only this rank's contiguous share of each batch, which may be empty (B = 0).
        pin: page-locked memory, for an accelerator.

    Raises:
        ReseenError: an image cannot be read (its name and why), or a loader process died.
    """
    keys = []
    for batch in batches:
        rows = np.asarray(batch, dtype=np.int64)
        keys.append(rows[rank * len(rows) // ranks : (rank + 1) * len(rows) // ranks])
    offsets = np.cumsum([0, *(len(scene.boxes) for scene in scenes)], dtype=np.int64)
    make = partial(_make, tuple(scenes), offsets, size, partial(_chance, seed, epoch, flip))
    packed: _Packed
    for packed in _load(make, keys, workers, pin):
        yield packed.unpacked()


def clean_scene_batches(
    scenes: Sequence[Scene], size: SceneView, *, batch_size: int = 1, workers: int = 0
) -> Iterator[SceneBatch]:
    """Every scene once, in order, not mirrored; the last batch may be smaller.

    Boxes of the scenes come with it, so that a scene can carry the box of a query.

    Raises:
        ReseenError: an image cannot be read (its name and why), or a loader process died.
    """
    rows = np.arange(len(scenes), dtype=np.int64)
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return scene_batches(scenes, batches, size, seed=0, epoch=0, flip=0.0, workers=workers)


@dataclass(frozen=True)
class _Packed:
    """A batch on its way out of a worker: few tensors, since each of them costs an open file there."""

    images: Tensor
    sizes: Tensor
    scales: Tensor
    boxes: Tensor  # of all scenes, one after the other
    rows: Tensor
    counts: Tensor  # boxes of each scene
    scenes: Tensor

    def pin_memory(self) -> _Packed:
        """In page-locked memory, from which an accelerator copies while the host goes on."""
        return _Packed(*(tensor.pin_memory() for tensor in vars(self).values()))

    def unpacked(self) -> SceneBatch:
        counts = self.counts.tolist()
        boxes, rows = list(torch.split(self.boxes, counts)), list(torch.split(self.rows, counts))
        if not counts:  # splitting into nothing gives one piece
            boxes, rows = [], []
        return SceneBatch(self.images, self.sizes, self.scales, boxes, rows, self.scenes)


def _make(
    scenes: tuple[Scene, ...],
    offsets: Labels,
    size: SceneView,
    mirrored: Callable[[int], bool],
    key: NDArray[np.int64],
) -> _Packed:
    seen: list[SeenScene] = []
    rows: list[Tensor] = []
    for row in key.tolist():
        boxes = torch.from_numpy(np.array(scenes[row].boxes, dtype=np.float32))
        seen.append(seen_scene(read_image(scenes[row].path), boxes, size, mirrored=mirrored(row)))
        rows.append(seen[-1].kept + int(offsets[row]))
    return _Packed(
        images=padded([scene.image for scene in seen]),
        sizes=torch.tensor([scene.image.shape[1:] for scene in seen], dtype=torch.int64).view(-1, 2),
        scales=torch.cat([torch.empty(0), *(scene.scale for scene in seen)]).view(-1, 2),
        boxes=torch.cat([torch.empty(0, 4), *(scene.boxes for scene in seen)]),
        rows=torch.cat([torch.empty(0, dtype=torch.int64), *rows]),
        counts=torch.tensor([len(scene.boxes) for scene in seen], dtype=torch.int64),
        scenes=torch.from_numpy(key.copy()),
    )


def _chance(seed: int, epoch: int, flip: float, row: int) -> bool:
    return view_seed(seed, epoch, row, 0) < flip * 2**63
