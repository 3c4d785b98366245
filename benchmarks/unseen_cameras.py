"""What the recipe `cpu` is worth on cameras that it has not seen: docs/own-images.md, "Cameras it has not seen".

    python benchmarks/unseen_cameras.py --data MARKET --out RUNS --seeds 1 2

The first 100 training identities of Market-1501 under cameras 1 to 3, and under cameras 4 to 6, make two training sets.
Models of both are scored on the last 100 training identities, once among the images of cameras 1 to 3 and once among
those of 4 to 6, so that a column holds the same persons and images for a model that knows their cameras and one that
does not; and on a drawn street. Finished runs are skipped, interrupted ones resumed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from market1501 import HELD_OUT, baselines, record
from reseen.commands.evaluate import evaluate
from reseen.commands.train import train
from reseen.data import open_data
from reseen.data.split import validation_split, write_manifest
from reseen.metrics import ReidScores
from reseen.records import LabelledCrops, ReidData
from reseen.street import draw_crops

GROUPS = {"cameras 1-3": (1, 2, 3), "cameras 4-6": (4, 5, 6)}
STREET = "drawn street"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2])
    given = parser.parse_args()

    given.out.mkdir(parents=True, exist_ok=True)
    whole = validation_split(open_data(given.data), HELD_OUT, identities=100)
    sets = {STREET: given.out / "street"}
    draw_crops(sets[STREET])
    for name, cameras in GROUPS.items():
        sets[name] = given.out / f"{name.replace(' ', '-')}.csv"
        write_manifest(sets[name], under(whole, cameras))
    print("| trained on | " + " | ".join(f"{name}: mAP / rank-1" for name in sets) + " |")
    print("| --- " * (1 + len(sets)) + "|")
    for seed in given.seeds:
        for name in GROUPS:
            run = given.out / f"{sets[name].stem}-seed{seed}"
            settings = [f"seed={seed}", "train.evaluate_every=0"]
            train("cacl", data=sets[name], recipe="cpu", run=run, resume=True, settings=settings)
            line(f"{name}, seed {seed}", {on: score(run, data, on) for on, data in sets.items()})
    first = given.out / f"{sets['cameras 1-3'].stem}-seed{given.seeds[0]}" / "checkpoint/start.safetensors"
    line("nothing: ImageNet", {on: score(first, data, on) for on, data in sets.items()})
    trivial = {on: baselines(data) for on, data in sets.items()}
    for name in trivial[STREET]:
        line(name, {on: found[name] for on, found in trivial.items()})


def under(data: ReidData, cameras: tuple[int, ...]) -> ReidData:
    """What of each part these cameras saw; queries whom they saw in the gallery too, under another camera."""
    assert data.train_identities is not None
    assert data.query is not None
    assert data.gallery is not None
    train_rows = [row for row, crop in enumerate(data.train) if crop.camera in cameras]
    query, gallery = (part_under(part, cameras) for part in (data.query, data.gallery))
    return replace(
        data,
        train=tuple(data.train[row] for row in train_rows),
        train_identities=data.train_identities[train_rows],
        query=query,
        gallery=gallery,
    )


def part_under(part: LabelledCrops, cameras: tuple[int, ...]) -> LabelledCrops:
    rows = np.flatnonzero([crop.camera in cameras for crop in part.crops])
    return replace(part, crops=tuple(part.crops[row] for row in rows), identities=part.identities[rows])


def score(run: Path, data: Path, on: str) -> dict[str, float]:
    """Kept beside the run: a finished one is not scored again."""
    folder = run if run.is_dir() else run.parent.parent
    kept = folder / f"{'start' if run.is_file() else 'last'}-{on.replace(' ', '-')}.json"
    if not kept.exists():
        found = evaluate(run, data=data)
        assert isinstance(found, ReidScores)
        kept.write_text(json.dumps(record(found)))
    return dict(json.loads(kept.read_text()))


def line(name: str, scores: dict[str, dict[str, float]]) -> None:
    cells = (f"{100 * found['mean_ap']:.1f} / {100 * found['rank1']:.1f}" for found in scores.values())
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
