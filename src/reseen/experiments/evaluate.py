"""``reseen evaluate``: a trained model on a benchmark's query and gallery."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from reseen.config import Config
from reseen.data import open_data
from reseen.errors import ReseenError
from reseen.evaluation import as_record, embed_crops, evaluate_features, evaluate_reranked, sees_grey
from reseen.experiments.progress import Progress
from reseen.experiments.usable import usable
from reseen.metrics import ReidScores
from reseen.models import Encoder, resolve_device
from reseen.records import LabelledCrops, ReidData
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
    rerank: bool = False,
) -> ReidScores:
    """Score ``run`` on the test split of ``data``; prints mAP and CMC and adds a line to RUN/evaluations.jsonl.

    Args:
        epoch: ``last``, ``best-on-test`` (chosen on the test set, as the papers do) or ``label-free``.
        branch: ``first`` or ``second`` (Table 5); None = the one that is shipped.
        view: ``colour`` or ``grey``; None = grey for the second branch of a grey-trained model, else colour.
        rerank: score a second time, after re-ranking. That gives lines of its own, and these scores are returned.

    Raises:
        ReseenError: no such run, or ``data`` has no test split.
    """
    images = open_data(data, camera_pattern=camera_pattern)
    encoder, checkpoint = load_encoder(
        run / "checkpoint" / FILES[epoch] if run.is_dir() else run, branch=branch
    )
    config, branch = checkpoint.config, branch or checkpoint.state["deployed"]
    grey = sees_grey(config, branch) if view is None else view == "grey"
    with Progress() as progress:
        images = usable(images, max_bad_share=config.data.max_bad_share, progress=progress)
        query, gallery = _test_split(images)
        asked = _embed("query", encoder, query, config, grey, progress)
        found = _embed("gallery", encoder, gallery, config, grey, progress)
    record = {"data": images.name, "epoch": checkpoint.state["epoch"], "chosen": epoch, "branch": branch}
    record["view"] = "grey" if grey else "colour"
    log = run / "evaluations.jsonl" if run.is_dir() else None
    scores = evaluate_features(asked, found, query, gallery)
    _tell(images.name, scores, log, record | {"rerank": False})
    if rerank:
        scores = evaluate_reranked(asked, found, query, gallery, device=resolve_device("auto"))
        _tell(f"{images.name}, re-ranked", scores, log, record | {"rerank": True})
    return scores


def _test_split(images: ReidData) -> tuple[LabelledCrops, LabelledCrops]:
    if images.query is None or images.gallery is None:
        raise ReseenError(
            f"{images.root} has no query and gallery: scoring needs a benchmark's layout (docs/data.md)"
        )
    return images.query, images.gallery


def _embed(
    name: str, encoder: Encoder, part: LabelledCrops, config: Config, grey: bool, progress: Progress
) -> Tensor:
    def count(done: int) -> None:
        progress.step(f"embed {name}", done, len(part))

    return embed_crops(encoder, part.crops, config, grey=grey, progress=count)


def _tell(name: str, scores: ReidScores, log: Path | None, record: dict[str, object]) -> None:
    ranks = "  ".join(f"rank-{rank} {value:.1%}" for rank, value in scores.cmc.items())
    print(f"{name}: mAP {scores.mean_ap:.1%}  {ranks}")
    if log is not None:
        with open(log, "a") as file:
            file.write(json.dumps(record | as_record(scores)) + "\n")
