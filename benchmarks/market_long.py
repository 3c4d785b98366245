"""The whole of Market-1501 at length: Table 1's rows from one backbone, step by step (docs/results/market1501.md).

    python benchmarks/market_long.py --data MARKET --weights densenet121.safetensors --out RUNS --rows single cacl

Every row trains at a constant rate and is scored on the test set at steps fixed beforehand (1,000, 2,000, 4,000 and
8,000); nothing is chosen by these scores. All rows reach a stage before any goes on to the next. ``--cut STEPS``
branches off a row's checkpoint: the first three quarters are the row's own, the last quarter runs at a tenth of the
rate in a folder of its own. Finished stages are skipped and interrupted ones resumed, so the script can be stopped
(also by kill -9) and started at will; after each stage it writes what is known to ``--results`` (small JSON, no
image, no path)."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from reseen.commands.train import train

STAGES = (2000, 4000, 8000)
FRESH = ("cluster.features=fresh", "cluster.outliers=negatives")
# name: (method, recipe, iterations of an epoch, settings); batches of 64 for all, 16 identities x 4
ROWS: dict[str, tuple[str, str, int, tuple[str, ...]]] = {
    "single": ("cacl", "cacl-single", 200, FRESH),
    "cacl-negatives": ("cacl", "cacl", 200, FRESH),
    "cacl": ("cacl", "cacl", 400, ()),
    "spcl": ("spcl", "spcl", 400, ()),
    "cluster-contrast": ("cluster-contrast", "cluster-contrast", 200, ("train.instances=4",)),
}
COMMON = (
    "data.height=128",
    "data.width=64",
    "data.workers=0",
    "train.batch_size=64",
    "model.backbone=densenet121",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--until", type=int, default=2000, help="steps")
    parser.add_argument(
        "--cut", type=int, help="steps in all, of which the last quarter has a tenth of the rate"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--results", type=Path, help="a folder for one JSON a row")
    given = parser.parse_args()
    if given.cut:
        for row in given.rows:
            cut(given, row)
        return
    for stage in [stage for stage in STAGES if stage < given.until] + [given.until]:
        for row in given.rows:
            advance(given, row, stage, folder(given, row), ["train.lr_steps=[]"])


def folder(given: argparse.Namespace, row: str) -> Path:
    return given.out / f"{row}-seed{given.seed}"


def advance(given: argparse.Namespace, row: str, steps: int, run: Path, schedule: list[str]) -> None:
    """Train ``run`` up to so many steps, and record what it scored on the way."""
    method, recipe, iterations, settings = ROWS[row]
    every = 5 if steps <= 2000 else 4000 // iterations  # 5: 1,000 steps of 200, 2,000 of 400
    train(
        method,
        data=given.data,
        recipe=recipe,
        run=run,
        resume=True,
        weights=str(given.weights),
        settings=[
            *COMMON,
            *settings,
            *schedule,
            f"seed={given.seed}",
            f"train.precision={given.precision}",
            f"train.iterations={iterations}",
            f"train.epochs={steps // iterations}",
            f"train.evaluate_every={every}",
        ],
    )
    if given.results:
        given.results.mkdir(parents=True, exist_ok=True)
        (given.results / f"{run.name}.json").write_text(json.dumps(summary(row, run), indent=1) + "\n")


def cut(given: argparse.Namespace, row: str) -> None:
    """The last quarter at a tenth of the rate, from a copy of the row's run at three quarters."""
    iterations = ROWS[row][2]
    before = round(given.cut * 0.75 / iterations) * iterations
    branch = given.out / f"{row}-seed{given.seed}-cut{given.cut}"
    if not branch.exists():
        source = folder(given, row)
        done = len((source / "metrics.jsonl").read_text().splitlines()) * iterations
        if done > before:
            raise SystemExit(f"{source} is at {done} steps already, past {before}: branch off earlier")
        advance(given, row, before, source, ["train.lr_steps=[]"])
        partial = branch.with_name(f".{branch.name}")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        partial.rename(branch)
    advance(given, row, given.cut, branch, [f"train.lr_steps=[{before / given.cut}]"])


def summary(row: str, run: Path) -> dict[str, Any]:
    """What a reader needs of a run: settings that differ from the recipe, scores by step, clusters, seconds."""
    method, recipe, iterations, settings = ROWS[row]
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    environment = json.loads((run / "environment.json").read_text())
    kept = ("python", "machine", "threads", "device", "precision", "packages")
    epochs = [
        {
            "steps": record["epoch"] * iterations,
            "lr": record["lr"],
            "clusters": record["clusters"],
            "outliers": record["outliers"],
            "undrawn_share": record.get("undrawn_share"),
            "cross_camera_share": record["cross_camera_share"],
            "ari": record.get("diagnostics", {}).get("ari"),
            "seconds": round(record["seconds"]["epoch"], 1),
            "test": record.get("test"),
        }
        for record in history
    ]
    return {
        "row": row,
        "method": method,
        "recipe": recipe,
        "settings": [*COMMON, *settings],
        "environment": {key: environment[key] for key in kept if key in environment},
        "epochs": epochs,
    }


if __name__ == "__main__":
    main()
