"""``reseen train``: the run of a method on a data set, watched from outside of training."""

from __future__ import annotations

import difflib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reseen.config import Config, from_yaml, resolve
from reseen.data import clean_transform, grey_transform, open_data, scan_images
from reseen.errors import ReseenError
from reseen.evaluation import evaluate_features
from reseen.experiments.progress import Progress
from reseen.experiments.run_report import report
from reseen.methods import get_method
from reseen.metrics import clustering_scores
from reseen.models.embedding import embed
from reseen.records import Labels, ReidData
from reseen.training import Method, Run, fit

NAMES = ("cacl", "cscl", "spcl", "cluster-contrast")  # each is also the name of its recipe


def train(
    method: str,
    *,
    data: Path,
    camera_pattern: str | None = None,
    run: Path | None = None,
    resume: bool = False,
    weights: str = "imagenet",
    recipe: str | None = None,
    config: Path | None = None,
    settings: list[str] | None = None,
) -> Path:
    """Train, evaluate where the data has a test split, and write the report. Returns the run folder."""
    images = open_data(data, camera_pattern=camera_pattern)
    folder = run or Path("runs") / f"{recipe or method}-{images.name.lower()}"
    resolved = _configuration(method, folder, resume, recipe, config, settings or [])
    train_run(resolved, images, folder, resume=resume, weights=weights)
    report(folder, data=data, images=images)
    print(f"report: {folder / 'report' / 'index.html'}")
    return folder


def train_run(config: Config, images: ReidData, folder: Path, *, resume: bool, weights: str | Path) -> Run:
    """One run on data that is already read: unreadable images are named and left out first."""
    with Progress() as progress:
        for problem in images.skipped[:5]:
            progress.say(f"skipped: {problem}")
        crops, kept, problems = scan_images(
            images.train, max_bad_share=config.data.max_bad_share, progress=progress.counter("check images")
        )
        for problem in problems:
            progress.say(f"skipped: {problem}")
        if len(crops) < config.train.instances:
            raise ReseenError(f"{images.root} holds {len(crops)} usable images: training needs more")
        identities = images.train_identities[kept] if images.train_identities is not None else None
        return fit(
            config,
            crops,
            get_method(config.method),
            folder=folder,
            root=images.root,
            weights=weights,
            resume=resume,
            watch=lambda state, method: watch(state, method, images, identities),
            step=progress.step,
            say=progress.say,
        )


def watch(run: Run, method: Method, images: ReidData, identities: Labels | None) -> dict[str, Any]:
    """Diagnostics after an epoch. Identities are read here and nowhere earlier; nothing flows back."""
    record: dict[str, Any] = {}
    if identities is not None and run.config.cluster.enabled:
        record["diagnostics"] = {
            name: float(value) for name, value in asdict(clustering_scores(run.labels, identities)).items()
        }
    every, last = run.config.train.evaluate_every, run.epoch == run.config.train.epochs
    if (
        images.query is not None
        and images.gallery is not None
        and (last or (every and run.epoch % every == 0))
    ):
        record["test"] = test_scores(run, method, images)
    return record


def test_scores(run: Run, method: Method, images: ReidData) -> dict[str, float]:
    """mAP and CMC of the shipped branch, as fractions."""
    assert images.query is not None and images.gallery is not None
    encoder, data = method.deployed(run.networks), run.config.data
    grey = run.config.loss.branches == "second" and data.second_view == "grey"
    transform = grey_transform(data) if grey else clean_transform(data)
    query, gallery = (
        embed(
            encoder,
            part.crops,
            transform,
            batch_size=128,
            device=run.device,
            precision=run.precision,
            workers=data.workers,
        )
        for part in (images.query, images.gallery)
    )
    scores = evaluate_features(query, gallery, images.query, images.gallery)
    return {"mean_ap": scores.mean_ap, **{f"rank{k}": value for k, value in scores.cmc.items()}}


def _configuration(
    method: str, folder: Path, resume: bool, recipe: str | None, config: Path | None, settings: list[str]
) -> Config:
    """Recipe, file and settings; a resumed run without any of them takes its own ``config.yaml``."""
    if method not in NAMES:
        near = difflib.get_close_matches(method, NAMES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(NAMES)}"
        raise ReseenError(f"there is no method {method!r}: {hint}")
    stored = folder / "config.yaml"
    if resume and stored.exists() and recipe is None and config is None and not settings:
        return from_yaml(stored.read_text())
    resolved = resolve(recipe or method, config, settings)
    if resolved.method != resolve(method, None, []).method:
        raise ReseenError(f"recipe {resolved.recipe!r} is for method {resolved.method!r}, not {method!r}")
    return resolved
