"""How sure a model is: its likelihood ratio by similarity, and what it said beside what was true."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from reseen.metrics.calibration import BINS, Calibration, Reliability
from reseen.reports.canvas import BLUE, GRID, INK, MUTED, STYLE, VERMILLION, WIDTH

ENOUGH = 20  # pairs of a point: fewer say little about a share


def how_sure(calibration: Calibration, diagram: Reliability | None) -> Figure:
    """The ratio with the interval of its bootstrap; beside it, where there are labels, the reliability diagram."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        panels = figure.subplots(1, 2, squeeze=False)[0]
        _ratio(panels[0], calibration)
        if diagram is None:
            panels[1].set_axis_off()
        else:
            _diagram(panels[1], diagram)
    return figure


def _ratio(axes: mpl.axes.Axes, calibration: Calibration) -> None:
    similarity = np.linspace(-1, 1, BINS, endpoint=False) + 1 / BINS
    ratio, low, high = (np.exp(v) for v in (calibration.log_ratio, calibration.low, calibration.high))
    axes.fill_between(similarity, low, high, color=BLUE, alpha=0.2, linewidth=0, step="mid")
    axes.plot(similarity, ratio, color=BLUE, drawstyle="steps-mid")
    axes.axhline(1, color=MUTED, linewidth=0.8, linestyle=(0, (1.2, 1.2)))
    axes.set_yscale("log")
    axes.set_xlim(
        max(-1.0, float(similarity[np.argmax(calibration.log_ratio > calibration.log_ratio[0])]) - 0.1), 1
    )
    axes.set_title("Likelihood ratio")
    axes.set_xlabel("similarity (cosine)")
    axes.set_ylabel("times as likely for the same person")


def _diagram(axes: mpl.axes.Axes, diagram: Reliability) -> None:
    shown = diagram.pairs >= ENOUGH
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (1.2, 1.2)))
    axes.plot(diagram.said[shown], diagram.true[shown], color=VERMILLION, marker="o", markersize=5)
    for said, true, pairs in zip(diagram.said[shown], diagram.true[shown], diagram.pairs[shown], strict=True):
        axes.annotate(
            f"{pairs:,}", (said, true), xytext=(6, -10), textcoords="offset points", fontsize=7, color=INK
        )
    axes.set_xlim(-0.02, 1.09)
    axes.set_ylim(-0.04, 1.04)
    axes.grid(axis="both", color=GRID)
    axes.set_title("Said and true, pairs of the test part")
    axes.set_xlabel("probability that was said")
    axes.set_ylabel("share of the same person")
