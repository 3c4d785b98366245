"""``reseen demo``: CACL from scratch on the drawn street, beside everything that is simpler, in a few minutes."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from reseen.commands.report import report_on
from reseen.config import Config, resolve
from reseen.errors import ReseenError
from reseen.evaluation import BASELINES, evaluate_encoder, evaluate_features
from reseen.evaluation.encoders import as_record
from reseen.inference import load_encoder
from reseen.models import build_encoder, load_weights
from reseen.pages.tables import summary_table
from reseen.progress import Progress
from reseen.records import ReidData
from reseen.reports.run import save_comparison
from reseen.street import draw_crops
from reseen.tasks.crops import CROPS, train
from reseen.training import LAST, warm_up

WARM_UP_EPOCHS = 15
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
    if not resume:
        refuse_another(run, run)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))  # the other core draws and augments
    with Progress() as progress:
        images = draw_crops(run / "street", seed=seed, progress=progress.counter("draw the street"))
        progress.say(f"drawn street: {len(images.train)} crops nobody labelled -> {run / 'street'}")
        warm = run / "warmup.safetensors"
        if not (resume and warm.exists()):
            warm_up(config, images.train, warm, epochs=WARM_UP_EPOCHS, step=progress.step)
        progress.say(f"warm-up: {WARM_UP_EPOCHS} epochs of contrast between images, no clusters -> {warm}")
    train(replace(config, weights=str(warm)), images, run, resume)
    rows = compare(config, images, warm, run / "checkpoint" / LAST)
    save_comparison(run, rows)
    report_on(run, CROPS, images)
    Console().print(summary_table(rows, caption=f"drawn street, seed {seed}, last epoch.").to_rich())
    print(f"{time.perf_counter() - started:.0f} s in all; one seed is an anecdote: docs/results.md has three")
    return rows


def refuse_another(run: Path, *trained: Path) -> None:
    """An error where one of the run folders of the demo in ``run`` has been trained in, to its end or not."""
    if any((folder / "checkpoint" / LAST).exists() for folder in trained):
        page = run / "report" / "index.html"
        way_out = f"look at {page}" if page.exists() else "it is not finished, go on with --resume"
        raise ReseenError(f"{run} already holds a demo: {way_out}, or choose another --run")


def compare(config: Config, images: ReidData, warm: Path, trained: Path) -> list[dict[str, object]]:
    """The same query and gallery under each feature, weakest idea first."""
    query, gallery = images.query, images.gallery
    assert query is not None
    assert gallery is not None
    rows: list[dict[str, object]] = []
    for key, name in BASELINE_NAMES.items():
        feature = BASELINES[key]
        scores = evaluate_features(feature(query.crops), feature(gallery.crops), query, gallery)
        rows.append({"name": name, **as_record(scores)})
    torch.manual_seed(config.seed)
    untrained, warmed = build_encoder(config.model), build_encoder(config.model)
    load_weights(warmed, warm)
    networks = {"random network": untrained, "warm-up alone": warmed, "CACL": load_encoder(trained)[0]}
    for name, encoder in networks.items():
        rows.append({"name": name, **as_record(evaluate_encoder(encoder, images, config))})
    return rows
