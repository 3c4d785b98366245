"""The pictures of a table or figure, from its finished rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from reseen.pages.page import Section
from reseen.reports import draw
from reseen.reports.canvas import COLOURS, DASHES, STYLE, WIDTH, save_figure
from reseen.reproduce.kinds import KINDS
from reseen.reproduce.measure import Job
from reseen.reproduce.tables import Table
from reseen.training.run_folder import at, read_metrics

Curve = tuple[Sequence[int], Sequence[float]]  # epochs and shares


def pictures(table: Table, jobs: Mapping[str, Job], data: Any, out: Path, folder: Path) -> list[Section]:
    """What ``table.figure`` asks for, drawn into FOLDER/report; ``jobs``: by row, of the first seed."""
    runs = {table.rows[name].label: job.run_folder(out) for name, job in jobs.items()}
    if table.figure == "epochs":
        curves = {label: test_curve(run) for label, run in runs.items()}
        path = save_figure(
            epochs_figure(curves),
            folder / "report" / "epochs.png",
            title="mAP against epochs",
            alt=f"Test mAP by epoch on {data.name}, one line for each scale of the training data: "
            + "; ".join(f"{name}: {ys[-1]:.1%} at the end" for name, (_, ys) in curves.items() if len(ys)),
        )
        return [Section("mAP against epochs", figure=path)]
    found = KINDS[table.task].figure(table.figure, runs, data)
    return [Section(found.title, figure=path) for path in draw(folder, [found])] if found is not None else []


def test_curve(run_dir: Path) -> Curve:
    """Epochs of a run that were scored, and their test mAP."""
    scored = [(int(record["epoch"]), at(record, "test", "mean_ap")) for record in read_metrics(run_dir)]
    kept = [(epoch, float(value)) for epoch, value in scored if value is not None]
    return [epoch for epoch, _ in kept], [value for _, value in kept]


def epochs_figure(curves: Mapping[str, Curve]) -> Figure:
    """Fig. 5 of R-SiamNet's supplementary: mAP over epochs, a line for each scale of the data."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.7 * WIDTH, 0.42 * WIDTH), layout="constrained")
        axes = figure.add_subplot()
        for number, (name, (epochs, values)) in enumerate(curves.items()):
            colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
            axes.plot(epochs, values, color=colour, linestyle=dash, marker="o", markersize=3, label=name)
        axes.set_xlabel("epoch")
        axes.set_ylabel("mAP")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower right")
    return figure
