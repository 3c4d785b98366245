"""The pictures of images: ranked lists, augmented views (Fig. 2 and 4) and t-SNE (Fig. 6).

Every function returns a :class:`matplotlib.figure.Figure` and touches no global state of pyplot;
:func:`reseen.experiments.pages.canvas.save_figure` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from numpy.typing import ArrayLike, NDArray
from sklearn.manifold import TSNE
from torch import Tensor

from reseen.config import DataConfig
from reseen.data.images import read_image
from reseen.data.transforms import MEAN, STD, training_transform
from reseen.errors import ReseenError
from reseen.experiments.pages.canvas import (
    COLOURS,
    GRID,
    INK,
    MARKERS,
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


def _normalised_to_rgb(image: Tensor) -> NDArray[np.float32]:
    """Undo the encoder's normalisation: float ``[3, h, w]`` to RGB ``[h, w, 3]`` in 0..1."""
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
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
                tile(axes, _normalised_to_rgb(transform(raw)), x + 0.04 + 1.08 * position, y, tall=tall)
            if row == 0:
                for position, head in enumerate(heads):
                    axes.text(x + 0.54 + 1.08 * position, 0.22, head, ha="center", va="center", fontsize=10)
    return figure


def tsne(
    features: Mapping[str, ArrayLike],
    identities: ArrayLike,
    *,
    paths: Sequence[Path] | None = None,
    seed: int = 0,
    nearest: int = 7,
) -> Figure:
    """t-SNE of the same M images under each model, side by side, in the manner of Fig. 6.

    ``features`` maps a title to ``[M, D]``; ``identities`` ``[M]`` give colour and shape (negative: unknown,
    grey). About 1,000 images of 60 identities read well, as in the paper. With ``paths`` ``[M]`` a ring marks
    one image per model, chosen by the first: the one with the most strangers among its ``nearest``
    neighbours. Below stand those neighbours in each model (cosine, in the full feature space, so not an
    artefact of the projection), ticked when of the same identity. Raises :class:`ReseenError` when
    lengths differ, fewer than five images are given, or a feature is not finite.
    """
    people = np.asarray(identities, dtype=np.int64)
    spaces = {title: np.asarray(rows, dtype=np.float32) for title, rows in features.items()}
    _check_spaces(spaces, people, paths)
    hits = {title: _nearest(rows, min(nearest, len(people) - 1)) for title, rows in spaces.items()}
    strangers = (people[next(iter(hits.values()))] != people[:, None]).sum(axis=1)
    focus = int(np.argmax(np.where(people >= 0, strangers, -1)))
    side = 5.0  # units: tiles are one wide
    pitch = side / (hits[next(iter(hits))].shape[1] + 1.4)  # of the strip of neighbours below
    width, strip = (side + 0.4) * len(spaces) - 0.4, 0.5 + 1.8 * pitch if paths is not None else 0.0
    with mpl.rc_context(STYLE):
        figure, axes = sheet(width, 0.5 + side + strip, inches=WIDTH * width / max(width, 2 * side + 0.4))
        for column, (title, rows) in enumerate(spaces.items()):
            x = column * (side + 0.4)
            axes.text(x, 0.25, title, va="center", fontsize=10, fontweight="bold")
            spread = _spread_out(rows, seed) * (side - 0.4) + (x + 0.2, 0.65)
            axes.add_patch(Rectangle((x, 0.45), side, side, facecolor="#f7f8f9", zorder=0))
            _scatter(axes, spread, people)
            if paths is not None:
                axes.add_patch(
                    Circle(tuple(spread[focus]), 0.16, fill=False, edgecolor=INK, linewidth=1.6, zorder=6)
                )
                _strip(axes, paths, people, focus, hits[title][focus], x, 0.5 + side, pitch)
    return figure


def _check_spaces(
    spaces: Mapping[str, NDArray[np.float32]], people: NDArray[np.int64], paths: Sequence[Path] | None
) -> None:
    if not spaces or people.ndim != 1 or len(people) < 5:
        raise ReseenError("t-SNE needs at least one model and five images: choose a larger sample")
    if paths is not None and len(paths) != len(people):
        raise ReseenError(f"t-SNE needs a path for each of the {len(people)} images, not {len(paths)}")
    for title, rows in spaces.items():
        if rows.ndim != 2 or len(rows) != len(people):
            raise ReseenError(f"{title}: t-SNE needs features [{len(people)}, D], not {list(rows.shape)}")
        if not np.isfinite(rows).all():
            raise ReseenError(f"{title}: t-SNE needs finite features; the model that made them has diverged")


def _nearest(rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Indices ``[M, k]`` of the most similar other rows (cosine), ties to the smaller index."""
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    order: NDArray[np.int64] = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return order


def _spread_out(rows: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """t-SNE of ``[M, D]`` in the unit square ``[M, 2]``; the same seed gives the same picture."""
    if np.ptp(rows, axis=0).max() < 1e-6:  # collapsed features are one point, and t-SNE would divide by zero
        return np.full((len(rows), 2), 0.5)
    perplexity = min(30.0, (len(rows) - 1) / 3)
    start = "pca" if rows.shape[1] > 1 else "random"
    flat = TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(rows)
    low = flat.min(axis=0)
    square: NDArray[np.float64] = (flat - low) / max(float(np.ptp(flat, axis=0).max()), 1e-12)
    return square


def _scatter(axes: Axes, points: NDArray[np.float64], people: NDArray[np.int64]) -> None:
    """Points by identity: the colour changes first, then the shape, so that 56 identities differ."""
    size = float(np.clip(9000 / len(points), 8, 34))
    for position, person in enumerate(np.unique(people)):
        own = points[people == person]
        colour = COLOURS[position % len(COLOURS)] if person >= 0 else "#c4c8ce"
        shape = MARKERS[position // len(COLOURS) % len(MARKERS)] if person >= 0 else "."
        axes.scatter(
            own[:, 0], own[:, 1], s=size, c=colour, marker=shape, linewidths=0.3, edgecolors="white", zorder=3
        )


def _strip(
    axes: Axes,
    paths: Sequence[Path],
    people: NDArray[np.int64],
    focus: int,
    neighbours: NDArray[np.int64],
    x: float,
    y: float,
    pitch: float,
) -> None:
    """The ringed image, and its nearest neighbours in one model."""
    width, tall = 0.9 * pitch, 1.8 * pitch
    tile(axes, pixels(paths[focus]), x, y + 0.4, width=width, tall=tall)
    axes.text(x, y + 0.2, "ringed image and its nearest neighbours", va="center", color=MUTED, fontsize=8)
    for position, row in enumerate(neighbours):
        left = x + (position + 1.4) * pitch
        tile(axes, pixels(paths[int(row)]), left, y + 0.4, width=width, tall=tall)
        mark(axes, bool(people[row] == people[focus]), left, y + 0.4, width=width, tall=tall)
