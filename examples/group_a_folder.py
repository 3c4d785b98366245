"""A folder of crops to groups of the same person: train on it, embed it, cluster it, write groups.csv.

    python examples/group_a_folder.py FOLDER RUN model.backbone=resnet18 train.epochs=20

Nobody has labelled anything. RUN is a run folder; a finished one is used as it is, an interrupted one goes on.
``reseen cluster`` does the last three steps. A group is a guess: have a person look before anything follows from it.
"""

import csv
import sys
from pathlib import Path

import reseen
from reseen.clustering import dbscan, jaccard_distance
from reseen.data import open_data


def group(embedder, paths, *, k1=30, k2=6, eps=0.6, min_samples=2):
    """Group of each image, int64 [M]; -1: in none. ``eps``: lower it where groups hold several persons."""
    features = embedder(paths)  # [M, D]
    distances = jaccard_distance(features, k1=k1, k2=k2, max_distance=eps)  # sparse [M, M]
    return dbscan(distances, eps=eps, min_samples=min_samples)


def main(folder, run_dir, settings):
    reseen.train("cacl", folder, run_dir, resume=True, **settings)
    embedder = reseen.Embedder.load(run_dir)
    cluster = embedder.config.cluster
    paths = [crop.path for crop in open_data(folder).train]
    labels = group(embedder, paths, k1=cluster.k1, k2=cluster.k2, eps=cluster.eps)

    with open(run_dir / "groups.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "group"])
        table.writerows(sorted(zip(paths, labels, strict=True), key=lambda row: (row[1] < 0, row[1])))
    print(f"{len(paths)} images, {labels.max() + 1} groups, {(labels < 0).sum()} images in none")


if __name__ == "__main__":
    folder, run_dir, *settings = sys.argv[1:]
    main(Path(folder), Path(run_dir), dict(setting.split("=", 1) for setting in settings))
