"""Whether both sides of the clustering benchmark found the same: prints one line of JSON.

    python equality.py FEATURES.npy OURS.npz PEER.npz

Compared twice: end to end, and with the peer's own neighbour lists given to reseen, because two exact searches in
float32 may order neighbours differently whose similarities differ by less than their rounding. How many rows that
concerns, and how far apart such neighbours are in float64, is counted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sides import EPS, K1, K2, MIN_SAMPLES, WIDE

from reseen.clustering import dbscan, jaccard_graph

HALF = round(K1 / 2) + 1
BLOCK = 256  # rows whose listed neighbours are gathered at a time


def main() -> None:
    features = np.load(sys.argv[1])
    ours, peer = np.load(sys.argv[2]), np.load(sys.argv[3])
    labels = [[side[f"labels{place}"] for place in range(len(EPS))] for side in (ours, peer)]
    theirs = matrix(peer, len(features), "distances")
    lists = ours["indices"].astype(np.int64), ours["similarities"]
    fed = peer["indices"].astype(np.int64)
    result: dict[str, Any] = {
        "map": mean_ap(features, Path(sys.argv[1]).with_suffix(".npz")),
        "clusters": [int(one.max() + 1) for one in labels[1]],
        "end_to_end": compare(jaccard_graph(features, k1=K1, k2=K2, neighbours=lists), labels[1], theirs),
        "same_lists": compare(
            jaccard_graph(features, k1=K1, k2=K2, neighbours=(fed, similarities(features, fed))),
            labels[1],
            theirs,
        ),
        "other_rows": other_rows(features, lists[0], fed),
    }
    result["end_to_end"]["labels"] = [
        same(*pair) for pair in zip(*labels, strict=True)
    ]  # as they were measured
    print(json.dumps(result))


def matrix(saved: Any, count: int, name: str) -> csr_array:
    parts = tuple(saved[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
    return csr_array(parts, shape=(count, count))


def compare(graph: Any, peer_labels: list[Any], theirs: csr_array) -> dict[str, Any]:
    """Labels, and distances of all ordered pairs of two rows that either side has within eps.

    A row's distance to itself is counted apart: the peers' is not 0 for rows that are in nobody's list.
    """
    ours = graph.distances(max(EPS) + WIDE)
    # a pair that one side has not is farther than eps + WIDE there, and counts as 1
    (one, mine), (two, other) = (off_diagonal(side) for side in (ours, theirs))
    pairs, place = np.unique(np.concatenate([one, two]), return_inverse=True)
    values = np.ones((2, len(pairs)), dtype=np.float32)
    values[0, place[: len(one)]] = mine
    values[1, place[len(one) :]] = other
    within = values <= np.float32(max(EPS))
    gaps = np.abs(values[0] - values[1])[within.any(axis=0)]
    return {
        "labels": [
            same(dbscan(graph.distances(eps), eps=eps, min_samples=MIN_SAMPLES), labels)
            for eps, labels in zip(EPS, peer_labels, strict=True)
        ],
        "pairs": within.sum(axis=1).tolist(),
        "max_difference": float(gaps.max(initial=0.0)),
        "pairs_over_1e-6": int((gaps > 1e-6).sum()),
        "not_0_to_itself": int((theirs.diagonal() > 1e-5).sum()),
    }


def off_diagonal(distances: csr_array) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pairs as row * N + column, ascending, and their distances."""
    entries = distances.tocoo()
    apart = entries.row != entries.col
    pairs = entries.row[apart].astype(np.int64) * distances.shape[0] + entries.col[apart]
    return pairs, entries.data[apart]


def same(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    """Equal labels, numbers included."""
    return bool(np.array_equal(one, other))


def similarities(features: NDArray[np.float32], lists: NDArray[np.int64]) -> NDArray[np.float32]:
    """Inner products of each row and its listed neighbours, summed in float64."""
    result = np.empty(lists.shape, dtype=np.float32)
    for start in range(0, len(lists), BLOCK):
        here = slice(start, start + BLOCK)
        rows, listed = features[here].astype(np.float64), features[lists[here]]
        result[here] = np.einsum("md,mkd->mk", rows, listed)
    return result


def other_rows(
    features: NDArray[np.float32], ours: NDArray[np.int64], peer: NDArray[np.int64]
) -> dict[str, Any]:
    """Rows whose first K2, HALF or K1 neighbours are other ones, and the widest gap between what was exchanged."""
    rows: set[int] = set()
    gap = 0.0
    for listed in (K2, HALF, K1):
        one, other = np.sort(ours[:, :listed], axis=1), np.sort(peer[:, :listed], axis=1)
        for row in np.flatnonzero((one != other).any(axis=1)):
            exchanged = np.setxor1d(one[row], other[row])
            values = features[exchanged].astype(np.float64) @ features[row].astype(np.float64)
            rows.add(int(row))
            gap = max(gap, float(np.ptp(values)))
    return {"count": len(rows), "widest_gap": gap}


def mean_ap(features: NDArray[np.float32], truth: Path) -> float | None:
    """Mean average precision of up to 500 rows against the others, where identities are known."""
    if not truth.exists():
        return None
    from reseen.metrics import reid_scores

    known = np.load(truth)
    query = np.random.default_rng(0).choice(len(features), min(500, len(features) // 4), replace=False)
    gallery = np.setdiff1d(np.arange(len(features)), query)
    sides = [known[name][part] for name in ("identities", "cameras") for part in (query, gallery)]
    return reid_scores(features[query], features[gallery], *sides).mean_ap


if __name__ == "__main__":
    main()
