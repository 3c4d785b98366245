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
from reseen.evaluation import BASELINES, evaluate_features, open_test
from reseen.metrics import ReidScores
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
        if not (given.out / "untrained.json").exists():
            scores = evaluate(
                folder(given, given.rows[0]) / "checkpoint" / "start.safetensors", data=manifest
            )
            (given.out / "untrained.json").write_text(json.dumps(record(scores)))
        if not (given.out / "baselines.json").exists():
            (given.out / "baselines.json").write_text(json.dumps(baselines(manifest)))
    print(table(given))


def baselines(manifest: Path) -> dict[str, dict[str, float]]:
    """Scores of what needs no training at all."""
    test, found = open_test(open_data(manifest)), {}
    for name, baseline in BASELINES.items():
        features = [baseline(part.crops) for part in (test.query, test.gallery)]
        found[name] = record(
            evaluate_features(*features, test.query, test.gallery, same_pictures=test.same_pictures)
        )
    return found


def record(scores: ReidScores) -> dict[str, float]:
    return {"mean_ap": scores.mean_ap, **{f"rank{k}": v for k, v in scores.cmc.items()}}


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
    for file in (given.out / "untrained.json", given.out / "baselines.json"):
        found = json.loads(file.read_text()) if file.exists() else {}
        untrained = {file.stem: found} if "mean_ap" in found else found
        lines += [f"| {name} | {scores_of(scores)} | | | | |" for name, scores in untrained.items()]
    for row in given.rows:
        metrics = folder(given, row) / "metrics.jsonl"
        if not metrics.exists():
            continue
        history = [json.loads(line) for line in metrics.read_text().splitlines()]
        a, z = history[0], history[-1]
        if "test" not in z:
            continue
        minutes = sum(epoch["seconds"]["epoch"] for epoch in history) / 60
        lines.append(
            f"| {row} | {scores_of(z['test'])} | {a['clusters']}, {z['clusters']} | {a['outliers']}, {z['outliers']} "
            f"| {share(a)}, {share(z)} | {minutes:.0f} |"
        )
    return "\n".join(lines)


def share(epoch: dict[str, float | None]) -> str:
    """Clusters over several cameras; unknown where there was no cluster."""
    value = epoch["cross_camera_share"]
    return "-" if value is None else f"{value:.0%}"


def scores_of(scores: dict[str, float]) -> str:
    return " | ".join(f"{scores[key]:.1%}"[:-1] for key in ("mean_ap", "rank1", "rank5", "rank10"))


if __name__ == "__main__":
    main()
