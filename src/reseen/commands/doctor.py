"""``reseen doctor``: what this machine has, what a data folder holds or lacks, and what to do with both."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reseen.config import Config, resolve
from reseen.data import examine
from reseen.errors import ReseenError
from reseen.evaluation.outlook import foresee
from reseen.methods import get_method
from reseen.methods.common import embed_clean
from reseen.models import resolve_device, resolve_precision
from reseen.progress import Progress
from reseen.records import Crop, Labels, PseudoLabels
from reseen.training import Run, new_run, train_epoch
from reseen.training.environment import environment
from reseen.training.settle import settled

STEPS = 4  # of training that are timed, after one that is not
PLENTY = 3000  # images for which a recipe's 30 neighbours are meant


def doctor(
    path: Path | None = None,
    *,
    camera_pattern: str | None = None,
    identity_pattern: str | None = None,
    timed: bool = False,
    settings: Sequence[str] = (),
) -> None:
    """Print the machine, then the data folder at ``path`` if one is given, then how to train on it.

    Args:
        timed: train a few steps of the recipe's network on these images and say how long all of them would take.
        settings: ``key=value`` on top of the recipe, for that.
    """
    if path is None and (timed or settings):
        raise ReseenError("--time trains a few steps on the images of a PATH: give one")
    device = resolve_device("auto")
    found = environment(device, resolve_precision(device, "auto"))
    print(f"python {found['python']} on {found['system']} {found['machine']}, {found['cores']} cores")
    print(f"device {found['device']}, precision {found['precision']} (train.precision=auto)")
    print(", ".join(f"{name} {version}" for name, version in found["packages"].items()))
    if path is None:
        return
    with Progress() as progress:
        report = examine(
            path,
            camera_pattern=camera_pattern,
            identity_pattern=identity_pattern,
            progress=progress.counter("check images"),
        )
    print("\n".join(foresee(report).lines()))
    images = report.crops
    if images is None or not images.train:
        return
    recipe, more = _recipe(len(images.train), device)
    patterns = (("--camera-pattern", camera_pattern), ("--identity-pattern", identity_pattern))
    words = ["reseen train cacl --data", shlex.quote(str(path))]
    words += [f"{option} {shlex.quote(pattern)}" for option, pattern in patterns if pattern is not None]
    print("  to train:", *words, "--recipe", recipe, *(f"--set {one}" for one in more))
    if timed:
        config = resolve(recipe, None, [*more, *settings], "none")  # random weights take as long
        tested = sum(len(part) for part in (images.query, images.gallery) if part is not None)
        print(f"  {how_long(config, images.train, tested)}")
    else:
        print("  how long that takes here: reseen doctor PATH --time, which trains a few steps")


def how_long(config: Config, crops: tuple[Crop, ...], tested: int) -> str:
    """How long a whole training takes, from a few steps of its network on some of its images; one line, which says so.

    Args:
        tested: images of query and gallery.
    """
    method = get_method(config.method)
    config = settled(config, len(crops), draws=method.draws)
    sample = crops[: 2 * config.train.batch_size]
    train = dataclasses.replace(config.train, iterations=STEPS + 1)
    short = dataclasses.replace(config, train=train)
    run = new_run(short, method, weights="none", say=lambda line: None, measure=True)
    ended: list[float] = []

    def assign(run: Run, features: Tensor, cameras: Labels) -> PseudoLabels:
        return PseudoLabels.of(np.arange(len(features)) // config.train.instances)

    def update(run: Run, *rest: Any) -> None:
        method.update(run, *rest)
        ended.append(_now(run.device))

    method.start(run, sample)
    train_epoch(run, sample, dataclasses.replace(method, assign=assign, update=update))
    began = _now(run.device)
    embed_clean(run, method.deployed(run.networks), sample)
    image = (_now(run.device) - began) / len(sample)
    step = (ended[-1] - ended[0]) / (len(ended) - 1)
    epochs, every = config.train.epochs, config.train.evaluate_every
    scored = 1 + (epochs - 1) // every if every else 1
    embedded = len(crops) * (1 if config.cluster.features == "memory" else epochs) + tested * scored
    seconds = epochs * config.train.iterations * step + embedded * image
    return (
        f"about {_in_words(seconds)} here: {epochs} epochs of {config.train.iterations} steps, {step:.2f} s each, and "
        f"{embedded:,} images to embed, {1000 * image:.1f} ms each (measured on {STEPS} steps of "
        f"{config.model.backbone} and {len(sample)} images; clustering and scoring come on top)"
    )


def _recipe(images: int, device: torch.device) -> tuple[str, list[str]]:
    """Recipe and settings for so many images on such a device."""
    if device.type == "cpu":
        return "cpu", []
    return "cacl", [] if images >= PLENTY else ["cluster.k1=auto", "train.iterations=auto"]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
