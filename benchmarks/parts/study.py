"""Rows of settings, trained on a validation split of Market-1501 over seeds, and their table.

CACL on 250 training identities from SqueezeNet, 500 steps at a constant rate, scored on the last 100 training
identities after the last step. Each cell is a run folder below ``--out``: finished ones are skipped, interrupted ones
resumed, so a study can be stopped and started at will. ``--table`` prints what is finished and trains nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reseen.commands.train import train
from reseen.data import open_data
from reseen.data.split import validation_split, write_manifest

SETTINGS = (
    *("model.backbone=squeezenet1_1", "data.height=128", "data.width=64", "data.workers=0"),
    *("train.batch_size=64", "train.epochs=10", "train.iterations=50", "train.lr_steps=[]"),
    "train.evaluate_every=0",
)


class Row(NamedTuple):
    """What a row trains: a recipe of ``cacl`` and settings on top of SETTINGS; ``heads`` are its first cells."""

    heads: tuple[str, ...]
    recipe: str
    settings: tuple[str, ...]


def arguments(description: str | None, seeds: list[int]) -> argparse.ArgumentParser:
    """The options of a study; ``seeds``: those of its table."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=seeds)
    parser.add_argument("--table", action="store_true", help="train nothing")
    return parser


def validation_manifest(data: Path, out: Path) -> Path:
    """The split that all studies share, written below ``out`` once."""
    manifest = out / "validation.csv"
    if not manifest.exists():
        write_manifest(manifest, validation_split(open_data(data), 100, identities=250))
    return manifest


def train_rows(rows: Mapping[str, Row], given: argparse.Namespace) -> None:
    """Every row of a seed before the next seed; ``rows`` by the name of their folders."""
    manifest = validation_manifest(given.data, given.out)
    for seed in given.seeds:
        for name, row in rows.items():
            train(
                "cacl",
                data=manifest,
                run=given.out / f"{name}-{seed}",
                recipe=row.recipe,
                weights=str(given.weights),
                resume=True,
                settings=(*SETTINGS, f"seed={seed}", *row.settings),
            )


def table(rows: Mapping[str, Row], heads: tuple[str, ...], out: Path, seeds: list[int]) -> list[str]:
    """Validation mAP / rank-1 of each seed and their mean mAP; a run that has not finished is an empty cell."""
    columns = [*heads, *(f"seed {seed}" for seed in seeds), "mean mAP"]
    lines = ["| " + " | ".join(columns) + " |", "| --- " * len(columns) + "|"]
    for name, row in rows.items():
        scores = [score(out / f"{name}-{seed}") for seed in seeds]
        cells = [f"{one[0]:.1f} / {one[1]:.1f}" if one else "" for one in scores]
        finished = [one[0] for one in scores if one]
        mean = f"{np.mean(finished):.1f}" if len(finished) == len(seeds) else ""
        lines.append("| " + " | ".join([*row.heads, *cells, mean]) + " |")
    return lines


def score(run: Path) -> tuple[float, float] | None:
    """mAP and rank-1 in percent of the last epoch; None while the run is not finished."""
    metrics = run / "metrics.jsonl"
    last = json.loads(metrics.read_text().splitlines()[-1]) if metrics.exists() else {}
    return (100 * last["test"]["mean_ap"], 100 * last["test"]["rank1"]) if "test" in last else None
