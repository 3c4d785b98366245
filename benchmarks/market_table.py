"""The table and the curve of docs/results/market1501.md from the rows of benchmarks/results/market1501/*.json.

    python benchmarks/market_table.py [--figure docs/results/market1501.png]

`benchmarks/market_long.py --results benchmarks/results/market1501` writes the rows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from reseen.reports.canvas import COLOURS, DASHES, STYLE, save_figure

ROWS = Path(__file__).parent / "results" / "market1501"
SCORES = ("mean_ap", "rank1", "rank5", "rank10")
LABELS = {
    "single": "one colour branch, fresh features, negatives",
    "cacl-negatives": "CACL, fresh features, negatives",
    "cacl": "CACL as published",
    "spcl": "SpCL",
    "cluster-contrast": "Cluster Contrast",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    rows = {path.stem: json.loads(path.read_text()) for path in sorted(ROWS.glob("*.json"))}
    print("\n".join(table(rows)))
    if given.figure:
        ends = "; ".join(
            f"{name}: {100 * curve(row)[1][-1]:.1f}" for name, row in rows.items() if curve(row)[0]
        )
        save_figure(
            figure(rows),
            given.figure,
            title="Market-1501: mAP against steps",
            alt=f"Test mAP by step, one line a run; at the end {ends}.",
        )


def title(name: str, row: dict[str, Any]) -> str:
    """What a run is called: its row, its seed, and whether its rate was cut."""
    seed = name.partition("-seed")[2].partition("-")[0]
    cut = ", rate cut to a tenth at the end" if "-cut" in name else ""
    return f"{LABELS[row['row']]}{cut}, seed {seed}"


def curve(row: dict[str, Any]) -> tuple[list[int], list[float]]:
    """Steps that were scored, and their test mAP."""
    scored = [epoch for epoch in row["epochs"] if epoch["test"]]
    return [epoch["steps"] for epoch in scored], [epoch["test"]["mean_ap"] for epoch in scored]


def table(rows: dict[str, Any]) -> list[str]:
    """One line for each run and step that was scored."""
    lines = ["| run | steps | mAP | rank-1 | rank-5 | rank-10 | clusters | outliers | undrawn |"]
    lines.append("| --- " * 9 + "|")
    for name, row in rows.items():
        for epoch in own(name, row):
            if epoch["test"]:
                scores = " | ".join(
                    f"{100 * epoch['test'][key]:.1f}" for key in ("mean_ap", "rank1", "rank5", "rank10")
                )
                undrawn = f"{epoch['undrawn_share']:.0%}" if epoch["undrawn_share"] is not None else "–"
                lines.append(
                    f"| {title(name, row)} | {epoch['steps']:,} | {scores} | {epoch['clusters']} "
                    f"| {epoch['outliers']:,} | {undrawn} |"
                )
    return lines


def own(name: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    """The epochs of a run; of one that branched off another, those after it."""
    first = row["epochs"][0]["lr"]
    return [epoch for epoch in row["epochs"] if "-cut" not in name or epoch["lr"] < first]


def figure(rows: dict[str, Any]) -> Figure:
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(7.2, 5.0), layout="constrained")
        axes = drawn.add_subplot()
        for number, (name, row) in enumerate(rows.items()):
            steps, values = curve(row)
            colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
            axes.plot(steps, values, color=colour, linestyle=dash, marker="o", label=title(name, row))
        axes.set_xlabel("steps of 64 images")
        axes.set_ylabel("test mAP")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1, decimals=0))
        axes.set_xlim(left=0)
        drawn.legend(loc="outside lower center")  # rows end everywhere: no corner is free
    return drawn


if __name__ == "__main__":
    main()
