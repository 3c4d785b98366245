"""A clustering too large for a peer, checked on a sample of rows against float64: prints one line of JSON.

    python verify.py FEATURES.npy OURS.npz --rows 20

Nothing of reseen is used. For the sampled rows and everyone within eps of them,

- neighbour lists of all rows that their weights rest on come from brute force in float64, over all features;
- weights V and distances are written from the formulas (Zhong et al. 2017, in SpCL's form) with sets and float64;
- the sampled rows' distances to all other rows follow from the saved V once more: a pair within eps may not be missing.

Labels of all rows are held against DBSCAN's definition on the saved graph: cores by their degree, clusters as
connected components of cores, numbered by their first core; a border row has the lowest cluster within reach.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from sides import EPS, K1, K2, MIN_SAMPLES

Lists = dict[int, list[int]]
Weights = dict[int, float]
HALF = round(K1 / 2) + 1
CHUNK, ROWS = 8192, 1024  # features and rows of one float64 product
SLACK = 1e-6  # of a distance in float32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", type=Path)
    parser.add_argument("ours", type=Path)
    parser.add_argument("--rows", type=int, default=20)
    given = parser.parse_args()
    features = np.load(given.features, mmap_mode="r")
    saved = np.load(given.ours)
    count = len(features)
    graph, weights = (
        csr_array(
            tuple(saved[f"{name}_{part}"] for part in ("data", "indices", "indptr")), shape=(count, count)
        )
        for name in ("distances", "weights")
    )
    sample = np.sort(np.random.default_rng(0).choice(count, min(given.rows, count), replace=False))
    result = check_sample(features, saved, graph, weights, sample)
    result["labels"] = [
        follows_definition(graph, saved[f"labels{place}"], eps) for place, eps in enumerate(EPS)
    ]
    print(json.dumps(result))


def check_sample(
    features: NDArray[np.float32], saved: Any, graph: csr_array, weights: csr_array, sample: NDArray[np.int64]
) -> dict[str, Any]:
    ours, similarities = saved["indices"], saved["similarities"]
    lists = Search(features)
    near = {int(row): row_of(graph, row) for row in sample}
    wanted = sorted({*near, *(other for row in near.values() for other in row)})
    lists.extend(wanted)
    averaged = sorted({q for row in wanted for q in lists[row][:K2]})
    lists.extend(averaged)
    lists.extend({j for q in averaged for j in lists[q]})
    inner = {j for q in averaged for j in reciprocal(lists, q, K1)}
    lists.extend({j for c in inner for j in lists[c][:HALF]})
    raw = {q: raw_weights(features, lists, q) for q in averaged}
    values = {row: mean_weights(raw, lists[row][:K2]) for row in wanted}

    other_lists = [row for row in lists if lists[row] != ours[row].tolist()]
    pairs = [(row, other, d) for row, entries in near.items() for other, d in entries.items() if other != row]
    missing = sum(missing_pairs(weights, row, near[int(row)]) for row in sample)
    return {
        "rows": len(sample),
        "lists": len(lists),
        "other_lists": len(other_lists),
        "similarity_difference": max(
            float(np.abs(similarities[row] - lists.similarities[row]).max()) for row in lists
        ),
        "weight_rows": len(wanted),
        "weight_difference": max(difference(values[row], row_of(weights, row)) for row in wanted),
        "pairs": len(pairs),
        "distance_difference": max(
            (abs(distance(values[i], values[j]) - d) for i, j, d in pairs), default=0.0
        ),
        "missing_pairs": missing,
    }


class Search(dict[int, list[int]]):
    """Neighbour lists by brute force: inner products in float64, rounded to float32 once; ties by index."""

    def __init__(self, features: NDArray[np.float32]) -> None:
        super().__init__()
        self._features = features
        self.similarities: dict[int, NDArray[np.float32]] = {}

    def extend(self, rows: Any) -> None:
        new = np.array(sorted(set(rows) - set(self)), dtype=np.int64)
        for start in range(0, len(new), ROWS):
            self._search(new[start : start + ROWS])

    def _search(self, rows: NDArray[np.int64]) -> None:
        asked = self._features[rows].astype(np.float64)
        k = min(K1, len(self._features))
        bar = np.full(len(rows), -np.inf, dtype=np.float32)  # nobody below it can be among the k first
        kept: list[tuple[NDArray[Any], ...]] = []
        for start in range(0, len(self._features), CHUNK):
            products = (asked @ self._features[start : start + CHUNK].astype(np.float64).T).astype(np.float32)
            if products.shape[1] >= k:
                bar = np.maximum(bar, np.partition(products, -k, axis=1)[:, -k])
            place, column = np.nonzero(products >= bar[:, None])
            kept.append((place, column + start, products[place, column]))
        place, index, value = (np.concatenate(part) for part in zip(*kept, strict=True))
        order = np.lexsort((index, -value, place))
        edges = np.searchsorted(place[order], np.arange(len(rows)))
        for row, edge in zip(rows.tolist(), edges.tolist(), strict=True):
            first = order[edge : edge + k]
            self[row], self.similarities[row] = index[first].tolist(), value[first]


def reciprocal(lists: Lists, row: int, k: int) -> set[int]:
    return {j for j in lists[row][:k] if row in lists[j][:k]}


def raw_weights(features: NDArray[np.float32], lists: Lists, row: int) -> Weights:
    """V before the query expansion: a Gaussian kernel over the expanded reciprocal neighbours, sum 1."""
    core = reciprocal(lists, row, K1)
    expanded = set(core)
    for q in core:
        candidate = reciprocal(lists, q, HALF)
        if 3 * len(candidate & core) > 2 * len(candidate):
            expanded |= candidate
    members = sorted(expanded)
    cosines = features[members].astype(np.float64) @ features[row].astype(np.float64)
    kernel = np.exp(-(2 - 2 * cosines))
    return dict(zip(members, (kernel / kernel.sum()).tolist(), strict=True))


def mean_weights(raw: dict[int, Weights], rows: list[int]) -> Weights:
    mean: Weights = {}
    for q in rows:
        for column, weight in raw[q].items():
            mean[column] = mean.get(column, 0.0) + weight / len(rows)
    return mean


def distance(one: Weights, other: Weights) -> float:
    shared = sum(min(weight, other.get(column, 0.0)) for column, weight in one.items())
    return max(0.0, 1 - shared / (2 - shared))


def difference(one: Weights, other: Weights) -> float:
    return max(abs(one.get(column, 0.0) - other.get(column, 0.0)) for column in {*one, *other})


def row_of(matrix: csr_array, row: int) -> Weights:
    here = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return dict(zip(matrix.indices[here].tolist(), matrix.data[here].tolist(), strict=True))


def missing_pairs(weights: csr_array, row: int, stored: Weights) -> int:
    """Rows that by the saved V are clearly within eps of ``row``, but not in the graph."""
    own = weights[[row]].toarray().ravel().astype(np.float64)
    columns = np.flatnonzero(own)
    shared = np.minimum(weights[:, columns].toarray().astype(np.float64), own[columns]).sum(axis=1)
    within = np.flatnonzero(1 - shared / (2 - shared) <= max(EPS) - SLACK)
    return len(set(within.tolist()) - set(stored) - {int(row)})


def follows_definition(graph: csr_array, labels: NDArray[np.int64], eps: float) -> bool:
    entries = graph.tocoo()
    near = (entries.data <= np.float32(eps)) & (entries.row != entries.col)
    one, other = entries.row[near], entries.col[near]
    core = np.bincount(one, minlength=len(labels)) + 1 >= MIN_SAMPLES
    linked = core[one] & core[other]
    edges = csr_array((np.ones(linked.sum()), (one[linked], other[linked])), shape=graph.shape)
    component = connected_components(edges, directed=False)[1]
    first = np.full(len(labels), len(labels))
    np.minimum.at(first, component[core], np.flatnonzero(core))
    number = np.searchsorted(np.sort(first[first < len(labels)]), first[component])
    expected = np.where(core, number, len(labels))
    border = ~core[one] & core[other]
    np.minimum.at(expected, one[border], number[other[border]])
    return bool(np.array_equal(np.where(expected < len(labels), expected, -1), labels))


if __name__ == "__main__":
    main()
