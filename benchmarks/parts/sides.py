"""One side of the clustering benchmark in a process of its own: prints one line of JSON.

    python sides.py ours FEATURES.npy
    python sides.py spcl FEATURES.npy --peer CHECKOUT

Both sides do what an epoch does: features to k-reciprocal Jaccard distances to DBSCAN's labels at two radii. CPU and
wall time are marked after each part. The peer's ``compute_jaccard_distance`` is its own, called as its training scripts
call it but for the search, which is its CPU mode; its index is wrapped so that the time of the search is known. Of the
peer only that module is imported, which favours it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

K1, K2, MIN_SAMPLES, EPS = 30, 6, 4, (0.60, 0.58)
WIDE = 0.01  # pairs so far beyond eps are saved too: one that another rounding pushes over eps is then still known
PACKAGES = {"spcl": "spcl", "cluster-contrast": "clustercontrast"}
CPU_SEARCH = 3  # of compute_jaccard_distance: 0 to 2 are three ways to use a GPU, anything else is the CPU
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "numba", "faiss-cpu")


class Clock:
    """Marks of this process: seconds of CPU (all threads) and of wall since the mark before."""

    def __init__(self) -> None:
        self.cpu: dict[str, float] = {}
        self.wall: dict[str, float] = {}
        self.base_mib = 0.0
        self._last = (0.0, time.perf_counter())  # CPU time counts from the start of the process

    def mark(self, name: str) -> None:
        now = (time.process_time(), time.perf_counter())
        self.cpu[name], self.wall[name] = now[0] - self._last[0], now[1] - self._last[1]
        self._last = now

    def move(self, source: str, target: str, cpu: float, wall: float) -> None:
        """Take what was timed inside of one part out of it."""
        self.cpu[target], self.wall[target] = cpu, wall
        self.cpu[source] -= cpu
        self.wall[source] -= wall

    def loaded(self) -> None:
        self.mark("load")
        self.base_mib = memory_mib("VmRSS")

    def result(self) -> dict[str, Any]:
        peak = memory_mib("VmHWM")
        return {"cpu": self.cpu, "wall": self.wall, "base_mib": self.base_mib, "peak_mib": peak}


def memory_mib(field: str) -> float:
    """Resident memory now (VmRSS) or at its peak (VmHWM). ru_maxrss, for other systems, is always the peak, and on
    Linux it may be that of the process that started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=("ours", *PACKAGES))
    parser.add_argument("features", type=Path)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of our neighbour search")
    parser.add_argument(
        "--save", type=Path, help="write labels, lists and distances here, after the clock stopped"
    )
    given = parser.parse_args()
    result = ours(given) if given.side == "ours" else peer(given)
    result["versions"] = {name: installed(name) for name in LIBRARIES}
    result["load_average"] = os.getloadavg()[0]
    print(json.dumps(result))


def ours(given: argparse.Namespace) -> dict[str, Any]:
    clock = Clock()
    import numpy as np
    import torch

    from reseen.clustering import dbscan, jaccard_graph, nearest_neighbours, refine

    torch.set_num_threads(given.threads)
    clock.mark("import")
    features = np.load(given.features)
    clock.loaded()
    neighbours = nearest_neighbours(features, K1, device=given.device)
    clock.mark("search")
    graph = jaccard_graph(features, k1=K1, k2=K2, neighbours=neighbours)
    distances = graph.distances(max(EPS))
    clock.mark("graph")
    labels = [dbscan(distances, eps=eps, min_samples=MIN_SAMPLES) for eps in EPS]
    clock.mark("dbscan")
    result = clock.result()
    if given.save:
        refined = refine(labels[0], labels[1], graph.within(labels[0]))
        clock.mark("refine")
        np.savez(
            given.save,
            **{f"labels{place}": one for place, one in enumerate(labels)},
            indices=neighbours[0],
            similarities=neighbours[1],
            **{f"weights_{part}": getattr(graph.weights, part) for part in ("data", "indices", "indptr")},
            **{f"distances_{part}": getattr(distances, part) for part in ("data", "indices", "indptr")},
        )
        result["clusters"] = [int(one.max() + 1) for one in (*labels, refined)]
        result["outliers"] = [int((one < 0).sum()) for one in labels]
        result["pairs"] = int(distances.nnz - len(features))
    return result


def peer(given: argparse.Namespace) -> dict[str, Any]:
    clock = Clock()
    import numpy as np
    import torch
    from sklearn.cluster import DBSCAN

    module = peer_module(given.peer, PACKAGES[given.side])
    # One thread always: its loops make many tiny products, and more threads make them slower. The search
    # is not torch's and has as many as OMP_NUM_THREADS says.
    torch.set_num_threads(1)
    clock.mark("import")
    features = torch.from_numpy(np.load(given.features))
    clock.loaded()
    index = TimedIndex(module.index_init_cpu)
    module.index_init_cpu = index.make
    distances = module.compute_jaccard_distance(
        features, k1=K1, k2=K2, print_flag=False, search_option=CPU_SEARCH
    )
    clock.mark("graph")
    clock.move("graph", "search", index.cpu, index.wall)
    labels = [
        DBSCAN(eps=eps, min_samples=MIN_SAMPLES, metric="precomputed", n_jobs=-1).fit_predict(distances)
        for eps in EPS
    ]
    clock.mark("dbscan")
    result = clock.result()
    if given.save:
        near = [np.flatnonzero(row <= np.float32(max(EPS) + WIDE)) for row in distances]
        np.savez(
            given.save,
            **{f"labels{place}": one for place, one in enumerate(labels)},
            indices=index.found,
            distances_data=np.concatenate(
                [row[columns] for row, columns in zip(distances, near, strict=True)]
            ),
            distances_indices=np.concatenate(near),
            distances_indptr=np.cumsum([0, *map(len, near)]),
        )
    return result


class TimedIndex:
    """The peer's own index, with a clock around filling and asking it."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self.cpu = self.wall = 0.0
        self.found: Any = None

    def make(self, dim: int) -> TimedIndex:
        self._index = self._timed(self._make, dim)
        return self

    def add(self, rows: Any) -> None:
        self._timed(self._index.add, rows)

    def search(self, rows: Any, k: int) -> Any:
        values, self.found = self._timed(self._index.search, rows, k)
        return values, self.found

    def _timed(self, call: Any, *words: Any) -> Any:
        cpu, wall = time.process_time(), time.perf_counter()
        result = call(*words)
        self.cpu += time.process_time() - cpu
        self.wall += time.perf_counter() - wall
        return result


def peer_module(checkout: Path, package: str) -> Any:
    """The peer's module of distances, without what its package imports besides."""
    stand_in = ModuleType(package)
    stand_in.__path__ = [str(checkout / package)]
    sys.modules[package] = stand_in
    return importlib.import_module(f"{package}.utils.faiss_rerank")


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
