"""CACL: cluster-guided asymmetric contrastive learning (arXiv:2106.07846), and its symmetric variant CSCL.

Two encoders F and F' start equal. The first sees colour, T(I); the second grey, G(T'(I)). A predictor G sits on
the first only. Which terms of Eq. (10) are on is configuration, so each row of Tables 3 to 7 is this file.
"""

from __future__ import annotations

import copy

import numpy as np
from torch import Tensor, nn

from reseen.config import Config
from reseen.data import TrainBatch
from reseen.evaluation import sees_grey
from reseen.losses import instance_loss, inter_view_loss
from reseen.methods.cameras import camera_term, keep_cameras, move_centres, split_by_camera
from reseen.methods.common import (
    ON_CROPS,
    contrast,
    embed_augmented,
    embed_clean,
    freeze_centroids,
    memory_centroids,
    update_memory,
)
from reseen.methods.labelling import pseudo_labels
from reseen.models import Encoder, build_predictor
from reseen.records import OUTLIER, Crop, Labels, PseudoLabels
from reseen.training.run import Method, Run


class Siamese(nn.Module):
    """F, F', the predictor G on the first branch and, in CSCL only, G' on the second. Absent parts are None."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        both = config.loss.branches == "both"
        self.second = copy.deepcopy(encoder)
        self.first = encoder if both else None
        self.predictor = build_predictor(config.model, encoder.dim) if both else None
        self.second_predictor = build_predictor(config.model, encoder.dim) if config.loss.symmetric else None


def deployed(networks: nn.Module) -> Encoder:
    """Algorithm 1, line 9: F is evaluated. Alone (Table 3, first row), F' is."""
    return networks.first or networks.second  # type: ignore[return-value]


def views(config: Config) -> tuple[str, ...]:
    return ("first", "second") if config.loss.branches == "both" else ("second",)


def start(run: Run, crops: tuple[Crop, ...]) -> None:
    """Algorithm 1, line 1: each memory starts from the features of its own branch, in its own view (in the release,
    ``second_memory_init: colour``, the second one from colour images)."""
    if not run.config.cluster.enabled:
        return  # L_I alone reads no memory
    as_released = run.epoch == 0 and run.config.loss.second_memory_init == "colour"
    grey = sees_grey(run.config, "second") and not as_released
    if run.networks.first is not None:
        run.memory["first"] = embed_clean(run, run.networks.first, crops)
    run.memory["second"] = embed_clean(run, run.networks.second, crops, grey=grey)
    if run.config.loss.camera_weight:
        keep_cameras(run, crops)


def embed(run: Run, crops: tuple[Crop, ...]) -> Tensor:
    """The features that are clustered: those of the deployed branch, remembered, freshly augmented, or fresh.

    Fresh features of clean images also replace the memories: a row that no batch touched would be stale.
    """
    name = "second" if run.networks.first is None else "first"
    match run.config.cluster.features:
        case "memory" if run.config.cluster.enabled:
            return run.memory[name]
        case "augmented":
            return embed_augmented(run, deployed(run.networks), crops, name)
    if run.epoch > 0:
        start(run, crops)
    return run.memory[name] if run.memory else embed_clean(run, deployed(run.networks), crops)


def assign(run: Run, features: Tensor, cameras: Labels) -> PseudoLabels:
    """Algorithm 1, line 5. Without clustering (Table 7, first row) nobody gets a label."""
    if not run.config.cluster.enabled:
        return PseudoLabels(np.full(len(features), OUTLIER, dtype=np.int64))
    return pseudo_labels(features, cameras, run.config.cluster, run.ranks)


def remember(run: Run, features: Tensor, pseudo: PseudoLabels) -> None:
    for name in _memories(run):  # Algorithm 1, line 6
        freeze_centroids(run, name)
    if run.config.loss.camera_weight:
        split_by_camera(run, run.memory["first"], pseudo)


def losses(run: Run, batch: TrainBatch, labels: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Eq. (10): L = L_I + L_C^(inter) + L_C^(intra), and for CSCL L'_I (14) and L'_C^(inter) (15).

    x, x2 are the features of the two branches ``[N, D]``, z and z2 the outputs of their predictors, u and u2 the
    cluster centres of their memories ``[K, D]``, constants, so that an inter-view term reaches one branch only.
    """
    networks, c = run.networks, run.config.loss
    if networks.first is None:  # Eq. (13) trains the one branch there is (Table 3, w/o L_I and L_C)
        with run.autocast():
            x2 = networks.second(batch.second).features
        return {"intra_second": contrast(run, x2, memory_centroids(run, "second"), labels)}, {"second": x2}
    with run.autocast():
        first, second = networks.first(batch.first), networks.second(batch.second)
        z = networks.predictor(first)
    x, x2 = first.features, second.features
    centres = {name: memory_centroids(run, name) for name in _memories(run)}

    terms: dict[str, Tensor] = {}
    if c.instance:
        terms["instance"] = instance_loss(z, x2.detach() if c.stop_gradient else x2)  # Eq. (2)
    if c.inter:
        terms["inter"] = inter_view_loss(z, centres["second"], labels)  # Eq. (3)
    if c.intra == "both":
        terms["intra_first"] = contrast(run, x, centres["first"], labels)  # Eq. (5), q
    if c.intra in ("both", "second"):
        terms["intra_second"] = contrast(run, x2, centres["second"], labels)  # Eq. (5), q~; Eq. (13)
    if c.camera_weight:
        terms["camera"] = camera_term(run, x, labels)
    if c.symmetric:
        with run.autocast():
            z2 = networks.second_predictor(second)
        if c.instance:
            terms["instance_second"] = instance_loss(z2, x.detach() if c.stop_gradient else x)  # Eq. (14)
        if c.inter:
            terms["inter_second"] = inter_view_loss(z2, centres["first"], labels)  # Eq. (15)
    return terms, {"first": x, "second": x2}


def update(run: Run, rows: Tensor, labels: Tensor, keys: dict[str, Tensor]) -> None:
    """Eq. (11) and (12)."""
    for name in _memories(run):
        update_memory(run, name, rows, labels, keys[name])
    if run.config.loss.camera_weight:
        move_centres(run, rows, keys["first"])


def _memories(run: Run) -> list[str]:
    return [name for name in ("first", "second") if name in run.memory]


METHOD = Method(
    **ON_CROPS,
    build=Siamese,
    deployed=deployed,
    views=views,
    start=start,
    embed=embed,
    assign=assign,
    remember=remember,
    losses=losses,
    update=update,
)
