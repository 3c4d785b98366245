"""What each process of tests/test_training_scene_ranks.py runs: trainings on scenes, and what it saw, as JSON."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reseen.distributed import ALONE, Ranks, join
from reseen.methods.r_siamnet import METHOD
from reseen.records import Scene
from reseen.training import Run, fit
from worlds import tiny_search


def digest(*tensors: Tensor) -> str:
    result = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        result.update(tensor.detach().contiguous().numpy().tobytes())
    return result.hexdigest()


def train(
    scenes: tuple[Scene, ...], folder: Path, settings: list[str], *, ranks: Ranks = ALONE
) -> dict[str, Any]:
    """Memory before the first step; then rows, memory and weights after each step, and labels of each epoch."""
    seen: dict[str, Any] = {"own": [], "rows": [], "memory": [], "weights": [], "labels": []}

    def start(run: Run, images: tuple[Scene, ...]) -> None:
        METHOD.start(run, images)
        seen["started"] = {name: digest(tensor) for name, tensor in run.memory.items()}

    def losses(run: Run, batch: Any, labels: Tensor) -> Any:
        seen["own"].append(len(labels))
        return METHOD.losses(run, batch, labels)

    def update(run: Run, rows: Tensor, labels: Tensor, keys: dict[str, Tensor]) -> None:
        METHOD.update(run, rows, labels, keys)
        if not seen["rows"]:
            seen["first"] = {name: run.memory[name].tolist() for name in keys}
        seen["rows"].append(rows.tolist())
        seen["memory"].append(digest(*run.memory.values()))
        seen["weights"].append(digest(*run.networks.parameters()))

    def watch(run: Run, _: Any) -> dict[str, Any]:
        seen["labels"].append(run.labels.tolist())
        return {}

    run = fit(
        tiny_search(*settings),
        scenes,
        replace(METHOD, start=start, losses=losses, update=update),
        folder=folder,
        root=folder.parent,
        weights="none",
        watch=watch,
        say=lambda line: None,
        ranks=ranks,
    )
    seen["loss"] = [record["loss"] for record in run.history]
    return seen


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    with join() as ranks:
        found = {}
        for name, work in plan.items():
            scenes = tuple(
                Scene(Path(path), np.array(boxes, np.float32).reshape(-1, 4))
                for path, boxes in work["scenes"]
            )
            folder = Path(sys.argv[1]).parent / "two" / name
            found[name] = train(scenes, folder, work["settings"], ranks=ranks)
        Path(sys.argv[1]).with_suffix(f".{ranks.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
