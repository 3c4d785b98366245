"""What Eq. (1) does to clusters of ImageNet features: docs/methods/cacl.md, "What Eq. (1) amounts to".

    python benchmarks/refinement.py --data MARKET --weights squeezenet1_1.safetensors --backbone squeezenet1_1

Parts that leave and stay, and how like the refined partition is to plain DBSCAN at eps and at eps - 0.02.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.metrics import adjusted_rand_score

from reseen.clustering import dbscan, jaccard_graph, refine, refine_official, refined_parts
from reseen.config import resolve
from reseen.data import open_data
from reseen.evaluation import embed_crops
from reseen.models import build_encoder, load_weights


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--identities", type=int, default=250)
    given = parser.parse_args()
    settings = [f"model.backbone={given.backbone}", "data.height=128", "data.width=64", "data.workers=0"]
    config = resolve("cacl", None, settings)
    data = open_data(given.data)
    assert data.train_identities is not None
    people = np.unique(data.train_identities)[: given.identities]
    rows = np.flatnonzero(np.isin(data.train_identities, people))
    encoder = build_encoder(config.model)
    print(load_weights(encoder, given.weights).summary())
    features = embed_crops(encoder, tuple(data.train[row] for row in rows), config)
    truth, c = data.train_identities[rows], config.cluster
    graph = jaccard_graph(features, k1=c.k1, k2=c.k2)
    distances = graph.distances(c.eps)
    loose = dbscan(distances, eps=c.eps, min_samples=c.min_samples)
    tight = dbscan(distances, eps=c.eps - c.tight_gap, min_samples=c.min_samples)
    within = graph.within(loose)
    partitions = {
        f"none, eps {c.eps:.2f}": loose,
        f"none, eps {c.eps - c.tight_gap:.2f}": tight,
        "paper, subcluster": refine(loose, tight, within),
        "paper, singletons": refine(loose, tight, within, removed_to="singletons"),
        "official": refine_official(loose, tight, within),
    }
    print("| partition | parts left / stayed | ARI with eps - 0.02 | ARI with eps | ARI with identities |")
    print("| --- | --- | --- | --- | --- |")
    for name, labels in partitions.items():
        left, stayed = refined_parts(loose, tight, labels) if "eps" not in name else ("", "")
        scores = [adjusted_rand_score(alone(a), alone(labels)) for a in (tight, loose, truth)]
        print(f"| {name} | {left} / {stayed} | " + " | ".join(f"{score:.3f}" for score in scores) + " |")


def alone(labels: np.ndarray) -> np.ndarray:
    """Each outlier a class of its own."""
    result = labels.copy()
    outliers = result < 0
    result[outliers] = result.max() + 1 + np.arange(int(outliers.sum()))
    return result


if __name__ == "__main__":
    main()
