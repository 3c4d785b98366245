"""Outliers kept, dropped or never drawn, by clustered features and branches: docs/results/outliers.md.

    python benchmarks/outliers.py --data MARKET --weights squeezenet1_1.safetensors --out RUNS

CACL on 250 training identities of Market-1501 from SqueezeNet, 500 steps at a constant rate, scored on a validation
split (the last 100 training identities) after the last one. Each row is a run folder below ``--out``: finished ones are
skipped, interrupted ones resumed, so the script can be stopped and started at will. ``--table`` prints what is
finished. Dropped outliers with remembered features are refused: their rows age until all images are outliers.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from reseen.commands.train import train
from reseen.data import open_data
from reseen.data.split import validation_split, write_manifest

RECIPES = ("cacl-single", "cacl")
GRID = [
    (outliers, features, recipe)
    for outliers, features, recipe in itertools.product(
        ("keep", "drop", "negatives"), ("memory", "fresh"), RECIPES
    )
    if (outliers, features) != ("drop", "memory")
]
SETTINGS = (
    *("model.backbone=squeezenet1_1", "data.height=128", "data.width=64", "data.workers=0"),
    *("train.batch_size=64", "train.epochs=10", "train.iterations=50", "train.lr_steps=[]"),
    "train.evaluate_every=0",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--recipes", nargs="*", default=RECIPES, choices=RECIPES, help="rows to train")
    parser.add_argument("--table", action="store_true", help="train nothing")
    given = parser.parse_args()
    manifest = given.out / "validation.csv"
    if not manifest.exists():
        write_manifest(manifest, validation_split(open_data(given.data), 100, identities=250))
    for seed, (outliers, features, recipe) in itertools.product(given.seeds, GRID):
        if recipe in given.recipes and not given.table:
            train(
                "cacl",
                data=manifest,
                run=run_dir(given.out, outliers, features, recipe, seed),
                recipe=recipe,
                weights=str(given.weights),
                resume=True,
                settings=(
                    *SETTINGS,
                    f"seed={seed}",
                    f"cluster.outliers={outliers}",
                    f"cluster.features={features}",
                ),
            )
    print("\n".join(table(given.out, given.seeds)))


def run_dir(out: Path, outliers: str, features: str, recipe: str, seed: int) -> Path:
    return out / f"{outliers}-{features}-{recipe}-{seed}"


def table(out: Path, seeds: list[int]) -> list[str]:
    """Validation mAP / rank-1 of each seed and their mean mAP; only what is finished."""
    heads = ["outliers", "features", "branches", *(f"seed {seed}" for seed in seeds), "mean mAP"]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for outliers, features, recipe in GRID:
        cells, scores = [], []
        for seed in seeds:
            metrics = run_dir(out, outliers, features, recipe, seed) / "metrics.jsonl"
            last = json.loads(metrics.read_text().splitlines()[-1]) if metrics.exists() else {}
            if "test" in last:
                scores.append(100 * last["test"]["mean_ap"])
                cells.append(f"{scores[-1]:.1f} / {100 * last['test']['rank1']:.1f}")
            else:
                cells.append("")
        mean = f"{np.mean(scores):.1f}" if len(scores) == len(seeds) else ""
        branches = "one, colour" if recipe == "cacl-single" else "two"
        lines.append("| " + " | ".join([outliers, features, branches, *cells, mean]) + " |")
    return lines


if __name__ == "__main__":
    main()
