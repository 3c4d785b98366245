"""``reseen evaluate``: a trained model on a benchmark's query and gallery."""

from __future__ import annotations

import json
from pathlib import Path

from reseen.data import clean_transform, grey_transform, open_data
from reseen.errors import ReseenError
from reseen.evaluation import evaluate_features
from reseen.experiments.progress import Progress
from reseen.metrics import ReidScores
from reseen.models import resolve_device, resolve_precision
from reseen.models.embedding import embed
from reseen.training import BEST, LABEL_FREE, LAST, load_encoder

FILES = {"last": LAST, "best-on-test": BEST, "label-free": LABEL_FREE}


def evaluate(
    run: Path,
    *,
    data: Path,
    camera_pattern: str | None = None,
    epoch: str = "last",
    branch: str | None = None,
    view: str | None = None,
) -> ReidScores:
    """Score ``run`` on the test split of ``data``; prints mAP and CMC and adds a line to RUN/evaluations.jsonl.

    Args:
        epoch: ``last``, ``best-on-test`` (chosen on the test set, as the papers do) or ``label-free``.
        branch: ``first`` or ``second`` (Table 5); None = the one that is shipped.
        view: ``colour`` or ``grey``; None = grey for the second branch of a grey-trained model, else colour.
    """
    images = open_data(data, camera_pattern=camera_pattern)
    if images.query is None or images.gallery is None:
        raise ReseenError(
            f"{data} has no query and gallery: evaluate needs a benchmark's layout (docs/data.md)"
        )
    source = run / "checkpoint" / FILES[epoch] if run.is_dir() else run
    encoder, checkpoint = load_encoder(source, branch=branch)
    config = checkpoint.config
    trained_grey = (branch or checkpoint.state["deployed"]) == "second" and config.data.second_view == "grey"
    grey = trained_grey if view is None else view == "grey"
    device = resolve_device(config.train.device)
    precision = resolve_precision(device, config.train.precision)
    transform = grey_transform(config.data) if grey else clean_transform(config.data)
    with Progress() as progress:
        query, gallery = (
            embed(
                encoder.to(device),
                part.crops,
                transform,
                batch_size=128,
                device=device,
                precision=precision,
                workers=config.data.workers,
                progress=lambda done, name=name, total=len(part): progress.step(f"embed {name}", done, total),  # type: ignore[misc]
            )
            for name, part in (("query", images.query), ("gallery", images.gallery))
        )
    scores = evaluate_features(query, gallery, images.query, images.gallery)
    print(
        f"{images.name}: mAP {scores.mean_ap:.1%}  "
        + "  ".join(f"rank-{k} {v:.1%}" for k, v in scores.cmc.items())
    )
    if run.is_dir():
        record = {
            "data": images.name,
            "epoch": checkpoint.state["epoch"],
            "chosen": epoch,
            "branch": branch or checkpoint.state["deployed"],
            "view": "grey" if grey else "colour",
            "mean_ap": scores.mean_ap,
            **{f"rank{k}": v for k, v in scores.cmc.items()},
        }
        with open(run / "evaluations.jsonl", "a") as log:
            log.write(json.dumps(record) + "\n")
    return scores
