"""Kill -9 at random moments, again and again, until the work is done: it ends as if nothing had happened.

One kill of each kind here; `make drills` has fifty (docs/reliability.md).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import processes
from galleries import MODEL, filled
from reseen.gallery import Gallery
from reseen.gallery.rows import HELD
from reseen.models.checkpoint import read_checkpoint
from reseen.training import LAST
from test_gallery_erasing import on_disk, traces
from worlds import TINY, TINY_SEARCH, people

KILLS = int(os.environ.get("RESEEN_DRILLS", "1"))

Start = Callable[[Path], processes.Started]


def drilled(
    kind: str, folder: Path, start: Start, check: Callable[[Path], None], imports: float = 0.0
) -> None:
    """Start, kill at a random moment, start again, ... ; ``check`` what is there each time the work ended by itself.

    ``imports``: the share of the time that a process needs to begin, in which few of the kills should fall.
    """
    draw, kills, works = random.Random(kind), 0, 0
    processes.start("pass").wait()  # from here on every start is as quick as the next
    begun = time.monotonic()
    assert start(folder / "whole").wait()[0] == 0
    seconds = time.monotonic() - begun
    while kills < KILLS:
        place, works = folder / f"{kind}-{works}", works + 1
        while True:
            process = start(place)
            if kills < KILLS:
                process.process.join(draw.uniform(imports * seconds, seconds))
            if kills == KILLS or not process.running:
                status, said = process.wait()
                assert status == 0, said
                break
            process.kill()
            kills += 1
        check(place)
        shutil.rmtree(place)
    print(f"\n{kind}: {kills} kills in {works} works of {seconds:.1f} s, 0 lost")


def settings(*given: str, prefix: str = "") -> list[str]:
    return [word for setting in given for word in ("--set", prefix + setting)]


def networks(file: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(file).under("networks.")


def same_weights(whole: Path, *parts: str) -> Callable[[Path], None]:
    def check(run_dir: Path) -> None:
        for part in parts:
            one, other = (networks(place / part / "checkpoint" / LAST) for place in (whole, run_dir))
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one), part
        assert not list(run_dir.rglob("*.partial"))

    return check


def test_training_on_crops(tmp_path: Path) -> None:
    people(tmp_path / "photos", identities=8)
    words = ["train", "cacl", "--data", tmp_path / "photos", "--weights", "none", "--resume"]
    words += settings(*TINY, "train.epochs=6")
    check = same_weights(tmp_path / "whole", ".")
    drilled("crops", tmp_path, lambda run_dir: processes.reseen(*words, "--run", run_dir), check)


def test_training_on_scenes(scenes_folder: Path, tmp_path: Path) -> None:
    words = ["train", "r-siamnet", "--data", scenes_folder, "--weights", "none", "--resume"]
    words += settings(*TINY_SEARCH, "train.epochs=4")
    check = same_weights(tmp_path / "whole", ".")
    drilled("scenes", tmp_path, lambda run_dir: processes.reseen(*words, "--run", run_dir), check)


@pytest.mark.skipif(KILLS == 1, reason="test_tasks_two_step_resume.py kills it in each of its parts")
def test_training_in_two_steps(scenes_folder: Path, tmp_path: Path) -> None:
    words = ["train", "two-step", "--data", scenes_folder, "--weights", "none", "--resume"]
    words += settings(
        *TINY_SEARCH,
        "train.epochs=16",
        "train.lr=0.03",
        "train.batch_size=2",
        "train.clip_norm=5",
        prefix="detector.",
    )
    words += settings(*TINY, "cluster.k1=5", "cluster.eps=0.3", prefix="reid.")
    check = same_weights(tmp_path / "whole", "detector", "reid")
    drilled("two-step", tmp_path, lambda run_dir: processes.reseen(*words, "--run", run_dir), check)


@pytest.mark.skipif(KILLS == 1, reason="test_reproduce_command.py kills a row")
def test_reproducing(tmp_path: Path) -> None:
    code = "import sys\nfrom pathlib import Path\nfrom reproduce_runs import tiny_table\n"
    code += "tiny_table('cacl-table6', Path(sys.argv[1]), seeds=1)"

    def scores(place: Path) -> dict[str, Any]:
        return {path.name: json.loads(path.read_text())["scores"] for path in (place / "rows").glob("*.json")}

    def check(place: Path) -> None:
        assert scores(place) == scores(tmp_path / "whole")
        assert (place / "cacl-table6" / "table.md").exists()

    drilled("reproduce", tmp_path, lambda place: processes.start(code, place), check)


FEW = "from reseen.footage import sources\nsources.CROPS = 8  # images of one addition\n"


def test_indexing(world: Path, trained: tuple[Path, str], tmp_path: Path) -> None:
    def start(place: Path) -> processes.Started:
        words = ("index", trained[0], world / "bounding_box_train", "--gallery", place, "--resume")
        return processes.start(FEW + processes.RESEEN, *words)

    def check(place: Path) -> None:
        one, other = (Gallery.open(where).held for where in (tmp_path / "whole", place))
        for name in HELD:
            assert str(one.table[name].to_pylist()) == str(other.table[name].to_pylist())
        assert (np.concatenate(one.blocks) == np.concatenate(other.blocks)).all()

    drilled("index", tmp_path, start, check, imports=0.5)


def test_erasing(tmp_path: Path) -> None:
    _, features = filled(tmp_path / "filled")
    code = (
        "import sys\nfrom reseen.gallery import Gallery\n"
        f"gallery = Gallery.open(sys.argv[1], {MODEL!r})\n"
        "gallery.forget([row for row in (5, 20) if row in gallery.held.column('row').tolist()])"
    )

    def start(place: Path) -> processes.Started:
        if not place.exists():
            shutil.copytree(tmp_path / "filled", place)
        return processes.start(code, place)

    def check(place: Path) -> None:
        assert on_disk(place, traces(features, [5, 20])) == {}
        others = traces(features, [row for row in range(60) if row not in (5, 20)])
        assert on_disk(place, others).keys() == others.keys()
        again = Gallery.open(place, MODEL)
        assert again.unfinished == 0
        assert again.held.column("row").tolist() == [row for row in range(60) if row not in (5, 20)]

    drilled("erase", tmp_path, start, check, imports=0.5)
