"""Clustering written from the papers' formulas: sets, double loops and dense float64 matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def neighbours(features: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar rows of each row: exact inner products, rounded to float32; ties by index."""
    rows = np.asarray(features, dtype=np.float32).astype(np.float64).tolist()
    similarities = np.array(
        [
            [np.float32(math.fsum(a * b for a, b in zip(one, other, strict=True))) for other in rows]
            for one in rows
        ],
        dtype=np.float32,
    )
    order = np.array(
        [sorted(range(len(rows)), key=lambda j, i=i: (-similarities[i, j], j)) for i in range(len(rows))]
    )
    order = order[:, :k]
    return order, np.take_along_axis(similarities, order, axis=1)


def jaccard(features: Any, k1: int, k2: int) -> np.ndarray:
    """k-reciprocal Jaccard distance (Zhong et al. 2017) with k1 neighbours that include the row itself."""
    rows = np.asarray(features, dtype=np.float32).astype(np.float64)
    count = len(rows)
    lists = neighbours(features, min(k1, count))[0].tolist()
    half = round(k1 / 2) + 1

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in lists[i][:k] if i in lists[j][:k]}

    weights = np.zeros((count, count))
    for i in range(count):
        core = reciprocal(i, k1)
        expanded = set(core)
        for q in core:
            candidate = reciprocal(q, half)
            if 3 * len(candidate & core) > 2 * len(candidate):
                expanded |= candidate
        gaussian = {j: math.exp(-(2 - 2 * float(rows[i] @ rows[j]))) for j in expanded}
        for j, weight in gaussian.items():
            weights[i, j] = weight / sum(gaussian.values())
    if k2 > 1:
        weights = np.array([weights[lists[i][:k2]].mean(axis=0) for i in range(count)])
    distances = np.empty((count, count))
    for i in range(count):
        shared = np.minimum(weights[i], weights).sum(axis=1)
        distances[i] = np.maximum(0, 1 - shared / (2 - shared))
    np.fill_diagonal(distances, 0)
    return distances


def refined_parts(labels: Any, tight: Any, distances: Any, *, official: bool) -> list[tuple[list[int], bool]]:
    """Every part of every cluster and whether it leaves: CACL Eq. (1), or the released rule."""
    count = len(labels)
    result = []
    for cluster in sorted({label for label in labels if label >= 0}):
        members = [i for i in range(count) if labels[i] == cluster]
        parts = [[i for i in members if tight[i] == t] for t in sorted({tight[i] for i in members} - {-1})]
        parts += [[i] for i in members if tight[i] == -1]
        n = len(members)
        inside = sum(distances[i][j] for i in members for j in members if i != j)
        for part in parts:
            rest = [i for i in members if i not in part]
            s = len(part)
            to_rest = sum(distances[i][j] for i in part for j in rest)
            if not rest or inside == 0:
                leaves = False
            elif official:
                leaves = to_rest / (n - s) ** 2 > inside / n**2 * (1 + 1e-6)
            else:
                leaves = (to_rest / (s * (n - s))) / (inside / (n * (n - 1))) >= 1 - 1e-6
            result.append((part, leaves))
    return result


def finch(features: Any, images: Any, image_filter: str) -> list[set[int]]:
    """FINCH's first partition as R-SiamNet's specification words it: links, A A^T, filters, components."""
    count = len(features)
    order = neighbours(features, count)[0].tolist()
    links = np.eye(count, dtype=int)
    for i in range(count):
        others = [j for j in order[i] if j != i]
        if image_filter == "next":
            others = [j for j in others if images[j] != images[i]]
        if others and not (image_filter == "link" and images[others[0]] == images[i]):
            links[i, others[0]] = 1
    edges = links @ links.T > 0
    if image_filter != "none":
        for i in range(count):
            for j in range(count):
                edges[i, j] &= i == j or images[i] != images[j]
    unseen, parts = set(range(count)), []
    while unseen:
        part, frontier = set(), {min(unseen)}
        while frontier:
            part |= frontier
            frontier = {j for i in frontier for j in range(count) if edges[i, j]} - part
        parts.append(part)
        unseen -= part
    return parts


def overlap(one: Any, other: Any) -> list[float]:
    """Intersection over union of the clusters that hold each image in two labellings; -1 is alone."""

    def members(labels: Any, i: int) -> set[int]:
        return {i} if labels[i] < 0 else {j for j in range(len(labels)) if labels[j] == labels[i]}

    pairs = [(members(one, i), members(other, i)) for i in range(len(one))]
    return [len(a & b) / len(a | b) for a, b in pairs]
