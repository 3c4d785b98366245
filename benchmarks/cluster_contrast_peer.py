"""Cluster Contrast's published code beside the recipe ``cluster-contrast``, on a CPU: docs/results/cluster-contrast.md.

    python benchmarks/cluster_contrast_peer.py --row peer --seed 1 --peer CHECKOUT --data MARKET --weights FILE --out RUNS
    python benchmarks/cluster_contrast_peer.py --table --out RUNS --json benchmarks/results/cluster-contrast-peer.json

CHECKOUT is a clone of github.com/alibaba/cluster-contrast-reid; ``faiss-cpu`` must be importable (a folder on PYTHONPATH
will do). No file of the clone is changed and nothing of it is stored here: its script runs as it is, while this one
answers on the CPU what it asks of a GPU and hands it SqueezeNet for the layers of its ResNet. Pooling, neck, memory,
sampler, transforms, clustering, optimiser and loop are the peer's own.

Rows: ``peer``; ``ours``, the recipe; ``ours-pad10``, the same with 10 black pixels around an image before the random crop,
as the peer has at every size (the recipe scales them with the height: 5 at 128). ``replay`` gives both sides
the same features to cluster and the same batches to learn from. Each call is one row of one seed; what is finished is
skipped.
"""  # noqa: E501  # commands on one line

from __future__ import annotations

import argparse
import csv
import functools
import importlib
import json
import os
import platform
import runpy
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.cluster import DBSCAN
from torch import nn
from torch.utils.data import Sampler

from reseen.commands.train import train
from reseen.config import Config, ModelConfig, resolve
from reseen.data import TrainBatch, balanced_batches, open_data, train_batches
from reseen.data.split import validation_split, write_manifest
from reseen.evaluation import embed_crops
from reseen.methods import cluster_contrast, get_method
from reseen.methods.labelling import pseudo_labels
from reseen.metrics import reid_scores
from reseen.models import build_encoder, load_weights
from reseen.records import Crop, PseudoLabels, cameras_of
from reseen.training import train_epoch
from reseen.training.fit import new_run

HELD_OUT = 100  # the last training identities of Market-1501
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
STEPS = 10  # of a replay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
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
    if (result := given.out / f"{given.row}-{given.seed}.json").exists():
        return
    torch.set_num_threads(1)
    manifest = given.out / "validation.csv"
    write_manifest(manifest, validation_split(open_data(given.data), HELD_OUT, identities=IDENTITIES))
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


def run_peer(given: argparse.Namespace, manifest: Path) -> dict[str, Any]:
    """The peer's own script. Its features are scored by our metric, and by its own."""
    spent: dict[str, float] = {}
    scored: dict[str, Any] = {}
    labels: list[Any] = []
    put_on_cpu(given.peer, given.weights, spent)
    evaluators = importlib.import_module("clustercontrast.evaluators")
    evaluators.evaluate_all = scored_twice(evaluators.evaluate_all, scored)
    DBSCAN.fit_predict = keeping(DBSCAN.fit_predict, labels)
    words = {
        "-d": "market1501", "-a": "resnet50", "-b": BATCH, "-j": 0, "--height": HEIGHT, "--width": WIDTH,
        "--num-instances": INSTANCES, "--eps": 0.6, "--momentum": 0.1, "--iters": ITERATIONS, "--epochs": EPOCHS,
        "--step-size": EPOCHS + 1, "--eval-step": EPOCHS, "--seed": given.seed,
        "--data-dir": market_layout(manifest, given.out / "market"),
        "--logs-dir": given.out / f"{given.row}-{given.seed}",
    }  # fmt: skip
    script = given.peer / "examples" / "cluster_contrast_train_usl.py"
    sys.argv = [str(script), *(str(word) for pair in words.items() for word in pair)]
    with redirect_stdout(os.fdopen(os.dup(1), "w", buffering=1)):  # the script replaces and closes it
        runpy.run_path(str(script), run_name="__main__")
    return {**scored, "clusters": [int(found.max()) + 1 for found in labels], "cpu_seconds": spent}


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
        options |= {"query": query, "gallery": gallery, "cmc_flag": True}
        cmc, mean_ap = score(asked, found, *rest, **options)
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


def keeping(function: Callable[..., Any], kept: list[Any]) -> Callable[..., Any]:
    """``function``, with each of its results also in ``kept``."""

    def kept_too(*args: Any, **options: Any) -> Any:
        kept.append(function(*args, **options))
        return kept[-1]

    return kept_too


def replay(given: argparse.Namespace, manifest: Path) -> dict[str, Any]:
    """Labels from the same features, then losses of the same batches: everything but sampler and transforms."""
    spent: dict[str, float] = {}
    put_on_cpu(given.peer, given.weights, spent)
    config = resolve("cluster-contrast", settings=[*SETTINGS, f"seed={given.seed}"])
    crops, method = open_data(manifest).train, get_method("cluster-contrast")
    encoder = new_run(config, method, weights=given.weights, say=print).networks.encoder
    features, cameras = embed_crops(encoder, crops, config), cameras_of(crops)
    ours = pseudo_labels(features, cameras, config.cluster)
    rerank = importlib.import_module("clustercontrast.utils.faiss_rerank")
    distances = rerank.compute_jaccard_distance(features, k1=config.cluster.k1, k2=config.cluster.k2)
    theirs = DBSCAN(eps=config.cluster.eps, min_samples=4, metric="precomputed").fit_predict(distances)
    sizes = {"batch_size": BATCH, "instances": INSTANCES, "iterations": STEPS}
    rows = balanced_batches(ours.labels, cameras, **sizes, camera_aware=True, seed=given.seed, epoch=0)
    drawn = train_batches(crops, rows, config.data, seed=given.seed, epoch=0, views=("first",))
    batches = [(batch.rows, batch.first) for batch in drawn if batch.first is not None]
    lesson = Lesson(given.weights, config, features, ours, batches)
    exact, peer = (peer_losses(lesson, dtype) for dtype in (torch.float64, torch.float32))
    itself = peer_losses(lesson, torch.float32, torch.channels_last)
    return {
        "cpu_seconds": spent,
        "images": len(crops),
        "images_with_another_label": int((ours.labels != theirs).sum()),
        "losses": peer,
        "differences_of_losses": {
            "float64": apart(our_losses(lesson, torch.float64), exact),
            "float32": apart(our_losses(lesson, torch.float32), peer),
            "float32, the peer from itself in channels_last": apart(itself, peer),
        },
    }


class Lesson(NamedTuple):
    """What both sides learn from."""

    weights: Path
    config: Config
    features: torch.Tensor  # [M, D]
    pseudo: PseudoLabels
    batches: list[tuple[torch.Tensor, torch.Tensor]]  # rows [N], images [N, 3, h, w]


def our_losses(lesson: Lesson, dtype: torch.dtype) -> list[float]:
    """The loss of each batch in our loop."""
    weights, config, features, pseudo, batches = lesson
    method, losses = get_method("cluster-contrast"), list[float]()

    def keep(*args: Any) -> Any:
        terms, keys = method.losses(*args)
        losses.append(terms["cluster"].item())
        return terms, keys

    run = new_run(config, method, weights=weights, say=lambda line: None)
    run.networks.to(dtype)
    loaded = [TrainBatch(rows, images.to(dtype), None) for rows, images in batches]
    here = replace(
        method,
        embed=lambda run, crops: features.to(dtype),
        assign=lambda run, features, cameras: pseudo,
        choose=lambda run, pseudo, crops: [rows.numpy() for rows, _ in batches],
        load=lambda run, crops, batches, views: iter(loaded),
        losses=keep,
    )
    train_epoch(run, (Crop(Path()),) * len(features), here)
    return losses


def peer_losses(lesson: Lesson, dtype: torch.dtype, layout: Any = torch.contiguous_format) -> list[float]:
    """The loss of each batch in the peer's model, memory and trainer, which are put together as its script does."""
    _, config, features, pseudo, batches = lesson
    create = importlib.import_module("clustercontrast.models").create
    make = importlib.import_module("clustercontrast.models.cm").ClusterMemory
    trainer = importlib.import_module("clustercontrast.trainers").ClusterContrastTrainer
    model = create("resnet50", num_features=0, norm=True, dropout=0, num_classes=0, pooling_type="gem")
    model.to(dtype=dtype, memory_format=layout)
    labels = torch.from_numpy(pseudo.labels)
    loss = config.loss
    memory = make(features.shape[1], pseudo.num_clusters, temp=loss.temperature, momentum=loss.momentum)
    means = torch.stack([features[labels == k].to(dtype).mean(0) for k in range(pseudo.num_clusters)])
    memory.features = nn.functional.normalize(means, dim=1)
    losses: list[torch.Tensor] = []
    memory.forward = keeping(memory.forward, losses)
    moving = [value for value in model.parameters() if value.requires_grad]
    adam = torch.optim.Adam(moving, lr=config.train.lr, weight_decay=config.train.weight_decay)
    loaded = ((images.to(dtype, memory_format=layout), 0, labels[rows], 0, rows) for rows, images in batches)
    loader = SimpleNamespace(next=loaded.__next__)
    trainer(model, memory).train(0, loader, adam, print_freq=len(batches) + 1, train_iters=len(batches))
    return [loss.item() for loss in losses]


def apart(one: list[float], other: list[float]) -> list[float]:
    """Differences, to two digits: they are orders of magnitude."""
    return [float(f"{abs(a - b):.1e}") for a, b in zip(one, other, strict=True)]


def versions() -> dict[str, str]:
    """Of what computes; the peer's neighbour search where it was loaded."""
    loaded = {name: sys.modules.get(name) for name in ("torch", "numpy", "sklearn", "faiss")}
    found = {name: module.__version__ for name, module in loaded.items() if module}
    return {"python": platform.python_version()} | found


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
                f"| {clusters[0]}, {clusters[-1]} | {cpu['all']:.0f} | {cpu['embed']:.0f} | {cpu['cluster']:.0f} |"
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
