"""Works that are killed, or whose disk fills up: how each is started and gone on with, and what it has to end with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import processes
from galleries import MODEL, filled
from reproduce_runs import SETTINGS
from reseen.gallery import Gallery
from reseen.gallery.rows import HELD
from reseen.models.checkpoint import read_checkpoint
from reseen.training import LAST
from test_gallery_erasing import on_disk, traces
from worlds import TINY, TINY_SEARCH, people


class Work(NamedTuple):
    """``start`` begins or continues it in a folder; ``check`` looks at a finished one, beside ``whole``, undisturbed.

    ``imports`` is the share of its time that a process needs to begin.
    """

    start: Callable[[Path], processes.Started]
    check: Callable[[Path], None]
    imports: float = 0.0


def settings(*given: str, prefix: str = "") -> list[str]:
    return [word for setting in given for word in ("--set", prefix + setting)]


def networks(file: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(file).under("networks.")


def training(whole: Path, words: list[object], *parts: str) -> Work:
    def check(run_dir: Path) -> None:
        for part in parts or (".",):
            one, other = (networks(place / part / "checkpoint" / LAST) for place in (whole, run_dir))
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one), part

    words = ["train", *words, "--weights", "none", "--resume", "--run"]
    return Work(lambda run_dir: processes.reseen(*words, run_dir), check)


def crops(folder: Path) -> Work:
    people(folder / "photos", identities=8)
    words = ["cacl", "--data", folder / "photos", *settings(*TINY, "train.epochs=4")]
    return training(folder / "whole", words)


def scenes(folder: Path, data: Path) -> Work:
    words = ["r-siamnet", "--data", data, *settings(*TINY_SEARCH, "train.epochs=2")]
    return training(folder / "whole", words)


def two_step(folder: Path, data: Path) -> Work:
    detector = (
        *TINY_SEARCH, "train.epochs=16", "train.lr=0.03", "train.batch_size=2", "train.clip_norm=5",
        "search.dim=16", "data.height=64",
    )  # fmt: skip
    words = ["two-step", "--data", data, *settings(*detector, prefix="detector.")]
    words += settings(*TINY, "cluster.k1=5", "cluster.eps=0.3", prefix="reid.")
    return training(folder / "whole", words, "detector", "reid")


def reproducing(folder: Path) -> Work:
    code = "import reproduce_runs\nfrom reseen.reproduce import command\n"
    code += "command.Streets = lambda: reproduce_runs.TINY_STREETS\n"  # what no option of the command decides
    words = ["reproduce", "cacl-table6", "--data", "street", "--seeds", 1, "--scale", "small", "--run"]

    def scores(place: Path) -> dict[str, Any]:
        return {path.name: json.loads(path.read_text())["scores"] for path in (place / "rows").glob("*.json")}

    def check(place: Path) -> None:
        assert scores(place) == scores(folder / "whole")
        assert (place / "cacl-table6" / "table.md").exists()

    return Work(
        lambda place: processes.start(code + processes.RESEEN, *words, place, *settings(*SETTINGS)), check
    )


FEW = "from reseen.footage import sources\nsources.CROPS = 8  # images of one addition\n"


def indexing(folder: Path, run_dir: Path, images: Path) -> Work:
    def start(place: Path) -> processes.Started:
        words = ("index", run_dir, images, "--gallery", place, "--resume")
        return processes.start(FEW + processes.RESEEN, *words)

    def check(place: Path) -> None:
        one, other = (Gallery.open(where).held for where in (folder / "whole", place))
        for name in HELD:
            assert str(one.table[name].to_pylist()) == str(other.table[name].to_pylist())
        assert (np.concatenate(one.blocks) == np.concatenate(other.blocks)).all()

    return Work(start, check, imports=0.5)


ERASE = """
import sys
from reseen.cli import main
from reseen.gallery import Gallery
left = [row for row in (5, 20) if row in Gallery.open(sys.argv[1]).held.column("row").tolist()]
sys.exit(main(["forget", sys.argv[1], "--yes", "--finish", *(word for row in left for word in ("--row", str(row)))]))
"""


def erasing(folder: Path) -> Work:
    _, features = filled(folder / "filled")

    def start(place: Path) -> processes.Started:
        if not place.exists():
            shutil.copytree(folder / "filled", place)
        return processes.start(ERASE, place)

    def check(place: Path) -> None:
        assert on_disk(place, traces(features, [5, 20])) == {}
        others = [row for row in range(60) if row not in (5, 20)]
        assert on_disk(place, traces(features, others)).keys() == traces(features, others).keys()
        again = Gallery.open(place, MODEL)
        assert again.unfinished == 0
        assert again.held.column("row").tolist() == others

    return Work(start, check, imports=0.5)
