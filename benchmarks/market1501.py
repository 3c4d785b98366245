"""Every recipe on Market-1501 from one backbone's weights, one table: docs/results.md, section Market-1501.

    python benchmarks/market1501.py --data MARKET --weights densenet121.safetensors --out RUNS

Each row is one run folder below ``--out``; a finished row is skipped and an interrupted one resumed, so the script can
be stopped and started at will. The test set is scored once per row, after its last epoch. ``--identities N`` trains on
the first N training identities (their number is in the table's heading); ``--validation`` holds out the last 100
training identities and scores those instead of the test set, which is how settings are chosen.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from reseen.commands.evaluate import evaluate
from reseen.commands.train import train
from reseen.data import open_data
from reseen.data.split import validation_split, write_manifest
from reseen.records import ReidData

ROWS = {"spcl": "spcl", "cluster-contrast": "cluster-contrast"}  # recipe: method, where it is not cacl
RECIPES = (*ROWS, "cacl", "cacl-literal", "cacl-official", "cacl-strong")
HELD_OUT = 100  # the last training identities of Market-1501, 1286 to 1500


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="*", default=list(RECIPES), help="recipes")
    parser.add_argument("--identities", type=int, default=751)
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--tag", default="", help="added to the run folders' names, for variants")
    parser.add_argument(
        "--table", action="store_true", help="print the table of what is finished, train nothing"
    )
    given = parser.parse_args()

    given.out.mkdir(parents=True, exist_ok=True)
    manifest = given.out / ("validation.csv" if given.validation else "test.csv")
    data = open_data(given.data)
    part = (
        validation_split(data, HELD_OUT, identities=given.identities)
        if given.validation
        else first_identities(data, given.identities)
    )
    write_manifest(manifest, part)
    if not given.table:
        for row in given.rows:
            train(
                ROWS.get(row, "cacl"),
                data=manifest,
                recipe=row,
                run=folder(given, row),
                weights=str(given.weights),
                resume=True,
                settings=["train.evaluate_every=0", *given.settings],
            )
        untrained = folder(given, given.rows[0]) / "checkpoint" / "start.safetensors"
        if not (given.out / "untrained.json").exists():
            scores = evaluate(untrained, data=manifest)
            record = {"mean_ap": scores.mean_ap, **{f"rank{k}": v for k, v in scores.cmc.items()}}
            (given.out / "untrained.json").write_text(json.dumps(record))
    print(table(given))


def folder(given: argparse.Namespace, row: str) -> Path:
    name = f"{row}{'-' + given.tag if given.tag else ''}{'-validation' if given.validation else ''}"
    return given.out / name


def first_identities(data: ReidData, count: int) -> ReidData:
    """Training images of the first ``count`` identities only."""
    labels = data.train_identities
    assert labels is not None
    rows = np.flatnonzero(np.isin(labels, np.unique(labels)[:count]))
    return replace(data, train=tuple(data.train[row] for row in rows), train_identities=labels[rows])


def table(given: argparse.Namespace) -> str:
    """What is finished, in Markdown, from the run folders alone."""
    lines = [
        "| row | mAP | rank-1 | rank-5 | rank-10 | clusters, first and last | outliers | across cameras | minutes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    untrained = given.out / "untrained.json"
    if untrained.exists():
        lines.append(f"| untrained | {scores_of(json.loads(untrained.read_text()))} | | | | |")
    for row in given.rows:
        metrics = folder(given, row) / "metrics.jsonl"
        if not metrics.exists():
            continue
        history = [json.loads(line) for line in metrics.read_text().splitlines()]
        a, z = history[0], history[-1]
        if "test" not in z:
            continue
        minutes = sum(record["seconds"]["epoch"] for record in history) / 60
        lines.append(
            f"| {row} | {scores_of(z['test'])} | {a['clusters']}, {z['clusters']} | {a['outliers']}, {z['outliers']} "
            f"| {share(a)}, {share(z)} | {minutes:.0f} |"
        )
    return "\n".join(lines)


def share(record: dict[str, float | None]) -> str:
    """Clusters over several cameras; unknown where there was no cluster."""
    value = record["cross_camera_share"]
    return "-" if value is None else f"{value:.0%}"


def scores_of(record: dict[str, float]) -> str:
    return " | ".join(f"{record[key]:.1%}"[:-1] for key in ("mean_ap", "rank1", "rank5", "rank10"))


if __name__ == "__main__":
    main()
