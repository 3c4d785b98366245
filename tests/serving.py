"""What tests of the server share: a small gallery of one-coloured people, and a stand-in for its model."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image
from torch import Tensor

from galleries import DIM, MODEL, calibration
from reseen.config import ClusterConfig
from reseen.data.boxes import Boxes
from reseen.footage.finding import Finder
from reseen.gallery import Gallery
from reseen.gallery.server import Served, make_app
from reseen.records import SceneDetections

GREY = 128
COLOURS = ((200, 30, 30), (30, 160, 40), (40, 60, 210), (220, 200, 40), (150, 40, 170), (30, 190, 190))
SHOTS = 8  # of each, before cameras 1 to 4
HOSTILE = (
    '<img src=x onerror="alert(1)">.jpg',
    '=HYPERLINK("http://x")',
    os.fsdecode(b"\xff\xfe.jpg"),
    "a\u202eb\n.jpg",
)
START = 1_770_000_000.0  # the first row's time; the others follow a minute apart
ADDRESS = "http://127.0.0.1"


def picture_of(*colours: Sequence[int], height: int = 90) -> Image.Image:
    """One-coloured people of 20 x 60 pixels side by side before grey, 40 pixels apart."""
    pixels = np.full((height, 40 * max(len(colours), 1), 3), GREY, np.uint8)
    for place, colour in enumerate(colours):
        pixels[15:75, 40 * place + 10 : 40 * place + 30] = colour
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def feature_of(colour: Any) -> np.ndarray:
    """A colour ``[3]`` as a feature ``[DIM]``."""
    mixing = np.random.default_rng(7).standard_normal((4, DIM))
    feature = np.append((np.asarray(colour, np.float64) - GREY) / GREY, 0.05) @ mixing
    return (feature / np.linalg.norm(feature)).astype(np.float32)


def find_people(images: Sequence[Tensor], given: Sequence[Boxes | None]) -> list[SceneDetections]:
    """What is not grey, column by column; or what is in the boxes that are given."""
    result = []
    for image, boxes in zip(images, given, strict=True):
        pixels = image.permute(1, 2, 0).numpy().astype(np.int64)
        if boxes is None:
            seen = np.abs(pixels - GREY).max(axis=2) > 20
            edges = np.flatnonzero(np.diff(np.concatenate([[0], seen.any(axis=0).astype(int), [0]])))
            rows = np.flatnonzero(seen.any(axis=1))
            boxes = np.array([[a, rows[0], b, rows[-1] + 1] for a, b in edges.reshape(-1, 2)], np.float32)
            boxes = boxes.reshape(-1, 4)
        middles = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in boxes.tolist()]
        features = [feature_of(pixels[int(y), int(x)]) for x, y in middles]
        scores = np.linspace(1, 0.6, len(boxes), dtype=np.float32)
        result.append(SceneDetections(boxes, scores, np.array(features, np.float32).reshape(-1, DIM)))
    return result


def filled(place: Path) -> Gallery:
    """Six persons of eight shots each, before four cameras; shots 6 and 7 of each are one track of a video."""
    draw = np.random.default_rng(0)
    gallery = Gallery.open(place, MODEL)
    features, thumbnails, sources, tracks = [], [], [], []
    for person, colour in enumerate(COLOURS):
        for shot in range(SHOTS):
            seen = np.clip(np.array(colour) + draw.normal(0, 6, 3), 0, 255)
            features.append(feature_of(seen))
            thumbnails.append(encoded(picture_of(seen.astype(np.uint8)).crop((5, 10, 35, 80)), "JPEG"))
            video = shot >= SHOTS - 2
            sources.append("hall.mp4" if video else f"person {person}/{shot}.jpg")
            tracks.append(person if video else -1)
    for row, name in enumerate(HOSTILE):
        sources[SHOTS * row] = name
    count = len(features)
    gallery.add(
        np.array(features),
        thumbnails=thumbnails,
        sources=sources,
        cameras=np.arange(count) % 4 + 1,
        times=START + 60.0 * np.arange(count),
        boxes=np.tile([5.0, 10.0, 35.0, 80.0], (count, 1)),
        tracks=tracks,
    )
    return gallery


def in_scenes(place: Path, root: Path) -> Gallery:
    """A crop, the same picture as a scene with somebody in a box of it, one that is gone, and one in a film."""
    gallery = Gallery.open(place, MODEL)
    picture_of(*COLOURS[:3]).save(root / "street.png")
    picture_of(COLOURS[0]).crop((10, 15, 30, 75)).save(root / "crop.png")
    names = ["crop.png", "street.png", "gone.png", "hall.mp4", "../street.png", str(root / "street.png")]
    boxes = [[0, 0, 20, 60], *[[50, 15, 70, 75]] * 5]
    gallery.add(
        np.array([feature_of(COLOURS[row % 3]) for row in range(6)]),
        sources=names,
        boxes=boxes,
        seconds=[np.nan] * 3 + [0.7] + [np.nan] * 2,
        frames=[-1] * 3 + [7] + [-1] * 2,
        thumbnails=[encoded(picture_of(COLOURS[row % 3]), "JPEG") for row in range(6)],
    )
    return gallery


def served(
    place: Path,
    find: Callable[..., list[SceneDetections]] = find_people,
    *,
    calibrated: bool = True,
    **options: Any,
) -> Served:
    cluster, gallery = ClusterConfig(k1=6, k2=2, min_samples=2), filled(place)
    if calibrated:
        gallery.keep_calibration(calibration())
    return Served(gallery, Finder(find, DIM, 8), detects=True, cluster=cluster, **options)


def client_of(state: Served, **options: Any) -> TestClient:
    return TestClient(make_app(state, **options), base_url=ADDRESS, raise_server_exceptions=False)


def query_for(client: TestClient, colour: Sequence[int]) -> str:
    """The name of a query for one person."""
    (person,) = client.post("/api/find", content=encoded(picture_of(colour))).json()["persons"]
    return str(person["query"])


def finished(client: TestClient, job: dict[str, Any], seconds: float = 60.0) -> dict[str, Any]:
    """A job when it has ended."""
    end = time.monotonic() + seconds
    while job["state"] in ("waiting", "running"):
        assert time.monotonic() < end, job
        time.sleep(0.02)
        job = client.get(f"/api/jobs/{job['job']}").json()
    return job
