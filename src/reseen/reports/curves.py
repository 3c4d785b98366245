"""Learning curves: losses, clusters, their quality and test scores over the epochs of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from reseen.errors import ReseenError
from reseen.reports.canvas import COLOURS, DASHES, INK, MUTED, STYLE, WIDTH
from reseen.training import chosen_epochs
from reseen.training.run_folder import at

Epoch = Mapping[str, Any]  # one line of metrics.jsonl

Line = tuple[str, tuple[str, ...]]  # label, keys into a line of metrics.jsonl
Panel = tuple[str, str, tuple[Line, ...]]  # title, kind of value (count, share, value), lines

LABEL_FREE: Panel = ("Label-free criterion", "value", (("criterion", ("label_free",)),))
PANELS: tuple[Panel, ...] = (
    ("Clusters and outliers", "count", (("clusters", ("clusters",)), ("outliers", ("outliers",)))),
    ("Clusters seen by several cameras", "share", (("share of clusters", ("cross_camera_share",)),)),
    (
        "Pseudo labels against identities (diagnostics)",
        "share",
        (
            ("ARI", ("diagnostics", "ari")),
            ("NMI", ("diagnostics", "nmi")),
            ("pair precision", ("diagnostics", "pair_precision")),
            ("pair recall", ("diagnostics", "pair_recall")),
        ),
    ),
    LABEL_FREE,
)
TEST: Panel = (
    "Test scores",
    "share",
    (("mAP", ("test", "mean_ap")), ("rank-1", ("test", "rank1")), ("top-1", ("test", "top1"))),
)
FOUND: Panel = (
    "Persons found in test scenes",
    "share",
    (("average precision", ("test", "detection_ap")), ("recall", ("test", "detection_recall"))),
)


def series(metrics: Iterable[Epoch], *keys: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Epochs and values under ``keys``, both ``[n]``; epochs without a finite value are left out."""
    points: list[tuple[float, float]] = []
    for epoch in metrics:
        value = at(epoch, *keys)
        if isinstance(value, int | float) and math.isfinite(value) and "epoch" in epoch:
            points.append((float(epoch["epoch"]), float(value)))
    table = np.array(points, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _draw_lines(axes: Axes, metrics: Sequence[Epoch], lines: Iterable[Line]) -> float:
    """Draw one line per key that has values; returns the lowest value."""
    lowest, drawn = math.inf, 0
    for label, keys in lines:
        epochs, values = series(metrics, *keys)
        if not len(values):
            continue
        marker = "o" if len(values) <= 30 else ""
        colour, dash = COLOURS[drawn % len(COLOURS)], DASHES[drawn % len(DASHES)]
        axes.plot(epochs, values, color=colour, linestyle=dash, marker=marker, markersize=3.5, label=label)
        lowest, drawn = min(lowest, float(values.min())), drawn + 1
    if drawn > 4:  # with a detector's terms no corner is free: room above the lines
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.45 * (high - low))
        axes.legend(loc="upper right", ncols=3, columnspacing=1.2)
    elif drawn > 1:
        axes.legend(loc="best", ncols=1 if drawn < 3 else 2, columnspacing=1.2)
    return lowest


def _mark_chosen(axes: Axes, metrics: Sequence[Epoch]) -> None:
    """Name the chosen epochs above the test curves; names that fall on one epoch share a line."""
    names: dict[int, list[str]] = {}
    for name, epoch in chosen_epochs(metrics).items():
        names.setdefault(epoch, []).append(name)
    scores = dict(zip(*(part.tolist() for part in series(metrics, "test", "mean_ap")), strict=True))
    low, high = axes.get_ylim()
    step = 0.11 * (high - low)
    axes.set_ylim(low, high + step * (len(names) + 0.4))
    first, last = axes.get_xlim()
    middle = (first + last) / 2  # names point towards it; nearer ones stand lower: no line crosses a name
    outwards = sorted(names.items(), key=lambda item: -abs(item[0] - middle))
    for position, (epoch, called) in enumerate(outwards):
        y = high + step * (len(names) - position - 0.3)
        axes.plot([epoch, epoch], [low, y], color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        if epoch in scores:
            axes.plot([epoch], [scores[epoch]], "D", color=INK, markersize=5, zorder=4)
        right = epoch > middle
        axes.annotate(
            f"{' = '.join(called)} (epoch {epoch})",
            (epoch, y),
            xytext=(-4 if right else 4, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            fontsize=8,
        )


def curves(metrics: Sequence[Epoch]) -> Figure:
    """Small multiples over the epochs of ``metrics.jsonl``; what was not measured has no panel.

    Losses, clusters and outliers, share of clusters that span cameras, clustering quality where identities
    are known, the label-free criterion, detection scores, and test mAP and rank-1 (top-1) with the chosen epochs
    named. Raises :class:`ReseenError` when there is no epoch.
    """
    if not metrics:
        raise ReseenError("no finished epoch to draw: train for one epoch first")
    names = dict.fromkeys(["total", *(name for epoch in metrics for name in epoch.get("loss") or {})])
    losses: Panel = ("Losses", "value", tuple((name.replace("_", " "), ("loss", name)) for name in names))
    panels = [
        p for p in (losses, *PANELS, FOUND, TEST) if any(len(series(metrics, *keys)[0]) for _, keys in p[2])
    ]
    if not panels:
        raise ReseenError("metrics.jsonl holds epochs but no value to draw: train for one epoch first")
    rows, columns = math.ceil(len(panels) / 2), min(2, len(panels))
    last = max(float(epoch["epoch"]) for epoch in metrics)
    margin = 0.03 * max(last - 1, 1)
    with mpl.rc_context(STYLE):
        grid = _grid(rows, columns).ravel()
        for axes, (title, scale, lines) in zip(grid, panels, strict=False):
            axes.set_title(title)
            axes.set_xlabel("epoch")
            axes.set_xlim(1 - margin, last + margin)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10]))
            criterion = title == LABEL_FREE[0]  # without clusters it is -1, far below every other value
            lowest = _draw_lines(
                axes, [e for e in metrics if e.get("clusters") != 0] if criterion else metrics, lines
            )
            if scale == "share":
                axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            if scale != "value" and lowest >= 0:
                axes.set_ylim(bottom=0)
            if title == TEST[0]:
                _mark_chosen(axes, metrics)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
    return cast(Figure, grid[0].figure)


def _grid(rows: int, columns: int) -> NDArray[np.object_]:
    """Axes ``[rows, columns]`` of a new figure. Margins are inches, for labels are short: a layout that looks for
    them takes longer than all of the drawing."""
    width, height = WIDTH, 0.25 + 2.55 * rows
    left, right, top, bottom = 0.6, 0.15, 0.35, 0.5
    between, above = 0.7, 0.8
    wide = (width - left - right - between * (columns - 1)) / columns
    high = (height - top - bottom - above * (rows - 1)) / rows
    figure = Figure(figsize=(width, height))
    shares = {"left": left / width, "right": 1 - right / width, "wspace": between / wide}
    shares |= {"bottom": bottom / height, "top": 1 - top / height, "hspace": above / high}
    axes: NDArray[np.object_] = figure.subplots(rows, columns, squeeze=False, gridspec_kw=shares)
    return axes
