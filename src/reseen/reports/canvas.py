"""What the figures share: one style, colour-blind-safe colours, image tiles, and saving.

Colours are those of Okabe and Ito, told apart with any kind of colour vision, and no mark rests on colour
alone: lines differ in dash, right and wrong in frame and sign, identities in colour and shape.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from reseen.data.images import read_image
from reseen.files import write_file
from reseen.pages.page import png_bytes

WIDTH = 9.2  # inches: the report's column at 96 pixels an inch
INK, MUTED, GRID = "#20242c", "#5c6370", "#e3e6ea"
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, SKY, PURPLE = "#E69F00", "#56B4E9", "#CC79A7"
COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
DASHED = (0, (2.5, 1.2))  # the frame of what is wrong
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#a6abb3",
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 2.4,
    "figure.facecolor": "white",
    "mathtext.fontset": "dejavusans",
}


def save_figure(figure: Figure, path: Path, *, title: str = "", alt: str = "") -> Path:
    """Write :func:`png_bytes` to ``path`` (atomically) and return it."""
    write_file(path, png_bytes(figure, title=title, alt=alt))
    return path


# --- tiles: images laid out on one bare axes, in units of a tile's width, y downwards ---


def sheet(width: float, height: float, *, inches: float) -> tuple[Figure, Axes]:
    """A figure of ``width`` x ``height`` units whose width is ``inches``, and its bare axes."""
    figure = Figure(figsize=(inches, inches * height / width))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    return figure, axes


def tile(
    axes: Axes, image: NDArray[Any], x: float, y: float, *, width: float = 1.0, tall: float = 2.0
) -> tuple[float, float, float]:
    """Fit an RGB image ``[H, W, 3]`` into a tile and keep its aspect: its left, its top, and units per pixel."""
    scale = min(width / image.shape[1], tall / image.shape[0])
    w, h = image.shape[1] * scale, image.shape[0] * scale
    left, top = x + (width - w) / 2, y + (tall - h) / 2
    axes.imshow(image, extent=(left, left + w, top + h, top), aspect="auto", zorder=2)
    return left, top, scale


def frame(
    axes: Axes, x: float, y: float, width: float, tall: float, colour: str, *, line: float = 2.4, **more: Any
) -> None:
    """An empty rectangle, ``line`` points wide; ``more`` as matplotlib's patches take it."""
    axes.add_patch(Rectangle((x, y), width, tall, fill=False, edgecolor=colour, linewidth=line, **more))


def mark(axes: Axes, right: bool, x: float, y: float, *, width: float = 1.0, tall: float = 2.0) -> None:
    """Frame a tile: green, whole and ticked when right; vermillion, dashed and crossed when wrong."""
    colour = GREEN if right else VERMILLION
    frame(axes, x, y, width, tall, colour, linestyle="-" if right else DASHED, zorder=3)
    axes.text(
        x + 0.17,
        y + tall - 0.17,
        "✓" if right else "✗",
        color="white",
        fontsize=8,
        fontweight="bold",
        ha="center",
        va="center",
        zorder=5,
        bbox={"boxstyle": "circle,pad=0.18", "facecolor": colour, "edgecolor": "white", "linewidth": 0.8},
    )


def pixels(path: Path) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = read_image(path).permute(1, 2, 0).numpy()
    return image
