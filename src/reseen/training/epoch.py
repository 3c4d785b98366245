"""One epoch of clustering-based training. It serves every method; identities are never read."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reseen.data.samplers import undrawn_share
from reseen.errors import ReseenError
from reseen.metrics import DEFAULT_CRITERION, cross_camera_share, feature_spread, label_free_criteria
from reseen.records import Labels, PseudoLabels, cameras_of, persons_in
from reseen.training.parallel import average_statistics, losses_of, same_everywhere, whole_batch
from reseen.training.run import Batches, Images, Method, Run, known_cameras, learning_rate

SHOW_SECONDS = 0.3  # between looks at the loss of a step: each makes an accelerator's host wait for it


@dataclass
class EpochStats:
    """What one epoch did: mean of each loss term, and how the persons clustered (a crop shows one person)."""

    images: int  # crops, or persons in scenes
    clusters: int  # of two or more
    outliers: int  # images in no cluster of two or more
    cross_camera_share: float  # of the clusters; nan where cameras are not known
    feature_spread: float  # 1 = all over the sphere, 0 = collapsed
    label_free: float  # the criterion that chooses an epoch without test labels
    criteria: dict[str, float]  # all of them by name (reseen.metrics.label_free); nan where not defined
    undrawn_share: float = math.nan  # of the clustered persons: in no batch, so their remembered features age
    parts_left: int | None = None  # of clusters, taken out by refinement
    parts_stayed: int | None = None
    loss: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def train_epoch(run: Run, images: Images, method: Method[Images, Any]) -> EpochStats:
    """Embed every person, cluster the features into pseudo identities, contrast batches against them.

    Advances ``run`` in place, but for its epoch counter (CACL, Algorithm 1, lines 3 to 8). On several processes each
    calls this, and all end with the same networks, memories and labels.

    Args:
        run: networks, optimiser, memories.
        images: unlabelled crops, or scenes with boxes, of M persons in a fixed order; row i of every ``[M, ...]``
            array is person i.
        method: the functions in which one paper differs from another.

    Raises:
        ReseenError: fewer than two classes, or a loss that is not finite; names the knob to turn.
    """
    started = time.perf_counter()
    features = method.embed(run, images)  # [M, D]
    embedded = time.perf_counter()
    run.step("cluster", 0, 1)
    pseudo = method.assign(run, features, cameras_of(images))
    _refuse_one_class(run, method, pseudo)
    previous, run.labels = run.labels, pseudo.labels
    method.remember(run, features, pseudo)
    stats = _describe(features, pseudo, previous, images)
    clustered = looked = time.perf_counter()

    batches: Batches = method.choose(run, pseudo, images)
    drawn = np.concatenate([*batches, np.empty(0, dtype=np.int64)])
    stats.undrawn_share = undrawn_share(pseudo.labels, persons_in(images, drawn))
    labels, losses = torch.from_numpy(run.labels).to(run.device), losses_of(run, method)
    sums: dict[str, Tensor] = {}
    run.networks.train()
    for done, batch in enumerate(method.load(run, images, batches, method.views(run.config)), start=1):
        terms, keys = losses(batch, labels[batch.persons])
        loss = torch.stack(list(terms.values())).sum()
        look = done == len(batches) or time.perf_counter() - looked > SHOW_SECONDS
        if (look or run.device.type == "cpu") and not torch.isfinite(loss):
            raise ReseenError(_not_finite(run, terms))
        _descend(run, loss, step=run.epoch * len(batches) + done)
        rows, keys = whole_batch(run, batch.persons, keys)
        method.update(run, rows, labels[rows], keys)  # after the step: backward() has no side effect
        for name, value in {**terms, "total": loss}.items():
            sums[name] = sums.get(name, torch.zeros((), device=run.device)) + value.detach()
        if look:
            looked = time.perf_counter()
            run.step("train", done, len(batches), f"loss {loss.item():.3f}")
    means = run.ranks.mean(torch.stack(list(sums.values())))
    stats.loss = {name: value / len(batches) for name, value in zip(sums, means.tolist(), strict=True)}
    average_statistics(run)
    if not all(bool(t.isfinite().all()) for t in run.networks.state_dict().values()):
        raise ReseenError(_not_finite(run, {}))  # before these weights could replace the last good ones
    same_everywhere(run)
    times = {"embed": embedded - started, "cluster": clustered - embedded}
    stats.seconds = times | {"train": time.perf_counter() - clustered}
    return stats


def _descend(run: Run, loss: Tensor, *, step: int) -> None:
    """One step of the optimiser, the ``step``-th of the run, down the gradient of ``loss``."""
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(run.config, run.epoch, step)
    run.optimizer.zero_grad(set_to_none=True)
    run.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    if run.config.train.clip_norm:
        run.scaler.unscale_(run.optimizer)
        torch.nn.utils.clip_grad_norm_(run.networks.parameters(), run.config.train.clip_norm)
    run.scaler.step(run.optimizer)
    run.scaler.update()


def _refuse_one_class(run: Run, method: Method[Any, Any], pseudo: PseudoLabels) -> None:
    """Raise ReseenError where clustering left nothing to tell apart."""
    if run.config.cluster.enabled and pseudo.num_clusters < 2:
        left = f"epoch {run.epoch + 1}: {pseudo.num_clusters} classes are left"
        raise ReseenError(f"{left} {method.advice(run, pseudo)}")


def _describe(features: Tensor, pseudo: PseudoLabels, previous: Labels, images: Images) -> EpochStats:
    """Clusters of two and more, outliers, signs of health, criteria. ``previous``: the last labels."""
    sizes = np.bincount(pseudo.labels[pseudo.labels >= 0], minlength=1)
    criteria = label_free_criteria(features, pseudo.labels, previous)
    cameras = known_cameras(images)
    return EpochStats(
        images=len(pseudo.labels),
        clusters=int((sizes > 1).sum()),
        outliers=pseudo.num_outliers + int((sizes == 1).sum()),
        cross_camera_share=math.nan if cameras is None else cross_camera_share(pseudo.labels, cameras),
        feature_spread=feature_spread(features),
        label_free=criteria[DEFAULT_CRITERION],
        criteria=criteria,
        parts_left=pseudo.parts_left,
        parts_stayed=pseudo.parts_stayed,
    )


def _not_finite(run: Run, terms: dict[str, Tensor]) -> str:
    bad = ", ".join(name for name, value in terms.items() if not torch.isfinite(value))
    return (
        f"epoch {run.epoch + 1}: the loss is not finite ({bad or 'weights'}): lower train.lr "
        f"(now {run.config.train.lr}) or set train.precision=none, in a new --run; what was saved is kept"
    )
