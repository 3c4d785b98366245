"""Features, identities and cameras of a query and a gallery set, for the evaluation benchmark.

An image's feature is a point in a latent space of 160 dimensions,

    z = identity + 0.5 camera + 1.25 noise,

each a standard normal vector: one per identity (750), per camera (6), and per image. It is mapped to D dimensions by a
random matrix, gets a tenth of its energy in isotropic noise, and is scaled to unit length. People and cameras are drawn
evenly. 14 % of the gallery are distractors (people of their own, identity 0), and ``junk`` of it are boxes between a
person and somebody else (identity -1), at scattered places: Market-1501 has 19 %.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

PEOPLE, CAMERAS, LATENT = 750, 6, 160
DISTRACTORS = 2798 / 19732  # share of Market-1501's gallery
CAMERA, NOISE, ISOTROPIC = 0.5, 1.25, 0.1  # the last a share of the energy


def draw(folder: Path, queries: int, gallery: int, dim: int, junk: float) -> None:
    """Write query.npy and gallery.npy (float32 ``[n, dim]``) and labels.npz to ``folder``."""
    random = np.random.default_rng(0)
    people = random.integers(1, PEOPLE + 1, queries + gallery)
    cameras = random.integers(0, CAMERAS, len(people))
    centres = random.standard_normal((PEOPLE + 1, LATENT), dtype=np.float32)[people]
    identities = people.copy()
    cut = round(DISTRACTORS * gallery)
    places = queries + random.permutation(gallery)[: cut + round(junk * gallery)]
    others = random.standard_normal((len(places), LATENT), dtype=np.float32)
    distractors, mixed = places[:cut], places[cut:]
    centres[distractors], identities[distractors] = others[:cut], 0
    centres[mixed] = (centres[mixed] + others[cut:]) / np.sqrt(2, dtype=np.float32)
    identities[mixed] = -1

    z = centres + CAMERA * random.standard_normal((CAMERAS, LATENT), dtype=np.float32)[cameras]
    z += NOISE * random.standard_normal(z.shape, dtype=np.float32)
    rows = z @ random.standard_normal((LATENT, dim), dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    share = np.float32(np.sqrt(ISOTROPIC / (1 - ISOTROPIC) / dim))
    rows += share * lengths * random.standard_normal(rows.shape, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.save(folder / "query.npy", rows[:queries])
    np.save(folder / "gallery.npy", rows[queries:])
    np.savez(
        folder / "labels.npz",
        query_identities=identities[:queries],
        gallery_identities=identities[queries:],
        query_cameras=cameras[:queries],
        gallery_cameras=cameras[queries:],
    )
