"""R-SiamNet's memory: a row for every box, of both paths joined (``concat``) or one memory for each (``dual``)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reseen.config import SearchConfig
from reseen.data import SceneBatch, SceneView, clean_scene_batches
from reseen.errors import ReseenError
from reseen.models.encoders import evaluation_mode
from reseen.models.search import Paths
from reseen.records import Scene, persons_of
from reseen.training.run import Run

BLOCK = 8  # scenes that are embedded together
SCENE_OF = "scene_of"  # kept with the memories, so it is saved: the scene of each row


@torch.no_grad()
def start(run: Run, scenes: tuple[Scene, ...]) -> None:
    """A memory row for every box, from both paths of the network as it begins; scenes are not mirrored.

    Raises:
        ReseenError: a box shows nobody.
    """
    c, network = run.config.search, run.networks.network
    if not c.cluster:
        return
    shares = run.ranks.shares(len(scenes), BLOCK)
    own = scenes[shares[run.ranks.rank]]
    sizes = [int(persons_of(scenes[share]).sum()) for share in shares]
    rows = {name: torch.zeros(sizes[run.ranks.rank], width, device=run.device) for name, width in memories(c)}
    size = SceneView.of_config(run.config)
    with evaluation_mode(network):
        for batch in clean_scene_batches(own, size, batch_size=BLOCK, workers=run.config.data.workers):
            batch = batch.to(run.device, channels_last=run.config.train.channels_last)
            for name, features in keys_of(c, both_paths(run, batch)[1]).items():
                rows[name][batch.persons] = F.normalize(features, dim=1)
            run.step("embed", int(batch.scenes[-1]) + 1, len(own), "")
    run.memory = {name: run.ranks.gather_rows(part, sizes) for name, part in rows.items()}
    run.memory[SCENE_OF] = torch.from_numpy(np.repeat(np.arange(len(scenes)), persons_of(scenes))).to(
        run.device
    )
    empty = torch.nonzero(~run.memory[memories(c)[0][0]].any(dim=1)).flatten().tolist()
    if empty:  # the loader drops such boxes, so their rows would stay 0 for ever
        scene = scenes[int(run.memory[SCENE_OF][empty[0]])]
        raise ReseenError(
            f"{scene.path} has a box that shows nobody (outside of the image, or without an area), one of "
            f"{len(empty)}: remove it; reseen doctor lists them"
        )


def both_paths(run: Run, batch: SceneBatch) -> tuple[list[Tensor], Paths]:
    network = run.networks.network
    with run.autocast():
        maps = network.pyramid(batch.images)
        if run.config.search.reidentifies:
            return maps, network.both_paths(maps, batch.images, batch.boxes)
    nothing = batch.images.new_zeros(0, network.dim)
    return maps, Paths(nothing, nothing)


def memories(config: SearchConfig) -> list[tuple[str, int]]:
    """Names and widths; the first is the one that is clustered."""
    if config.memory == "concat":
        return [("persons", 2 * config.dim)]
    return [("instance", config.dim), ("search", config.dim)]


def keys_of(config: SearchConfig, paths: Paths) -> dict[str, Tensor]:
    """What goes to each memory and is compared with it: z = [y; x], or y and x by themselves."""
    if config.memory == "concat":
        return {"persons": torch.cat([paths.instance, paths.search], dim=1)}
    return {"instance": paths.instance, "search": paths.search}
