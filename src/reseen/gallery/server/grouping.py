"""Groups of a gallery: who is probably one person, by the clustering that ``reseen cluster`` uses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from reseen.config import ClusterConfig
from reseen.gallery.rows import Held
from reseen.methods.labelling import pseudo_labels
from reseen.training.settle import IMAGES_PER_NEIGHBOUR, LEAST_NEIGHBOURS, NEIGHBOURS_PER_EXPANSION

MOST_ROWS = 20_000  # that are grouped
LEAST_ROWS = 8


@dataclass(frozen=True)
class Groups:
    """Row numbers of each group, largest group first, and how many rows are in none. ``held``: of which rows."""

    held: Held
    members: tuple[tuple[int, ...], ...]
    alone: int


def neighbours_for(count: int, config: ClusterConfig) -> ClusterConfig:
    """``config`` with as many neighbours as ``count`` rows bear, and nobody kept who stands alone."""
    by_number = max(count // IMAGES_PER_NEIGHBOUR, LEAST_NEIGHBOURS)
    k1 = min(config.k1 or by_number, by_number, count - 1)
    k2 = max(1, k1 // NEIGHBOURS_PER_EXPANSION)
    return replace(config, features="fresh", outliers="drop", k1=k1, k2=k2)


def groups_of(held: Held, places: NDArray[np.int64], config: ClusterConfig) -> Groups:
    """Group the rows at ``places``, at least :data:`LEAST_ROWS` of them."""
    features = torch.from_numpy(held.vectors(places))
    pseudo = pseudo_labels(features, held.column("camera")[places], neighbours_for(len(places), config))
    rows = held.column("row")[places]
    members = [tuple(rows[pseudo.labels == label].tolist()) for label in range(pseudo.num_clusters)]
    return Groups(held, tuple(sorted(members, key=lambda group: (-len(group), group))), pseudo.num_outliers)
