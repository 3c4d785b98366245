"""Every loss and the memory as loops over the printed formulas, on lists of Python floats."""

from __future__ import annotations

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def unit(a: Sequence[float]) -> list[float]:
    length = math.sqrt(dot(a, a))
    return [x / length for x in a]


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def softmax(values: Sequence[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / math.fsum(powers) for power in powers]


def instance(predictions: Rows, targets: Rows) -> float:
    return mean([-dot(unit(z), unit(x)) for z, x in zip(predictions, targets, strict=True)])


def inter_view(predictions: Rows, centroids: Rows, labels: Sequence[int]) -> float:
    return mean([-dot(unit(z), unit(centroids[label])) for z, label in zip(predictions, labels, strict=True)])


def cluster(
    features: Rows, centroids: Rows, labels: Sequence[int], temperature: float, gamma: float
) -> float:
    terms = []
    for x, label in zip(features, labels, strict=True):
        q = softmax([dot(u, x) / temperature for u in centroids])[label]
        terms.append(-((1 - q) ** gamma) * math.log(q))
    return mean(terms)


def camera(
    features: Rows,
    centroids: Rows,
    labels: Sequence[int],
    clusters: Sequence[int],
    temperature: float,
    hardest: int,
) -> float:
    terms = []
    for x, label in zip(features, labels, strict=True):
        powers = [math.exp(dot(c, x) / temperature) for c in centroids]
        own = [power for power, cluster in zip(powers, clusters, strict=True) if cluster == label]
        others = sorted(power for power, cluster in zip(powers, clusters, strict=True) if cluster != label)
        among = math.fsum(own) + math.fsum(others[::-1][:hardest])
        terms.append(mean([-math.log(power / among) for power in own]))
    return mean(terms)


def self_instance(search: Rows, instance: Rows) -> float:
    return 1 - mean([dot(x, y) for x, y in zip(search, instance, strict=True)])


def inter_instance(search: Rows, instance: Rows) -> float:
    total = 0.0
    for i in range(len(search)):
        p = softmax([dot(search[i], other) for other in search])
        q = softmax([dot(instance[i], other) for other in instance])
        total += math.fsum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
        total += math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total


def unified_pair(
    features: Rows,
    memory: Rows,
    labels: Sequence[int],
    memory_labels: Sequence[int],
    scale: float,
    margin: float,
) -> float:
    terms = []
    for z, label in zip(features, labels, strict=True):
        total = 0.0
        for p, own in zip(memory, memory_labels, strict=True):
            for k, other in zip(memory, memory_labels, strict=True):
                if own == label != other:
                    total += math.exp(scale * (dot(z, k) - dot(z, p) + margin))
        terms.append(math.log1p(total))
    return mean(terms)


def nt_xent(first: Rows, second: Rows, temperature: float) -> float:
    views = [unit(row) for row in [*first, *second]]
    terms = []
    for i, view in enumerate(views):
        partner = (i + len(first)) % len(views)
        others = [math.exp(dot(view, other) / temperature) for j, other in enumerate(views) if j != i]
        terms.append(-math.log(math.exp(dot(view, views[partner]) / temperature) / math.fsum(others)))
    return mean(terms)


def momentum_update(memory: Rows, rows: Sequence[int], features: Rows, momentum: float) -> list[list[float]]:
    result = [list(row) for row in memory]
    for row, x in zip(rows, features, strict=True):
        result[row] = unit(
            [momentum * v + (1 - momentum) * new for v, new in zip(result[row], x, strict=True)]
        )
    return result


def cluster_means(memory: Rows, labels: Sequence[int], count: int) -> list[list[float]]:
    result = []
    for cluster in range(count):
        members = [row for row, label in zip(memory, labels, strict=True) if label == cluster]
        result.append(
            [mean(column) for column in zip(*members, strict=True)] if members else [0.0] * len(memory[0])
        )
    return result
