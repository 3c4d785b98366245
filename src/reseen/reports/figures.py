"""The pictures of images: ranked lists, and augmented views (Fig. 2 and 4).

Every function returns a :class:`matplotlib.figure.Figure` and touches no global state of pyplot;
:func:`reseen.reports.canvas.save_figure` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from reseen.config import DataConfig
from reseen.data.images import read_image
from reseen.data.transforms import MEAN, STD, training_transform
from reseen.errors import ReseenError
from reseen.reports.canvas import (
    GRID,
    MUTED,
    STYLE,
    WIDTH,
    mark,
    pixels,
    sheet,
    tile,
)


def ranked_lists(
    query_paths: Sequence[Path],
    gallery_paths: Sequence[Sequence[Path]],
    correct: Sequence[Sequence[bool]],
    *,
    titles: Sequence[str] | None = None,
    top: int = 10,
) -> Figure:
    """One row per ranked list: the query at the left, then the ``top`` gallery images, right or wrong.

    ``gallery_paths[i]`` and ``correct[i]`` belong to ``query_paths[i]``, nearest first, and may be shorter
    than ``top``. ``titles[i]`` stands above row i (a model's name). Neighbouring rows of the same query are
    stacked as one group, which is how before and after are compared. Raises :class:`ReseenError` when
    lengths differ, there is no row, or an image cannot be read.
    """
    rows = len(query_paths)
    names = list(titles) if titles is not None else [""] * rows
    if not rows or not rows == len(gallery_paths) == len(correct) == len(names):
        raise ReseenError(
            f"ranked lists need as many queries ({rows}), galleries ({len(gallery_paths)}), "
            f"flags ({len(correct)}) and titles ({len(names)}), at least one of each"
        )
    start, pitch, head = 1.55, 1.1, 0.36 if any(names) else 0.1
    starts = [i == 0 or query_paths[i] != query_paths[i - 1] for i in range(rows)]
    height = 0.35 + sum(head + 2.08 + (0.3 if new else 0.0) for new in starts)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(start + pitch * top + 0.05, height, inches=WIDTH)
        axes.text(0.55, 0.3, "query", ha="center", va="center", color=MUTED)
        for rank in range(top):
            axes.text(start + pitch * rank + 0.5, 0.3, str(rank + 1), ha="center", va="center", color=MUTED)
        y = 0.2
        for i, (gallery, flags, title) in enumerate(zip(gallery_paths, correct, names, strict=True)):
            if starts[i]:
                y += 0.3
                if i:
                    axes.plot([0.05, start + pitch * top - 0.1], [y - 0.1, y - 0.1], color=GRID, linewidth=1)
                tile(axes, pixels(query_paths[i]), 0.05, y + head)
            axes.text(start, y + head - 0.16, title, va="center", fontweight="bold")
            y += head
            for rank, (path, right) in enumerate(zip(gallery[:top], flags, strict=False)):
                tile(axes, pixels(path), start + pitch * rank, y)
                mark(axes, bool(right), start + pitch * rank, y)
            y += 2.08
    return figure


def _normalised_to_rgb(image: Tensor, config: DataConfig) -> NDArray[np.float32]:
    """Undo the encoder's normalisation: float ``[3, h, w]`` to RGB ``[h, w, 3]`` in 0..1."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.mean or MEAN, config.std or STD))
    pixels: NDArray[np.float32] = (image.float().cpu() * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()
    return pixels


def augmentation_panel(paths: Sequence[Path], config: DataConfig, *, seed: int = 0) -> Figure:
    """The views that training sees, in the manner of Fig. 2 and 4.

    A row per person: raw image, T, T', grey after T' and colour jitter after T'. The last three share their
    draw of T', so that only what comes after it differs. Drawn from ``seed``; the global generator is left
    as it was. Raises :class:`ReseenError` for no path or an unreadable image.
    """
    if not paths:
        raise ReseenError("the augmentation panel needs at least one image")
    heads = ("raw", r"$T$", r"$T'$", r"$G \circ T'$", r"$J \circ T'$")
    views = (
        (0, training_transform(config, second=False)),
        (1, training_transform(replace(config, second_view="none"), second=True)),
        (1, training_transform(replace(config, second_view="grey"), second=True)),
        (1, training_transform(replace(config, second_view="jitter"), second=True)),
    )
    tall = config.height / config.width
    blocks = 1 if len(paths) < 4 else 2  # two people side by side fill the report's width
    rows = math.ceil(len(paths) / blocks)
    block = 1.08 * len(heads) + 0.45
    width, height = block * blocks - 0.45, 0.45 + rows * (tall + 0.1)
    with mpl.rc_context(STYLE), torch.random.fork_rng(devices=[]):
        figure, axes = sheet(width, height, inches=WIDTH * width / (2 * block - 0.45))
        for person, path in enumerate(paths):
            column, row = divmod(person, rows)
            x, y = column * block, 0.42 + row * (tall + 0.1)
            raw = read_image(path)
            tile(axes, raw.permute(1, 2, 0).numpy(), x + 0.04, y, tall=tall)
            for position, (draw, transform) in enumerate(views, start=1):
                torch.manual_seed(seed * 1_000_003 + 2 * person + draw)
                tile(
                    axes, _normalised_to_rgb(transform(raw), config), x + 0.04 + 1.08 * position, y, tall=tall
                )
            if row == 0:
                for position, head in enumerate(heads):
                    axes.text(x + 0.54 + 1.08 * position, 0.22, head, ha="center", va="center", fontsize=10)
    return figure
