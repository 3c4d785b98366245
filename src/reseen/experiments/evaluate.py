"""``reseen evaluate``: a trained model on a benchmark's query and gallery."""

from __future__ import annotations

import json
from pathlib import Path

from reseen.data import open_data
from reseen.evaluation import as_record, evaluate_encoder, sees_grey
from reseen.experiments.progress import Progress
from reseen.experiments.usable import usable
from reseen.metrics import ReidScores
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
    encoder, checkpoint = load_encoder(
        run / "checkpoint" / FILES[epoch] if run.is_dir() else run, branch=branch
    )
    config, branch = checkpoint.config, branch or checkpoint.state["deployed"]
    grey = sees_grey(config, branch) if view is None else view == "grey"
    with Progress() as progress:
        images = usable(images, max_bad_share=config.data.max_bad_share, progress=progress)
        scores = evaluate_encoder(encoder, images, config, grey=grey, step=progress.step)
    ranks = "  ".join(f"rank-{rank} {value:.1%}" for rank, value in scores.cmc.items())
    print(f"{images.name}: mAP {scores.mean_ap:.1%}  {ranks}")
    if run.is_dir():
        record = {"data": images.name, "epoch": checkpoint.state["epoch"], "chosen": epoch, "branch": branch}
        record |= {"view": "grey" if grey else "colour", **as_record(scores)}
        with open(run / "evaluations.jsonl", "a") as log:
            log.write(json.dumps(record) + "\n")
    return scores
