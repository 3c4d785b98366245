"""Small worlds for tests: a few drawn crops and the settings that make an epoch take a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from reseen.config import Config, resolve
from reseen.records import Crop

TINY = [
    "model.backbone=street",
    "data.height=32",
    "data.width=16",
    "data.workers=0",
    "cluster.k1=6",
    "cluster.k2=2",
    "cluster.min_samples=2",
    "train.epochs=2",
    "train.iterations=2",
    "train.batch_size=8",
    "train.instances=2",
    "train.precision=none",
    "train.device=cpu",
    "train.lr=0.001",
]

TINY_SEARCH = [
    "model.backbone=test_resnet.r160_in1k",
    "data.height=96",
    "data.width=32",
    "data.workers=0",
    "search.detector=retinanet",  # the cheapest of the three
    "search.freeze=false",
    "search.channels=16",
    "search.dim=32",
    "search.long_side=192",
    "search.short_side=128",
    "train.epochs=2",
    "train.batch_size=4",
    "train.precision=none",
    "train.device=cpu",
    "train.warmup=0",
    "train.evaluate_every=0",
]


def tiny(recipe: str = "cacl", *settings: str) -> Config:
    """``recipe`` on the smallest network, with ``settings`` last."""
    return resolve(recipe, None, [*TINY, *settings])


def tiny_search(*settings: str) -> Config:
    """R-SiamNet on the smallest network, with ``settings`` last."""
    return resolve("r-siamnet", None, [*TINY_SEARCH, *settings])


def people(
    root: Path, *, identities: int = 6, per_camera: int = 2, cameras: int = 2, seed: int = 0
) -> tuple[tuple[Crop, ...], np.ndarray]:
    """Crops of striped people, one colour and one stripe each, and their identities ``[M]``."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    crops, labels = [], []
    for person in range(identities):
        colour, stripe = rng.integers(40, 255, 3), int(rng.integers(2, 6))
        for camera in range(1, cameras + 1):
            for shot in range(per_camera):
                image = np.full((32, 16, 3), 30 * camera, dtype=np.float64)
                image[6:28, 3:13] = colour
                image[6:28:stripe, 3:13] = 255 - colour
                image += rng.normal(0, 8, image.shape)
                path = root / f"{person + 1:04d}_c{camera}s1_{shot:06d}_00.png"
                Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)
                crops.append(Crop(path, camera))
                labels.append(person + 1)
    return tuple(crops), np.array(labels)


def eight_people(folder: Path) -> list[Path]:
    """24 small images of 8 people, three each."""
    rng = np.random.default_rng(3)
    paths = []
    for person in range(8):
        colour = rng.integers(0, 255, 3)
        for shot in range(3):
            pixels = (colour + rng.normal(0, 20, (40, 20, 3))).clip(0, 255).astype(np.uint8)
            paths.append(folder / f"{person}_{shot}.jpg")
            Image.fromarray(pixels).save(paths[-1])
    return paths
