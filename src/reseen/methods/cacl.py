"""CACL: cluster-guided asymmetric contrastive learning (arXiv:2106.07846), and its symmetric variant CSCL.

Two encoders F and F' start equal. The first sees colour, T(I); the second grey, G(T'(I)). A predictor G sits on
the first only. Which terms of Eq. (10) are on is configuration, so each row of Tables 3 to 7 is this file.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from reseen.config import Config
from reseen.data import TrainBatch
from reseen.evaluation.encoders import sees_grey
from reseen.losses import cluster_loss, instance_loss, inter_view_loss
from reseen.methods import cameras as per_camera
from reseen.methods.common import ON_CROPS, embed_augmented, embed_clean
from reseen.methods.instance_memory import centroids, freeze_centroids, update_memories
from reseen.methods.labelling import assign
from reseen.models.encoders import Siamese
from reseen.records import Crop, PseudoLabels
from reseen.training.run import Method, Run


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
    per_camera.start(run, crops)


def embed(run: Run, crops: tuple[Crop, ...]) -> Tensor:
    """The features that are clustered: those of the deployed branch, remembered, freshly augmented, or fresh.

    Fresh features of clean images also replace the memories: a row that no batch touched would be stale.
    """
    name = "second" if run.networks.first is None else "first"
    features = run.config.cluster.features
    if features == "augmented":
        return embed_augmented(run, run.networks.shipped(), crops, name)
    if features == "fresh" and run.epoch > 0:
        start(run, crops)
    return run.memory[name] if run.memory else embed_clean(run, run.networks.shipped(), crops)


def remember(run: Run, features: Tensor, pseudo: PseudoLabels) -> None:
    freeze_centroids(run)  # Algorithm 1, line 6
    per_camera.remember(run, pseudo)


def losses(run: Run, batch: TrainBatch, labels: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Eq. (10): L = L_I + L_C^(inter) + L_C^(intra), and for CSCL L'_I (14) and L'_C^(inter) (15).

    x, x2 are the features of the two branches ``[N, D]``, z and z2 the outputs of their predictors, u the
    centroids of each one's memory ``[K, D]``, constants, so that an inter-view term reaches one branch only.
    """
    networks, c = run.networks, run.config.loss
    intra_loss = partial(cluster_loss, temperature=c.temperature, focal_gamma=c.focal_gamma)
    u = centroids(run)
    if networks.first is None:  # Eq. (13) trains the one branch there is (Table 3, w/o L_I and L_C)
        with run.autocast():
            x2 = networks.second(batch.second).features
        return {"intra_second": intra_loss(x2, u["second"], labels)}, {"second": x2}
    with run.autocast():
        first, second = networks.first(batch.first), networks.second(batch.second)
        z = networks.predictor(first)
    x, x2 = first.features, second.features

    terms: dict[str, Tensor] = {}
    if c.instance:
        terms["instance"] = instance_loss(z, x2.detach() if c.stop_gradient else x2)  # Eq. (2)
    if c.inter:
        terms["inter"] = inter_view_loss(z, u["second"], labels)  # Eq. (3)
    if c.intra == "both":
        terms["intra_first"] = intra_loss(x, u["first"], labels)  # Eq. (5), q
    if c.intra in ("both", "second"):
        terms["intra_second"] = intra_loss(x2, u["second"], labels)  # Eq. (5), q~; Eq. (13)
    terms |= per_camera.losses(run, x, labels)
    if c.symmetric:
        with run.autocast():
            z2 = networks.second_predictor(second)
        if c.instance:
            terms["instance_second"] = instance_loss(z2, x.detach() if c.stop_gradient else x)  # Eq. (14)
        if c.inter:
            terms["inter_second"] = inter_view_loss(z2, u["first"], labels)  # Eq. (15)
    return terms, {"first": x, "second": x2}


def update(run: Run, rows: Tensor, labels: Tensor, keys: dict[str, Tensor]) -> None:
    """Eq. (11) and (12)."""
    update_memories(run, rows, labels, keys)
    per_camera.update(run, rows, keys)


METHOD = Method(
    **ON_CROPS,
    build=Siamese,
    deployed=Siamese.shipped,
    views=views,
    start=start,
    embed=embed,
    assign=assign,
    remember=remember,
    losses=losses,
    update=update,
)
