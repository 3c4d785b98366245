"""``reseen demo``: CACL from scratch on the drawn street, beside everything that is simpler, in a few minutes."""

from __future__ import annotations

import json
import time
from pathlib import Path

from rich.console import Console

from reseen.config import Config, resolve
from reseen.data import clean_transform
from reseen.data.synthetic import draw_crops
from reseen.evaluation import BASELINES, evaluate_features
from reseen.experiments.canvas import write_atomically
from reseen.experiments.progress import Progress
from reseen.experiments.run_report import report
from reseen.experiments.report import summary_table
from reseen.experiments.train import train_run
from reseen.metrics import ReidScores
from reseen.models import Encoder, build_encoder
from reseen.models.embedding import embed
from reseen.records import ReidData
from reseen.training import LAST, load_encoder, warm_up
from reseen.models import load_weights

import torch

WARM_UP_EPOCHS = 25
BASELINE_NAMES = {
    "chance": "chance",
    "colour_histogram": "colour histogram",
    "striped_histogram": "striped colour histogram",
    "thumbnail": "normalised thumbnail",
    "row_means": "row means",
}


def demo(*, run: Path = Path("runs/demo"), seed: int = 3, resume: bool = False) -> list[dict[str, object]]:
    """Draw a street, warm up, train CACL; print one table with every simpler way beside it; write the report.

    Each row sees the same test images; the networks share the augmentation T and the last epoch is scored.
    Returns the rows: name, mean_ap, rank1.
    """
    started = time.perf_counter()
    config = resolve("street", None, [f"seed={seed}"])
    with Progress() as progress:
        images = draw_crops(run / "street", seed=seed, progress=progress.counter("draw the street"))
        progress.say(f"drawn street: {len(images.train)} crops nobody labelled -> {run / 'street'}")
        warm = run / "warmup.safetensors"
        if not (resume and warm.exists()):
            warm_up(config, images.train, warm, epochs=WARM_UP_EPOCHS, step=progress.step)
        progress.say(f"warm-up: {WARM_UP_EPOCHS} epochs of contrast between images, no clusters -> {warm}")
    train_run(config, images, run, resume=resume, weights=warm)
    rows = compare(config, images, warm, run / "checkpoint" / LAST)
    write_atomically(run / "report" / "comparison.json", json.dumps(rows, indent=2).encode())
    report(run, images=images)
    Console().print(summary_table(rows, caption=f"drawn street, seed {seed}, last epoch").text())
    print(f"{time.perf_counter() - started:.0f} s in all; one seed is an anecdote: docs/results.md has three")
    return rows


def compare(config: Config, images: ReidData, warm: Path, trained: Path) -> list[dict[str, object]]:
    """The same query and gallery under each feature, weakest idea first."""
    rows: list[dict[str, object]] = []

    def add(name: str, scores: ReidScores) -> None:
        rows.append({"name": name, "mean_ap": scores.mean_ap, "rank1": scores.cmc[1]})

    assert images.query is not None and images.gallery is not None
    for key, name in BASELINE_NAMES.items():
        feature = BASELINES[key]
        add(name, evaluate_features(feature(images.query.crops), feature(images.gallery.crops), images.query, images.gallery))
    torch.manual_seed(config.seed)
    untrained = build_encoder(config.model)
    warmed = build_encoder(config.model)
    load_weights(warmed, warm)
    for name, encoder in (
        ("random network", untrained),
        ("warm-up alone", warmed),
        ("CACL", load_encoder(trained)[0]),
    ):
        add(name, score(encoder, config, images))
    return rows


def score(encoder: Encoder, config: Config, images: ReidData) -> ReidScores:
    """mAP and CMC of an encoder on the street's test split."""
    assert images.query is not None and images.gallery is not None
    transform = clean_transform(config.data)
    query, gallery = (
        embed(encoder, part.crops, transform, batch_size=128, precision=config.train.precision, workers=config.data.workers)
        for part in (images.query, images.gallery)
    )
    return evaluate_features(query, gallery, images.query, images.gallery)
