"""What a report can show of a run, as records: tasks gather them, :mod:`reseen.reports` draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reseen.config import DataConfig


@dataclass(frozen=True)
class RankedLists:
    """Queries and, nearest first, their gallery images under each model; neighbouring rows share a query.

    ``correct`` says of each gallery image whether it shows the query's person; ``titles`` name the model of a row;
    ``root`` is the folder in which images have their names.
    """

    queries: Sequence[Path]
    answers: Sequence[Sequence[Path]]
    correct: Sequence[Sequence[bool]]
    titles: Sequence[str]
    alt: str
    root: Path = Path()
    name: str = "ranked-lists"
    title: str = "Ranked lists"


@dataclass(frozen=True)
class Views:
    """Images whose augmented views are shown, drawn from ``seed``."""

    paths: Sequence[Path]
    config: DataConfig
    seed: int
    alt: str
    name: str = "augmentation"
    title: str = "What training sees"


@dataclass(frozen=True)
class FeatureMap:
    """The same n images under each model: features ``[n, D]`` and identities ``[n]``, which colour the points.

    ``paths``: the images themselves, where a window of each map is enlarged.
    """

    features: Mapping[str, NDArray[np.float32]]
    identities: NDArray[np.int64]
    seed: int
    title: str
    alt: str
    paths: Sequence[Path] | None = None
    name: str = "tsne"


@dataclass(frozen=True)
class Place:
    """A box ``[4]`` (xyxy, pixels) in the scene at ``path``; ``lines`` stand beside the person.

    ``right``: whether it is the person that was searched for; None: it is the query itself.
    """

    path: Path
    box: NDArray[np.float32]
    lines: tuple[str, ...] = ()
    right: bool | None = None


@dataclass(frozen=True)
class SearchResults:
    """Queries, and for each the places that are most like it, most similar first, ``top`` at most.

    ``root`` is the folder in which scenes have their names.
    """

    queries: Sequence[Place]
    found: Sequence[Sequence[Place]]
    top: int
    alt: str
    root: Path = Path()
    name: str = "search-result"
    title: str = "Search result"


Picture = RankedLists | Views | FeatureMap | SearchResults
