"""Every recipe on Market-1501 from one backbone's weights, one table: docs/results.md, section Market-1501.

    python benchmarks/market1501.py --data MARKET --weights densenet121.safetensors --out RUNS

Each row is one run folder below ``--out``; a finished row is skipped and an interrupted one resumed, so the script can
be stopped and started at will. The test set is scored once per row, after its last epoch. ``--identities N`` trains on
the first N training identities (their number is in the table's heading); ``--validation`` holds out the last 100
training identities and scores those instead of the test set, which is how settings are chosen.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from pathlib import Path

import numpy as np

from reseen.commands.evaluate import evaluate
from reseen.commands.train import train
from reseen.data import open_data
from reseen.records import LabelledCrops, ReidData

ROWS = {
    "spcl": "spcl",
    "cluster-contrast": "cluster-contrast",
    "cacl": "cacl",
    "cacl-literal": "cacl",
    "cacl-official": "cacl",
    "cacl-strong": "cacl",
}
VALIDATION_FROM = 1286  # the last 100 training identities are 1286 to 1500


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), help="recipes, or names of --variant rows")
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
    write_manifest(open_data(given.data), manifest, given.identities, given.validation)
    if not given.table:
        for row in given.rows:
            train(
                ROWS[row],
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


def write_manifest(data: ReidData, path: Path, identities: int, validation: bool) -> None:
    """A CSV of the images used, with absolute paths; it stays in the run folders, never in the repository."""
    assert data.train_identities is not None
    assert data.query is not None
    assert data.gallery is not None
    labels = data.train_identities
    held_out = labels >= VALIDATION_FROM if validation else np.zeros(len(labels), dtype=bool)
    first = np.unique(labels[~held_out])[:identities]
    rows = [(data.train[i], labels[i], "train") for i in np.flatnonzero(np.isin(labels, first) & ~held_out)]
    if validation:
        query, gallery = split_query(data, np.flatnonzero(held_out))
    else:
        query, gallery = data.query, data.gallery
    rows += [(c, i, "query") for c, i in zip(query.crops, query.identities, strict=True)]
    rows += [(c, i, "gallery") for c, i in zip(gallery.crops, gallery.identities, strict=True)]
    partial = path.with_name(f".{path.name}.{os.getpid()}")  # several rows may run at once
    with open(partial, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("path", "camera", "identity", "split"))
        writer.writerows((c.path.resolve(), c.camera, i, split) for c, i, split in rows)
    os.replace(partial, path)


def split_query(data: ReidData, rows: np.ndarray) -> tuple[LabelledCrops, LabelledCrops]:
    """One query per (identity, camera) of the held-out rows; the rest is the gallery."""
    assert data.train_identities is not None
    seen: set[tuple[int, int]] = set()
    query, gallery = [], []
    for row in rows:
        key = (int(data.train_identities[row]), data.train[row].camera)
        (gallery if key in seen else query).append(row)
        seen.add(key)
    return tuple(  # type: ignore[return-value]
        LabelledCrops(tuple(data.train[i] for i in part), data.train_identities[part])
        for part in (query, gallery)
    )


def table(given: argparse.Namespace) -> str:
    """What is finished, in Markdown, from the run folders alone."""
    lines = [
        "| row | mAP | rank-1 | rank-5 | rank-10 | clusters (first, last epoch) | alone | across cameras | minutes |",
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
