"""Cluster Contrast's published code beside the recipe ``cluster-contrast``, on a CPU: docs/results/cluster-contrast.md.

    python benchmarks/cluster_contrast_peer.py --row peer --seed 1 --peer CHECKOUT --data MARKET --weights FILE --out RUNS
    python benchmarks/cluster_contrast_peer.py --table --out RUNS --json benchmarks/results/cluster-contrast-peer.json

CHECKOUT is a clone of github.com/alibaba/cluster-contrast-reid; ``faiss-cpu`` must be importable (a folder on PYTHONPATH
will do). No file of the clone is changed and nothing of it is stored here: its script runs as it is, while this one
answers on the CPU what it asks of a GPU and hands it SqueezeNet for the layers of its ResNet. Pooling, neck, memory,
sampler, transforms, clustering, optimiser and loop are the peer's own.

Rows: ``peer``; ``ours``, the recipe; ``ours-pad10``, the same with 10 black pixels around an image before the random crop,
as the peer has at every size (the recipe scales them with the height: 5 at 128). ``replay`` lets the peer train for one
epoch, gives our loop the peer's features, labels and batches, and says how far apart the two end. Each call is one row
of one seed; what is finished is skipped.
"""  # noqa: E501  # commands on one line

from __future__ import annotations

import argparse
import csv
import functools
import importlib
import json
import platform
import runpy
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from sklearn.cluster import DBSCAN
from torch import nn
from torch.utils.data import Sampler

from market1501 import write_manifest
from reseen.config import ModelConfig, resolve
from reseen.data import TrainBatch, open_data
from reseen.experiments.train import train
from reseen.methods import cluster_contrast, get_method
from reseen.methods.labelling import pseudo_labels
from reseen.metrics import reid_scores
from reseen.models import build_encoder, load_weights
from reseen.records import PseudoLabels, cameras_of
from reseen.training import epoch as training
from reseen.training.fit import new_run

IDENTITIES, EPOCHS, ITERATIONS, BATCH, INSTANCES, HEIGHT, WIDTH = 250, 10, 50, 64, 4, 128, 64
SETTINGS = [  # what the recipe is not told by itself
    "model.backbone=squeezenet1_1",
    f"data.height={HEIGHT}",
    f"data.width={WIDTH}",
    "data.workers=0",
    f"train.batch_size={BATCH}",
    f"train.instances={INSTANCES}",
    f"train.iterations={ITERATIONS}",
    "train.lr_steps=[]",
    "train.precision=none",
    "train.evaluate_every=0",
]
ROWS: dict[str, list[str]] = {"peer": [], "ours": [], "ours-pad10": [f"data.pad={10 / HEIGHT}"]}
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
NAMES = {"base.4.": "backbone.features.", "gap.": "pooling.", "feat_bn.": "neck."}  # the peer's, ours


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", choices=[*ROWS, "replay"], default="peer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peer", type=Path, help="checkout of cluster-contrast-reid")
    parser.add_argument("--data", type=Path, help="Market-1501")
    parser.add_argument("--weights", type=Path, help="SqueezeNet 1.1")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print what is finished, train nothing")
    parser.add_argument("--json", type=Path, help="with --table: write the record here")
    given = parser.parse_args()

    given.out.mkdir(parents=True, exist_ok=True)
    if given.table:
        print(table(given.out, given.json))
        return
    result = given.out / f"{given.row}-{given.seed}.json"
    if result.exists():
        return
    torch.set_num_threads(1)
    manifest = given.out / "validation.csv"
    write_manifest(open_data(given.data), manifest, IDENTITIES, validation=True)
    started = time.process_time()
    record = {"peer": run_peer, "replay": replay}.get(given.row, run_ours)(given, manifest)
    record["cpu_seconds"]["all"] = time.process_time() - started
    record |= {"row": given.row, "seed": given.seed, "versions": versions()}
    result.write_text(json.dumps(record, indent=1) + "\n")


def run_ours(given: argparse.Namespace, manifest: Path) -> dict[str, Any]:
    """The recipe, with the settings that both sides share."""
    spent: dict[str, float] = {}
    for stage, name in (("cluster", "pseudo_labels"), ("embed", "embed_clean")):
        setattr(cluster_contrast, name, timed(spent, stage, getattr(cluster_contrast, name)))
    folder = given.out / f"{given.row}-{given.seed}"
    train(
        "cluster-contrast",
        data=manifest,
        run=folder,
        weights=str(given.weights),
        settings=[*SETTINGS, f"train.epochs={EPOCHS}", f"seed={given.seed}", *ROWS[given.row]],
    )
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    scores = {key: history[-1]["test"][key] for key in ("mean_ap", "rank1")}
    return {"scores": scores, "clusters": [line["clusters"] for line in history], "cpu_seconds": spent}


def run_peer(given: argparse.Namespace, manifest: Path, epochs: int = EPOCHS) -> dict[str, Any]:
    """The peer's own script. Its features are scored by our metric, and by its own."""
    spent: dict[str, float] = {}
    scored: dict[str, Any] = {}
    clusters: list[int] = []
    put_on_cpu(given.peer, given.weights, spent)
    evaluators = importlib.import_module("clustercontrast.evaluators")
    memories = importlib.import_module("clustercontrast.models.cm").ClusterMemory
    evaluators.evaluate_all = scored_twice(evaluators.evaluate_all, scored)
    memories.__init__ = noting(memories.__init__, lambda self, dim, count, **options: clusters.append(count))
    words = {
        "-d": "market1501", "-a": "resnet50", "-b": BATCH, "-j": 0, "--height": HEIGHT, "--width": WIDTH,
        "--num-instances": INSTANCES, "--eps": 0.6, "--momentum": 0.1, "--iters": ITERATIONS, "--epochs": epochs,
        "--step-size": epochs + 1, "--eval-step": epochs, "--seed": given.seed,
        "--data-dir": market_layout(manifest, given.out / "market"),
        "--logs-dir": given.out / f"{given.row}-{given.seed}",
    }  # fmt: skip
    script = given.peer / "examples" / "cluster_contrast_train_usl.py"
    shown, sys.argv = sys.stdout, [str(script), *(str(word) for pair in words.items() for word in pair)]
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.stdout = shown  # the script replaces it
    return {**scored, "clusters": clusters, "cpu_seconds": spent}


def put_on_cpu(peer: Path, weights: Path, spent: dict[str, float]) -> None:
    """Answer on the CPU what the peer asks of a GPU and of an older torch; SqueezeNet for its ResNet's layers."""
    sys.path.insert(0, str(peer))
    moved: Any = lambda self, *args, **options: self  # noqa: E731
    torch.Tensor.cuda = nn.Module.cuda = moved  # type: ignore[method-assign]
    Sampler.__init__ = lambda self, data_source=None: None  # type: ignore[method-assign]
    rerank = importlib.import_module("clustercontrast.utils.faiss_rerank")
    on_cpu = functools.partial(rerank.compute_jaccard_distance, search_option=3)
    rerank.compute_jaccard_distance = timed(spent, "cluster", on_cpu)
    DBSCAN.fit_predict = timed(spent, "cluster", DBSCAN.fit_predict)
    evaluators = importlib.import_module("clustercontrast.evaluators")
    evaluators.extract_features = timed(spent, "embed", evaluators.extract_features)
    resnet = importlib.import_module("clustercontrast.models.resnet").ResNet
    resnet._ResNet__factory[50] = functools.partial(squeezenet_in_parts, weights)


def squeezenet_in_parts(weights: Path, pretrained: bool) -> SimpleNamespace:
    """What the peer takes apart as a ResNet: every part does nothing, but one, which is SqueezeNet."""
    encoder = build_encoder(ModelConfig(backbone="squeezenet1_1"))
    print(load_weights(encoder, weights).summary())
    block: Any = nn.Identity()
    block.conv2, block.downsample = SimpleNamespace(), [SimpleNamespace()]  # their strides are set
    return SimpleNamespace(
        **{name: nn.Identity() for name in ("conv1", "bn1", "relu", "maxpool", "layer2", "layer3")},
        layer1=encoder.backbone.features,
        layer4=nn.Sequential(block),
        fc=SimpleNamespace(in_features=encoder.dim),
    )


def market_layout(manifest: Path, folder: Path) -> Path:
    """Links to the images of the manifest, where the peer looks for Market-1501."""
    root = folder / "market1501" / "Market-1501-v15.09.15"
    for name in FOLDERS.values():
        (root / name).mkdir(parents=True, exist_ok=True)
    with open(manifest, newline="") as file:
        for row in csv.DictReader(file):
            link = root / FOLDERS[row["split"]] / Path(row["path"]).name
            if not link.is_symlink():
                link.symlink_to(row["path"])
    return folder


def scored_twice(score: Callable[..., Any], scored: dict[str, Any]) -> Callable[..., float]:
    """The peer's scoring function, its and our scores of the same features added to ``scored``."""

    def evaluate(asked: Any, found: Any, *rest: Any, query: Any, gallery: Any, **options: Any) -> float:
        sides = [np.array([row[1:] for row in part]) for part in (query, gallery)]  # identity, camera
        (who, where), (whom, there) = (side.T for side in sides)
        ours = reid_scores(asked, found, who, whom, where, there)
        scored["scores"] = {"mean_ap": ours.mean_ap, "rank1": ours.cmc[1]}
        cmc, mean_ap = score(
            asked, found, *rest, query=query, gallery=gallery, **{**options, "cmc_flag": True}
        )
        scored["scores_by_peer"] = {"mean_ap": float(mean_ap), "rank1": float(cmc[0])}
        return float(mean_ap)

    return evaluate


def timed(spent: dict[str, float], stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, its CPU seconds added to ``spent[stage]``."""

    def measured(*args: Any, **options: Any) -> Any:
        started = time.process_time()
        result = function(*args, **options)
        spent[stage] = spent.get(stage, 0.0) + time.process_time() - started
        return result

    return measured


def noting(function: Callable[..., Any], note: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, with its arguments shown to ``note`` beforehand."""

    def noted(*args: Any, **options: Any) -> Any:
        note(*args, **options)
        return function(*args, **options)

    return noted


def keeping(function: Callable[..., Any], kept: list[Any]) -> Callable[..., Any]:
    """``function``, with each of its results also in ``kept``."""

    def kept_too(*args: Any, **options: Any) -> Any:
        kept.append(function(*args, **options))
        return kept[-1]

    return kept_too


def replay(given: argparse.Namespace, manifest: Path) -> dict[str, Any]:
    """The peer's first epoch, then ours from the same features, labels and batches: all but sampler and transforms."""
    sys.path.insert(0, str(given.peer))
    rerank = importlib.import_module("clustercontrast.utils.faiss_rerank")
    trainer = importlib.import_module("clustercontrast.trainers").ClusterContrastTrainer
    memory = importlib.import_module("clustercontrast.models.cm").ClusterMemory
    features, distances, batches, losses, encoders = [], [], [], [], []  # type: ignore[var-annotated]
    rerank.compute_jaccard_distance = noting(
        keeping(rerank.compute_jaccard_distance, distances), lambda x, **options: features.append(x)
    )
    trainer.__init__ = noting(trainer.__init__, lambda self, encoder: encoders.append(encoder.module))
    trainer._parse_data = keeping(trainer._parse_data, batches)
    memory.forward = keeping(memory.forward, losses)
    record = run_peer(given, manifest, epochs=1)
    theirs = DBSCAN(eps=0.6, min_samples=4, metric="precomputed").fit_predict(distances[0])
    weights = {
        ours + name.removeprefix(first): value
        for name, value in encoders[0].state_dict().items()
        for first, ours in NAMES.items()
        if name.startswith(first)
    }
    values = np.array([loss.item() for loss in losses])
    return record | {"replay": follow(given, manifest, features[0], theirs, batches, values, weights)}


def follow(
    given: argparse.Namespace,
    manifest: Path,
    features: torch.Tensor,  # [M, D], images in the order of their names
    theirs: np.ndarray,  # pseudo labels [M]
    recorded: list[Any],  # (images, labels, rows among the images that have a label) of each batch
    losses: np.ndarray,  # of each batch
    weights: dict[str, torch.Tensor],  # after the epoch
) -> dict[str, float]:
    """Our half of ``replay``: how far our labels, losses and weights are from the peer's."""
    config = resolve("cluster-contrast", settings=[*SETTINGS, f"seed={given.seed}"])
    crops = tuple(sorted(open_data(manifest).train, key=lambda crop: crop.path.name))
    labels = pseudo_labels(features, cameras_of(crops), config.cluster).labels

    clustered = np.flatnonzero(theirs >= 0)
    batches = [TrainBatch(torch.from_numpy(clustered[rows]), images, None) for images, _, rows in recorded]
    for batch, (_, given_labels, _) in zip(batches, recorded, strict=True):
        assert np.array_equal(theirs[batch.rows], given_labels)
    method, values = get_method("cluster-contrast"), list[float]()

    def kept_losses(*args: Any) -> Any:
        terms, keys = method.losses(*args)
        values.append(float(terms["cluster"]))
        return terms, keys

    run = new_run(config, method, weights=given.weights, say=print)
    encoder = run.networks.encoder
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    run.labels = theirs.astype(np.int64)
    method.remember(run, features, PseudoLabels.of(run.labels))
    here = replace(method, losses=kept_losses, load=lambda run, crops, batches, views: iter(batches))
    training._train(run, crops, here, batches)

    names = [name for name, value in before.items() if value.is_floating_point()]

    def apart(other: dict[str, torch.Tensor]) -> float:
        after = encoder.state_dict()
        return float(torch.cat([(after[name] - other[name]).flatten() for name in names]).norm())

    difference = np.abs(np.array(values) - losses)
    return {
        "images": len(theirs),
        "images_with_another_label": int((labels != theirs).sum()),
        "outliers": int((theirs < 0).sum()),
        "steps": len(values),
        "loss_first_step": values[0],
        "loss_last_step": values[-1],
        "largest_difference_of_losses_10_steps": float(difference[:10].max()),
        "largest_difference_of_losses": float(difference.max()),
        "distance_of_weights": apart(weights),
        "distance_from_initial_weights": apart(before),
    }


def versions() -> dict[str, str]:
    """Of what computes; the peer's neighbour search where it was loaded."""
    known = {"python": platform.python_version()}
    loaded = {name: sys.modules.get(name) for name in ("torch", "numpy", "sklearn", "faiss")}
    return known | {name: module.__version__ for name, module in loaded.items() if module}


def table(out: Path, target: Path | None) -> str:
    """What is finished, in Markdown; with ``target`` also as a JSON record without paths."""
    results = [json.loads(path.read_text()) for path in sorted(out.glob("*-*.json"))]
    lines = ["| row | seed | mAP | rank-1 | clusters (first, last epoch) | CPU s | embedding | clustering |"]
    lines.append("| --- " * 8 + "|")
    for name in ROWS:
        rows = sorted((row for row in results if row["row"] == name), key=lambda row: row["seed"])
        for row in rows:
            scores, clusters, cpu = row["scores"], row["clusters"], row["cpu_seconds"]
            lines.append(
                f"| {name} | {row['seed']} | {scores['mean_ap']:.1%} | {scores['rank1']:.1%} "
                f"| {clusters[0]}, {clusters[-1]} "
                f"| {cpu['all']:.0f} | {cpu['embed']:.0f} | {cpu['cluster']:.0f} |"
            )
        if len(rows) > 1:
            means = [statistics.mean(row["scores"][key] for row in rows) for key in ("mean_ap", "rank1")]
            lines.append(f"| {name} | mean | {means[0]:.1%} | {means[1]:.1%} | | | | |")
    if target is not None:
        setting = {"identities": IDENTITIES, "epochs": EPOCHS, "settings": SETTINGS, "rows": ROWS}
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps({"setting": setting, "results": results}, indent=1) + "\n")
    return "\n".join(lines).replace("%", "")


if __name__ == "__main__":
    main()
