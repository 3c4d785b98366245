"""``reseen bench``: how fast this machine clusters, evaluates and trains. reseen alone, on data drawn for it.

What is compared with others, and how, is in docs/performance.md; this says what to expect here.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reseen.clustering import dbscan, jaccard_graph, nearest_neighbours, refine
from reseen.config import Config, resolve
from reseen.errors import ReseenError
from reseen.methods.cacl import METHOD
from reseen.metrics import reid_scores
from reseen.models import resolve_device
from reseen.records import Labels, PseudoLabels
from reseen.street import draw_crops
from reseen.training import Run, new_run, train_epoch

DIM, LATENT = 2048, 160  # of drawn features; LATENT holds nine tenths of their energy
PER_IDENTITY, CAMERAS, QUERY_SHARE = 17, 6, 6  # images, cameras, gallery per query: about Market-1501's
STREET, SMALLEST = 12, 32  # crops of one identity on the drawn street, at least; sizes worth a look
WARM_UP = 200  # images that every compiled kernel sees before the clock starts


@dataclass(frozen=True)
class Stage:
    """What one part of the work took: ``count`` images or queries, seconds of CPU (all threads) and of wall."""

    name: str
    count: int
    unit: str
    cpu: float
    wall: float

    def line(self) -> str:
        rate = self.count / max(self.wall, 1e-9)
        return f"  {self.name:<24}{self.cpu:>9.2f} s CPU{self.wall:>9.2f} s wall{rate:>12,.0f} {self.unit}/s"


Add = Callable[[Stage], None]


def bench(
    what: str, *, size: int | None = None, device: str = "auto", settings: Sequence[str] = ()
) -> list[Stage]:
    """Measure ``clustering``, ``evaluation`` or ``training`` and print one line per stage, then peak memory.

    Args:
        size: images to cluster, in the gallery, or to train on. None = less than a minute on two CPU cores.
        device: of the neighbour search, the features, or the networks.
        settings: ``key=value`` for clustering (``cluster.*``) and training (all).

    Raises ReseenError: size too small, a device that is not here, a wrong setting.
    """
    work, usual = WORK[what]
    size = usual if size is None else size
    if size < SMALLEST:
        raise ReseenError(f"--size {size} measures nothing: take {SMALLEST} or more")
    if what == "evaluation" and settings:
        raise ReseenError("--set is for clustering and training: evaluation has no settings")
    try:
        place = resolve_device(device)
    except ReseenError:
        raise ReseenError(f"--device {device} is not on this machine; use --device auto") from None
    config = resolve("cacl", None, [*_quick(place), *settings, f"train.device={place}"])
    stages: list[Stage] = []
    title = work(config, size, place, stages.append)
    print("\n".join([title, *(stage.line() for stage in stages), _peak(place)]))
    return stages


def clustering(config: Config, size: int, device: torch.device, add: Add) -> str:
    c = config.cluster
    _cluster(_people(WARM_UP)[0], config, device, None)
    _cluster(_people(size)[0], config, device, add)
    return f"clustering {size:,} images, features of {DIM} dimensions, k1={c.k1}, k2={c.k2}, eps={c.eps:g}"


def _cluster(features: NDArray[np.float32], config: Config, device: torch.device, add: Add | None) -> None:
    """Features to pseudo labels, as :func:`reseen.methods.labelling.pseudo_labels` goes about it."""
    c, count = config.cluster, len(features)
    with timed(add, "neighbours", count):
        neighbours = nearest_neighbours(features, c.k1, device=device)
    with timed(add, "Jaccard distances", count):
        graph = jaccard_graph(features, k1=c.k1, k2=c.k2, neighbours=neighbours)
        distances = graph.distances(c.eps)
    with timed(add, "DBSCAN, twice", count):
        labels = dbscan(distances, eps=c.eps, min_samples=c.min_samples)
        tight = dbscan(distances, eps=c.eps - c.tight_gap, min_samples=c.min_samples)
    with timed(add, "refinement", count):
        refine(labels, tight, graph.within(labels))


def evaluation(config: Config, size: int, device: torch.device, add: Add) -> str:
    for gallery, told in ((WARM_UP, None), (size, add)):
        queries = gallery // QUERY_SHARE
        rows, identities, cameras = _people(gallery + queries)
        features = torch.from_numpy(rows).to(device)
        q, g = slice(queries), slice(queries, None)
        with timed(told, "mAP and CMC", queries, "queries"):
            reid_scores(features[q], features[g], identities[q], identities[g], cameras[q], cameras[g])
    return f"evaluation of {queries:,} queries against {size:,} images, features of {DIM} dimensions"


def training(config: Config, size: int, device: torch.device, add: Add) -> str:
    """An epoch of CACL from random weights on the drawn street, without its first batch."""
    _cluster(_people(WARM_UP)[0], config, device, None)
    begun: list[tuple[float, float]] = []

    def assign(run: Run, features: Tensor, cameras: Labels) -> PseudoLabels:
        with timed(add, "clustering", len(features)):
            return METHOD.assign(run, features, cameras)

    def update(run: Run, *rest: Any) -> None:
        METHOD.update(run, *rest)
        begun.append(_now())

    with tempfile.TemporaryDirectory() as folder:
        street = draw_crops(Path(folder), train_identities=-(-size // STREET), test_identities=1)
        crops = street.train[:size]
        run = new_run(config, METHOD, weights="none", say=lambda line: None)
        with timed(add, "embedding", 2 * len(crops)):  # both memories
            METHOD.start(run, crops)
        train_epoch(run, crops, dataclasses.replace(METHOD, assign=assign, update=update))
        ended = _now()
    if len(begun) > 1:
        (cpu, wall), count = begun[0], (len(begun) - 1) * config.train.batch_size
        add(Stage("training, both branches", count, "images", ended[0] - cpu, ended[1] - wall))
    images = f"{config.data.height}x{config.data.width}, {run.precision.replace('none', 'float32')}"
    batches = f"{len(begun)} batches of {config.train.batch_size}"
    return f"training {config.model.backbone} on {len(crops):,} images, {batches}, {images}"


WORK: dict[str, tuple[Callable[[Config, int, torch.device, Add], str], int]] = {
    "clustering": (clustering, 8000),
    "evaluation": (evaluation, 8000),
    "training": (training, 128),
}


@contextmanager
def timed(add: Add | None, name: str, count: int, unit: str = "images") -> Iterator[None]:
    before = _now()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    cpu, wall = _now()
    if add is not None:
        add(Stage(name, count, unit, cpu - before[0], wall - before[1]))


def _now() -> tuple[float, float]:
    """CPU seconds of this process and of its finished children (loaders); seconds of wall."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime, time.perf_counter()


def _quick(device: torch.device) -> list[str]:
    """A CPU gets few and small images, and loads them in this process, where its time is counted as it passes."""
    if device.type != "cpu":
        return ["train.iterations=40"]
    return ["train.iterations=4", "data.height=128", "data.width=64", "data.workers=0"]


def _people(size: int) -> tuple[NDArray[np.float32], Labels, Labels]:
    """Unit features ``[size, DIM]`` of drawn people, their identities and cameras."""
    draw = np.random.default_rng(0)
    count = max(1, size // PER_IDENTITY)
    identities = draw.integers(0, count, size)
    rows = draw.standard_normal((count, LATENT), dtype=np.float32)[identities]
    rows += 1.25 * draw.standard_normal((size, LATENT), dtype=np.float32)
    features: NDArray[np.float32] = rows @ draw.standard_normal((LATENT, DIM), dtype=np.float32)
    features += features.std() / 3 * draw.standard_normal((size, DIM), dtype=np.float32)  # full rank
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features, identities + 1, draw.integers(1, CAMERAS + 1, size)


def _peak(device: torch.device) -> str:
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    line = f"  peak memory {host:,.0f} MiB; {torch.get_num_threads()} threads on {os.cpu_count()} cores"
    if device.type != "cuda":
        return line
    return f"{line}; {torch.cuda.get_device_name(device)}: {torch.cuda.max_memory_allocated(device) / 2**20:,.0f} MiB"
