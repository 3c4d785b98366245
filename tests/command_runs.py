"""Small runs as commands make them; several files of tests share them (see conftest)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from test_cli import call, tiny
from worlds import people

ONE_EPOCH = ("--weights", "none", *tiny("train.epochs=1"))
SMALL = (
    *("model.backbone=test_resnet.r160_in1k", "data.height=64", "data.width=32", "data.workers=0"),
    *("search.freeze=false", "search.channels=16", "search.dim=16", "search.long_side=192"),
    *("search.short_side=128", "search.detector=retinanet", "train.batch_size=4", "train.warmup=5"),
    *(
        "train.precision=none",
        "train.device=cpu",
        "train.lr=0.05",
        "train.clip_norm=5",
        "train.evaluate_every=10",
    ),
)
CROPS = (
    *("model.backbone=street", "data.height=32", "data.width=16", "data.workers=0", "cluster.k1=5"),
    *("cluster.k2=2", "cluster.min_samples=2", "train.epochs=1", "train.iterations=2", "train.batch_size=8"),
    *("train.instances=2", "train.precision=none", "train.device=cpu"),
)


def market(root: Path) -> Path:
    """Eight striped people in Market-1501's layout: training images, one query per camera, a gallery."""
    people(root / "bounding_box_train", identities=8)
    people(root / "bounding_box_test", identities=5, per_camera=3, seed=1)
    (root / "query").mkdir()
    for first in (root / "bounding_box_test").glob("*_000000_00.png"):
        first.rename(root / "query" / first.name)
    return root


def words(settings: tuple[str, ...], prefix: str = "") -> list[str]:
    return [word for setting in settings for word in ("--set", prefix + setting)]


def two_steps(*more: str) -> list[str]:
    both = [*words(SMALL, "detector."), *words(("train.epochs=30",), "detector."), *words(CROPS, "reid.")]
    return [*both, *words(more)]


def done(*given: object) -> str:
    """Standard output of a command that has to succeed and to say nothing on standard error."""
    code, out, err = call(*given)
    assert (code, err) == (0, ""), err
    return out


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
