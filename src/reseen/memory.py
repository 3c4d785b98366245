"""The instance memory: one feature per person, moved by a visible line after ``optimizer.step()``.

It is a plain tensor ``[M, D]``. Nothing here takes part in a gradient.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reseen.compiled import compiled, over_rows


@torch.no_grad()
def momentum_update(memory: Tensor, rows: Tensor, features: Tensor, *, momentum: float = 0.2) -> Tensor:
    r"""Move memory rows towards new features, in place (CACL, Eq. 11 and 12).

    .. math:: v_i \leftarrow \alpha v_i + (1 - \alpha) x_i, \qquad v_i \leftarrow v_i / \|v_i\|

    One after the other in batch order: a row that occurs twice moves twice, and is scaled to unit length in
    between, which is not the same as one step to the mean.

    Args:
        memory: L2-normalised rows v, shape ``[M, D]``. **Changed in place.**
        rows: which row each feature belongs to, int64 ``[N]``, on any device; rows may occur more than once.
        features: L2-normalised rows x, shape ``[N, D]``, any precision; a gradient history is ignored.
        momentum: alpha, the weight of the OLD value (in batch normalisation it is the new one's).

    Returns:
        ``memory`` itself.
    """
    if memory.ndim != 2 or features.ndim != 2 or features.shape[1] != memory.shape[1]:
        raise ValueError(f"features {list(features.shape)} do not fit a memory of shape {list(memory.shape)}")
    if rows.shape != features.shape[:1]:
        raise ValueError(f"{len(features)} features need as many rows, not {list(rows.shape)}")
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum is the weight of the old value, between 0 and 1, not {momentum}")
    if rows.device.type == "cpu" and len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(memory):
        raise ValueError(f"rows {int(rows.min())} to {int(rows.max())} lie outside a memory of {len(memory)}")
    turns = _turns(rows)
    rows, turns = rows.to(memory.device), turns.to(memory.device)
    features = features.detach().to(device=memory.device, dtype=memory.dtype)
    for turn in range(int(turns.max()) + 1 if len(turns) else 0):
        now = turns == turn  # rows that occur once are all served in the first turn
        moved = momentum * memory[rows[now]] + (1 - momentum) * features[now]
        memory[rows[now]] = F.normalize(moved, dim=1)
    return memory


@torch.no_grad()
def cluster_means(memory: Tensor, labels: Tensor, num_clusters: int) -> Tensor:
    r"""Average the memory rows of each cluster (CACL, Eq. 4 and 8). The mean is not scaled to unit length.

    .. math:: u_\ell = \frac{1}{|C^{(\ell)}|} \sum_{i \in C^{(\ell)}} v_i

    Summed in a fixed order, so equal input gives equal bits, on an accelerator too; on the CPU in float64.

    Args:
        memory: rows v, shape ``[M, D]``.
        labels: cluster of each row, int64 ``[M]`` in ``[-1, num_clusters)``, on any device; -1 is left out.
        num_clusters: K.

    Returns:
        ``[K, D]`` on the device and in the precision of ``memory``; a row of zeros for a cluster without
        members.
    """
    if memory.ndim != 2 or labels.shape != memory.shape[:1]:
        raise ValueError(f"a memory {list(memory.shape)} needs one label a row, not {list(labels.shape)}")
    if len(labels) and labels.device.type == "cpu" and int(labels.max()) >= num_clusters:
        raise ValueError(f"label {int(labels.max())} does not fit {num_clusters} clusters")
    order = torch.argsort(labels, stable=True)
    order = order[labels[order] >= 0]
    sizes = torch.bincount(labels[order], minlength=num_clusters)
    if memory.device.type != "cpu":
        return _means_on_device(memory, order.to(memory.device), sizes.to(memory.device))
    means = torch.empty(num_clusters, memory.shape[1], dtype=memory.dtype)
    ends = F.pad(sizes.cumsum(0), (1, 0)).numpy()
    over_rows(partial(_average, memory.numpy(), order.numpy(), ends, means.numpy()), num_clusters)
    return means


def _means_on_device(memory: Tensor, order: Tensor, sizes: Tensor) -> Tensor:
    """Sum runs of equal labels: no atomic additions, whose order would change from call to call."""
    sums = torch.segment_reduce(memory[order], "sum", lengths=sizes, axis=0, initial=0.0)
    return sums / sizes.clamp(min=1)[:, None]


@compiled
def _average(
    memory: NDArray[Any], order: NDArray[Any], ends: NDArray[Any], means: NDArray[Any], start: int, stop: int
) -> None:
    """The same on the CPU, where torch's sum by segments takes twenty times as long."""
    total = np.empty(memory.shape[1], dtype=np.float64)
    for cluster in range(start, stop):
        total[:] = 0
        for place in range(ends[cluster], ends[cluster + 1]):
            row = memory[order[place]]
            for column in range(len(total)):
                total[column] += row[column]
        size = max(1, ends[cluster + 1] - ends[cluster])
        for column in range(len(total)):
            means[cluster, column] = total[column] / size


def _turns(rows: Tensor) -> Tensor:
    """How often the same row has occurred before, for each entry: int64 ``[N]``."""
    order = torch.argsort(rows, stable=True)
    ordered = rows[order]
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    places = torch.arange(len(rows), device=rows.device)
    first = torch.where(starts, places, 0).cummax(dim=0).values
    turns = torch.empty_like(places)
    turns[order] = places - first
    return turns
