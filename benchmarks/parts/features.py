"""Sets of features for the clustering benchmark: drawn ones with a known difficulty, and a user's own.

An image's feature is a point in a latent space of 160 dimensions,

    z = identity + 0.5 camera + 0.6 view + noise image,

each a standard normal vector: one per identity, per camera (6), per identity and view (3), and per image. It is mapped
to D dimensions by a fixed random matrix and scaled to unit length. An identity has about 17 images, as in Market-1501.

- ``usual``: noise 1.25, an mAP of about .7 at 13,000 images; ``hard``: noise 1.75, less than half of that.
- ``copies``: ``usual``, and in every 1,000 rows two groups each of 40, 10 and 6 exact copies, at scattered rows.

Such features have rank 160, which real ones have not. ``full`` therefore adds isotropic noise over all D dimensions
with a tenth of the energy. Rows are drawn in blocks of 4,096, each from its own seed, so memory stays small.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LATENT, CAMERAS, VIEWS, PER_IDENTITY = 160, 6, 3, 17
NOISE = {"usual": 1.25, "hard": 1.75, "copies": 1.25}
ISOTROPIC = 0.1  # share of the energy in sets of full rank
GROUPS, EVERY = (40, 10, 6), 1000  # of exact copies: two groups of each size in so many rows
BLOCK = 4096


def write_features(path: Path, kind: str, size: int, *, rank: str, dim: int) -> None:
    """Write ``path`` (float32 ``[size, dim]``, unit rows) and, beside it, identities and cameras (``.npz``)."""
    draw = np.random.default_rng(0)
    count = max(1, size // PER_IDENTITY)
    identities, cameras = draw.integers(0, count, size), draw.integers(0, CAMERAS, size)
    views = draw.integers(0, VIEWS, size)
    of_identity = draw.standard_normal((count, LATENT), dtype=np.float32)
    of_camera = draw.standard_normal((CAMERAS, LATENT), dtype=np.float32)
    of_view = draw.standard_normal((count, VIEWS, LATENT), dtype=np.float32)
    to_features = draw.standard_normal((LATENT, dim), dtype=np.float32)
    source = _sources(draw, size) if kind == "copies" else np.arange(size)
    identities, cameras = identities[source] + 1, cameras[source] + 1

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    rows = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=(size, dim))
    for start in range(0, size, BLOCK):
        here = slice(start, min(start + BLOCK, size))
        who, view = identities[here] - 1, views[source[here]]
        z = of_identity[who] + 0.5 * of_camera[cameras[here] - 1] + 0.6 * of_view[who, view]
        block = _rows_of(z, source[here], NOISE[kind], to_features, rank)
        rows[here] = block / np.linalg.norm(block, axis=1, keepdims=True)
    rows.flush()
    np.savez(path.with_suffix(".npz"), identities=identities, cameras=cameras)
    os.replace(partial, path)


def _rows_of(
    z: NDArray[np.float32],
    source: NDArray[np.int64],
    noise: float,
    to_features: NDArray[np.float32],
    rank: str,
) -> NDArray[np.float32]:
    """Features of images before scaling. What is an image's own comes from its number, so copies are equal."""
    dim = to_features.shape[1]
    own = np.empty((len(source), LATENT + (dim if rank == "full" else 0)), dtype=np.float32)
    for place, image in enumerate(source):
        np.random.default_rng((1, int(image))).standard_normal(dtype=np.float32, out=own[place])
    # einsum: each row's sum is taken alone, so equal rows stay equal whatever block they are in
    features: NDArray[np.float32] = np.einsum("ml,ld->md", z + noise * own[:, :LATENT], to_features)
    if rank == "full":
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        features += own[:, LATENT:] * lengths * np.sqrt(ISOTROPIC / (1 - ISOTROPIC) / dim)
    return features


def _sources(draw: np.random.Generator, size: int) -> NDArray[np.int64]:
    """For each row the image that it shows: its own, but for the copies."""
    source, free = np.arange(size), draw.permutation(size)
    for group in GROUPS * (2 * max(1, size // EVERY)):
        chosen, free = free[:group], free[group:]
        source[chosen] = chosen.min(initial=size)
    return source
