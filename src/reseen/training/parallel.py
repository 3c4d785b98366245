"""What several processes share of an epoch: the neighbour search, and each step.

Each computes the losses of its share of the batch, and all apply the same update. Losses are means over the batch
and shares are equal, so the mean of the shares' gradients (DistributedDataParallel) is the gradient of the whole
batch, and gathered features move the memories as one process would.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from reseen.clustering import nearest_neighbours
from reseen.config import Config
from reseen.distributed import Ranks
from reseen.errors import ReseenError
from reseen.training.run import Batch, Method, Run

Losses = Callable[[Batch, Tensor], tuple[dict[str, Tensor], dict[str, Tensor]]]


class _Losses(nn.Module):
    """A method's losses as a forward pass, so that DistributedDataParallel follows them."""

    def __init__(self, run: Run, method: Method[Any, Any]) -> None:
        super().__init__()
        self.networks = run.networks
        self._run, self._method = run, method

    def forward(self, batch: Batch, labels: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        terms, keys = self._method.losses(self._run, batch, labels)
        # What goes to a memory is a constant. Left attached, it would promise gradients that never come.
        return terms, {name: features.detach() for name, features in keys.items()}


def shared_neighbours(features: Tensor, k1: int, ranks: Ranks) -> tuple[Tensor, Tensor] | None:
    """Neighbour lists of ``features`` ``[M, D]``, each process searching for its share of the rows.

    Returns:
        Indices and similarities ``[M, min(k1, M)]``; None for one process, which searches better by itself.
    """
    if ranks.alone:
        return None
    lists = nearest_neighbours(features, k1, rows=ranks.share(len(features)))
    sizes = ranks.sizes(len(features))
    indices, similarities = (ranks.gather_rows(torch.from_numpy(part), sizes) for part in lists)
    return indices, similarities


def losses_of(run: Run, method: Method[Any, Any]) -> Losses:
    """``method.losses`` of a batch and its labels; on several processes, gradients are averaged behind it.

    The object that averages them is made once a run: a second would average twice.
    """
    if run.ranks.alone:
        return partial(method.losses, run)
    if run.averaged is None:
        with warnings.catch_warnings():
            # broadcast_buffers: its new name is not in torch 2.11
            warnings.simplefilter("ignore", FutureWarning)
            run.averaged = DistributedDataParallel(
                _Losses(run, method),
                process_group=run.ranks.cards,
                broadcast_buffers=False,  # running statistics are averaged, see average_statistics
                static_graph=True,  # a recipe that leaves a branch without gradient does so in every step
            )
    return cast(Losses, run.averaged)


def check_batch(config: Config, ranks: Ranks, *, grouped: bool = True) -> None:
    """Check that every process gets the same number of images, and, where it is ``grouped``, in whole groups of batch
    norm.

    Raises:
        ReseenError: it does not; names the setting to change.
    """
    size, group = config.train.batch_size, config.model.bn_group_size
    if ranks.alone:
        return
    if size % ranks.ranks:
        raise ReseenError(
            f"train.batch_size is {size}, which {ranks.ranks} processes cannot share equally: "
            f"set it to a multiple of {ranks.ranks}, or start another number of processes"
        )
    if not grouped:
        return
    share = size // ranks.ranks
    if group == 0:
        raise ReseenError(
            "model.bn_group_size is 0: statistics of the whole batch, of which each process sees a part. Set "
            f"model.bn_group_size={share} (or a divisor of it), or train in one process"
        )
    if share % group:
        raise ReseenError(
            f"each of {ranks.ranks} processes gets {share} of train.batch_size={size} images, not whole groups of "
            f"model.bn_group_size={group}: set train.batch_size to a multiple of {ranks.ranks * group}, "
            "or start fewer processes"
        )


def whole_batch(run: Run, rows: Tensor, keys: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """What ``method.update`` needs of all shares: rows ``[N]`` and features ``[N, D]`` by memory.

    Args:
        rows, keys: this process's share. Scenes hold different numbers of persons, so shares may differ in length.
    """
    if run.ranks.alone:
        return rows, keys
    own = torch.tensor([len(rows)], device=run.device)
    sizes = run.ranks.gather_rows(own, [1] * run.ranks.ranks).tolist()
    gathered = {name: run.ranks.gather_rows(part.float(), sizes) for name, part in keys.items()}
    return run.ranks.gather_rows(rows, sizes), gathered


def average_statistics(run: Run) -> None:
    """Make the running statistics of batch norm those of all groups on all processes.

    A step moves them to (1 - m) old + m (mean over the groups). That is linear in both, so averaging once at the
    end of an epoch, before anything reads them, equals averaging after every step up to rounding.
    """
    for layer in run.networks.modules():
        if isinstance(layer, _BatchNorm) and not run.ranks.alone:
            for statistics in (layer.running_mean, layer.running_var):
                if statistics is not None:
                    statistics.copy_(run.ranks.mean(statistics))


def same_everywhere(run: Run) -> None:
    """Give every process the networks and memories of the first.

    On like machines they are the same already. On unlike ones the last bit of a sum may differ; an epoch is too
    short for that to matter, a run is not.
    """
    run.ranks.send_from_first(run.networks.state_dict().values())
    run.ranks.send_from_first(run.memory.values())
