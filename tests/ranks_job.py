"""What each process of tests/test_training_ranks.py runs: a list of trainings, and what it saw of each, as JSON.

The last training cannot begin: it has a mistake in its settings, on which all processes end.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reseen.distributed import ALONE, Ranks, join
from reseen.errors import ReseenError
from reseen.methods import get_method
from reseen.records import Crop
from reseen.training import fit
from worlds import tiny


class StopError(Exception):
    pass


def digest(*tensors: torch.Tensor) -> str:
    result = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        result.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return result.hexdigest()


def train(
    crops: tuple[Crop, ...],
    folder: Path,
    recipe: str,
    settings: list[str],
    *,
    resume: bool = False,
    stop_in: int = 0,
    drift: float = 0.0,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """What can be compared, in order: memories and weights after every step, and all else after every epoch.

    Args:
        stop_in: epoch that ends before it is saved; 0 = none.
        drift: what a second process with another rounding would add to its memories, much enlarged.
    """
    config = tiny(recipe, *settings)
    method = get_method(config.method)
    seen: dict[str, Any] = {
        name: [] for name in ("steps", "weights", "labels", "memory", "networks", "statistics")
    }
    seen["embedded"] = 0

    def update(run, batch, labels, keys):
        method.update(run, batch, labels, keys)
        rows = getattr(batch, "rows", batch)
        seen["steps"].append(digest(rows, labels, *keys.values(), *run.memory.values()))
        seen["weights"].append(digest(*run.networks.parameters()))
        if drift and ranks.rank == 1:
            run.memory["second"] += drift

    def watch(run, _):
        if run.epoch == stop_in:
            raise StopError
        state = run.networks.state_dict()
        seen["labels"].append(run.labels.tolist())
        seen["memory"].append(digest(*run.memory.values()))
        seen["networks"].append(digest(*state.values()))
        running = [value.double().mean().item() for name, value in state.items() if ".running_" in name]
        seen["statistics"].append(running)
        return {}

    def step(stage, done, total, note=""):
        if stage == "embed":
            seen["embedded"] = total

    with contextlib.suppress(StopError):
        run = fit(
            config,
            crops,
            replace(method, update=update),
            folder=folder,
            root=crops[0].path.parent,
            weights="none",
            resume=resume,
            watch=watch,
            step=step,
            say=lambda line: None,
            ranks=ranks,
        )
        seen["loss"] = [record["loss"] for record in run.history]
    return seen


def collectives(ranks: Ranks) -> dict[str, Any]:
    """Every way in which processes tell each other something, on shares of unlike sizes."""
    rows = torch.arange(14.0).reshape(7, 2)
    found: dict[str, Any] = {}
    for block in (1, 8):  # with blocks of 8 one process has all rows
        gathered = ranks.gather_rows(rows[ranks.share(7, block)], ranks.sizes(7, block))
        found[f"rows in blocks of {block}"] = gathered.tolist()
    words = torch.full((2,), float(ranks.rank))
    ranks.send_from_first([words])
    found["sent"] = words.tolist()
    arrays = (np.array([[ranks.rank, 2.5]]), np.array(7.0 + ranks.rank), np.empty(0, dtype=np.int64))
    told: list[Any] = [ranks.broadcast(lambda array=array: array).tolist() for array in arrays]
    values = (f"no.{ranks.rank + 1} Straße", 0.1 + ranks.rank, 3 + ranks.rank, ranks.first, None)
    found["told"] = told + [ranks.broadcast(lambda value=value: value) for value in values]
    found["mean"] = ranks.mean(torch.tensor([float(ranks.rank), 1.0])).tolist()
    return found


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    crops = tuple(Crop(Path(path), camera) for path, camera in plan["crops"])
    with join() as ranks:
        found = {"collectives": collectives(ranks)}
        for name, work in plan["trainings"].items():
            found[name] = train(crops, Path(work.pop("folder")), **work, ranks=ranks)
        Path(plan["out"]).with_suffix(f".{ranks.rank}.json").write_text(json.dumps(found))
        train(crops, Path(plan["out"]), "cacl", plan["mistake"], ranks=ranks)


if __name__ == "__main__":
    try:
        main()
    except ReseenError as error:
        print(f"reseen: {error}", file=sys.stderr)
        sys.exit(2)
