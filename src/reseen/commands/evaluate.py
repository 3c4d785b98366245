"""``reseen evaluate``: a trained model on a benchmark's query and gallery, or on its scenes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from reseen.config import Config
from reseen.errors import ReseenError
from reseen.evaluation import as_record, embed_crops, evaluate_features, evaluate_reranked, sees_grey
from reseen.metrics import ReidScores
from reseen.models import Encoder, resolve_device
from reseen.progress import Progress
from reseen.records import LabelledCrops, ReidData
from reseen.tasks.configure import SCENES
from reseen.tasks.opening import chosen_file, open_crops
from reseen.tasks.scene_scores import evaluate_search
from reseen.tasks.two_step.config import is_two_step
from reseen.tasks.two_step.run import evaluate_two_step
from reseen.tasks.usable import usable
from reseen.training import load_encoder, trained_config


def evaluate(
    run: Path,
    *,
    data: Path,
    camera_pattern: str | None = None,
    epoch: str = "last",
    branch: str | None = None,
    view: str | None = None,
    rerank: bool = False,
    gallery_sizes: Sequence[int] | None = None,
    paths: Literal["search", "both"] | None = None,
) -> ReidScores | dict[str, Any]:
    """Score ``run`` on the test split of ``data``; prints the scores and adds a line to RUN/evaluations.jsonl.

    A run on crops gives mAP and CMC, one that searches scenes :func:`evaluate_search`'s record.

    Args:
        epoch: ``last``, ``best-on-test`` (chosen on the test set, as the papers do) or ``label-free``.
        camera_pattern, branch, view, rerank: for runs on crops. ``branch``: ``first`` or ``second`` (Table 5);
            None = the one that is shipped. ``view``: ``colour`` or ``grey``; None = grey for the second branch of a
            grey-trained model, else colour. ``rerank``: score a second time, after re-ranking; these are returned.
        gallery_sizes, paths: for runs on scenes, see :func:`evaluate_search`.

    Raises:
        ReseenError: no such run, ``data`` has no test split or is of the other kind, or an option is.
    """
    for_crops = {"camera-pattern": camera_pattern, "branch": branch, "view": view, "rerank": rerank}
    sizes = gallery_sizes or ()
    if is_two_step(run):
        _refuse(run, "two-step", for_crops | {"paths": paths})
        return evaluate_two_step(run, data, epoch=epoch, sizes=sizes)
    source = chosen_file(run, epoch)
    method = trained_config(source).method
    if method in SCENES:
        _refuse(run, method, for_crops)
        return evaluate_search(run, data, epoch=epoch, sizes=sizes, paths=paths)
    _refuse(run, method, {"gallery-size": gallery_sizes, "paths": paths})
    images = open_crops(data, f"{run} ({method})", camera_pattern=camera_pattern)
    encoder, checkpoint = load_encoder(source, branch=branch)
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


def _refuse(run: Path, method: str, options: Mapping[str, object]) -> None:
    given = [f"--{name}" for name, value in options.items() if value]
    if given:
        raise ReseenError(f"{given[0]} is not for {run}, a run of {method}: leave it out")


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
