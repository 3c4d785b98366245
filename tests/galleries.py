"""What tests of galleries share: places to keep one, rows to put in, and a plain oracle of a search."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from qdrant_client import QdrantClient

from reseen.gallery import Gallery, link
from reseen.gallery.rows import unit
from reseen.metrics.calibration import BINS, Calibration

MODEL = "a1" * 20  # a fingerprint; tests bring features, not images
DIM = 24


class OneAtATime:
    """A client in memory, whose calls wait for each other as on a server: its arrays are not made for threads."""

    def __init__(self, client: Any) -> None:
        self._client, self._lock = client, threading.RLock()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def locked(*given: Any, **more: Any) -> Any:
            with self._lock:
                return call(*given, **more)

        return locked


@contextmanager
def bucket(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server on loopback with one bucket: its address as s3://."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    for name, value in {**keys, "AWS_ENDPOINT": f"http://{host}:{port}", "AWS_ALLOW_HTTP": "true"}.items():
        patch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
    client.create_bucket(Bucket="footage")
    try:
        yield "s3://footage"
    finally:
        server.stop()


@contextmanager
def qdrant(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Qdrant with nothing in it: its address. That of the server which RESEEN_QDRANT_URL names, or a pretended one of
    its client, in memory."""
    address = os.environ.get("RESEEN_QDRANT_URL", "")
    if not address:
        with closing(OneAtATime(QdrantClient(":memory:"))) as client:
            patch.setattr("reseen.gallery.qdrant.connect", lambda url: client)
            yield "qdrant://memory"
        return
    names: set[str] = {one.name for one in link.connect(address).get_collections().collections}
    try:
        yield f"qdrant://{address.partition('://')[2]}"
    finally:
        for one in link.connect(address).get_collections().collections:
            if one.name not in names:
                link.connect(address).delete_collection(one.name)


def some_features(count: int, seed: int = 0, dim: int = DIM) -> NDArray[np.float32]:
    """Unit rows ``[count, dim]``, in groups of three that are alike."""
    draw = np.random.default_rng(seed)
    groups = draw.standard_normal((count // 3 + 1, dim)).repeat(3, axis=0)[:count]
    return unit(groups + 0.4 * draw.standard_normal((count, dim)))


def filled(place: Any, count: int = 60, seed: int = 0, **details: Any) -> tuple[Gallery, NDArray[np.float32]]:
    """A gallery of rows with sources, cameras 1 to 3, times and thumbnails; and their features."""
    features = some_features(count, seed)
    gallery = Gallery.open(place, MODEL)
    usual: dict[str, Any] = {
        "sources": [f"site {seed}/{row:04d}.jpg" for row in range(count)],
        "cameras": np.arange(count) % 3 + 1,
        "times": 1000.0 + np.arange(count),
        "thumbnails": [np.random.default_rng(row).bytes(200) for row in range(count)],
    }
    gallery.add(features, **usual | details)
    return gallery, features


def calibration() -> Calibration:
    """Of a model to which 0.8 means nothing, less that it is another person and more that it is the same one."""
    ratio = np.clip(40 * (np.linspace(-1, 1, BINS) - 0.8), -6, 6)
    return Calibration(ratio, ratio - 1, ratio + 1, 40, "cameras")


def oracle(
    features: NDArray[Any], query: NDArray[Any], k: int, passes: NDArray[np.bool_] | None = None
) -> list[tuple[int, float]]:
    """Row and similarity of the k most similar rows: inner products in float64 of what is kept, rounded once."""
    kept = unit(features).astype(np.float16).astype(np.float64)
    similarities = (kept @ unit(query[None])[0].astype(np.float64)).astype(np.float32)
    order = sorted(
        (row for row in range(len(kept)) if passes is None or passes[row]),
        key=lambda row: (-similarities[row], row),
    )
    return [(row, float(similarities[row])) for row in order[:k]]
