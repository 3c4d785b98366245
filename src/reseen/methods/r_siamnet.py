"""R-SiamNet: region siamese networks (arXiv:2109.06109), person search learned from boxes without identities.

One network sees each person twice: within the scene (x, the search path) and cut out of it (y, the instance path).
What is known of the paper, and from where: docs/methods/r-siamnet.md.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from reseen.clustering import finch
from reseen.config import Config
from reseen.data import SceneBatch
from reseen.losses import inter_instance_loss, self_instance_loss, unified_pair_loss
from reseen.memory import momentum_update
from reseen.methods.person_memory import SCENE_OF, both_paths, keys_of, memories, start
from reseen.models.pyramid import Pyramid, build_pyramid
from reseen.models.search import Searching, build_search_network, rehearse
from reseen.records import Labels, PseudoLabels, Scene, persons_of
from reseen.training.feeding import choose_scenes, load_scenes
from reseen.training.run import Method, Run

PUBLISHED_PERSONS = 45  # of a batch of 9 scenes: what a mean of L_int is scaled back to


def pyramid(config: Config) -> Pyramid:
    return build_pyramid(config.model.backbone, channels=config.search.channels, weights="none")[0]


def advice(run: Run, pseudo: PseudoLabels) -> str:
    """FINCH has no knob."""
    return "and all persons are one: begin with better weights (--weights), or give more scenes"


def embed(run: Run, scenes: tuple[Scene, ...]) -> Tensor:
    """What is clustered: the memory of both paths, or of the instance path where each has its own."""
    if not run.config.search.cluster:
        return torch.zeros(int(persons_of(scenes).sum()), 1, device=run.device)
    return run.memory[memories(run.config.search)[0][0]]


def assign(run: Run, features: Tensor, cameras: Labels) -> PseudoLabels:
    """FINCH's first partition with the image filter. In the first epoch all are outliers, unless told otherwise."""
    c = run.config.search
    if not c.cluster or (run.epoch == 0 and not c.cluster_first):
        return PseudoLabels(np.arange(len(features), dtype=np.int64))
    scene_of = run.memory[SCENE_OF]
    cluster = partial(finch, features, image_ids=scene_of, image_filter=c.image_filter)
    return PseudoLabels.of(run.ranks.broadcast(cluster))


def losses(run: Run, batch: SceneBatch, labels: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """L = L_det + L_ins + L_int + L_clu, x and y the features of the two paths ``[n, D]``, all weights 1.

    The n persons are those of this process, as in the published runs: L_int compares them with each other.
    """
    c = run.config.search
    maps, paths = both_paths(run, batch)
    with run.autocast():
        terms: dict[str, Tensor] = run.networks.network.detector.losses(maps, batch.sizes, batch.boxes)
    x, y = paths.search, paths.instance
    keys = keys_of(c, paths) if c.cluster else {}
    if not len(x):  # the same terms in every step, and parts of the graph: other processes may see persons
        on = {"self_instance": c.self_instance, "inter_instance": c.inter_instance, "cluster": c.cluster}
        return terms | {name: (x.sum() + y.sum()) * 0 for name in on if on[name]}, keys
    if c.self_instance:
        terms["self_instance"] = self_instance_loss(x, y)
    if c.inter_instance:
        scale = 1.0 if c.int_reduction == "sum" else PUBLISHED_PERSONS / len(x)
        terms["inter_instance"] = inter_instance_loss(x, y) * scale
    if c.cluster:
        everyone = torch.from_numpy(run.labels).to(run.device)
        pairs = [
            unified_pair_loss(z, run.memory[name], labels, everyone, scale=c.scale, margin=c.margin)
            for name, z in keys.items()
        ]
        terms["cluster"] = torch.stack(pairs).mean()
    return terms, keys


def update(run: Run, rows: Tensor, labels: Tensor, keys: dict[str, Tensor]) -> None:
    for name in keys.keys() & run.memory.keys():
        momentum_update(run.memory[name], rows, keys[name].detach(), momentum=run.config.search.momentum)


METHOD = Method(
    encoder=pyramid,
    shipped=build_search_network,
    choose=choose_scenes,
    load=load_scenes,
    rehearse=rehearse,
    advice=advice,
    groups_batch=False,  # batch norm is frozen, or sees a process's own scenes only
    build=Searching,
    deployed=Searching.shipped,
    start=start,
    embed=embed,
    assign=assign,
    losses=losses,
    update=update,
)
