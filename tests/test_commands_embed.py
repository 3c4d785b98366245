"""``reseen embed``: the same rows whoever computes them, stopped or not, and one line for what cannot be."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import processes
from command_runs import contents, done
from films import cut, film
from reseen.errors import ReseenError
from reseen.footage import Rows, finding, joined, shards
from reseen.footage.shards import read_features
from reseen.street import draw_walks
from test_cli import call

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
RESEEN = (sys.executable, "-m", "reseen")
# A process with parts of a few frames, that is killed when it has written so many files.
KILLED = """
import os, signal, sys
from reseen.footage import finding, shards
shards.BATCHES, finding.SCENES = 1, 2
write, left = shards._write, int(sys.argv.pop(1))
def write_or_die(*given, **more):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write(*given, **more)
shards._write = write_or_die
from reseen.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory, scenes_folder: Path) -> Path:
    """Six images, one of them damaged; a film of three seconds, cut; and one of a second."""
    folder = tmp_path_factory.mktemp("footage")
    for number, image in enumerate(sorted((scenes_folder / "train" / "images").iterdir())[:6]):
        (folder / f"{number}.jpg").write_bytes(image.read_bytes()[: 4000 if number == 2 else None])
    frames = [np.asarray(frame.image) for frame in draw_walks(1, 1, [1, 2, 3], seconds=3, rate=4)]
    cut(film(folder / "walk.mkv", frames, rate=4), 0.8)
    (folder / "walk.mkv").unlink()
    film(folder / "last.mp4", frames[4:8], rate=4).rename(folder / "xlast.mp4")
    return folder


@pytest.fixture(scope="module")
def whole(footage: Path, searched: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of it, with parts as small as those of the processes that are killed."""
    torch.set_num_threads(1)  # as in the processes
    out = tmp_path_factory.mktemp("features") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "BATCHES", 1)
        patch.setattr(finding, "SCENES", 2)
        done("embed", searched[0], footage, "--min-score", 0.2, "--out", out)
    return out


def rows_in(folder: Path) -> Rows:
    return joined(list(read_features(folder)))


def test_crops_become_rows_that_evaluate_scores_as_the_run(
    world: Path, finished: Path, tmp_path: Path
) -> None:
    said = done("embed", finished, world, "--out", tmp_path / "features")
    rows = rows_in(tmp_path / "features")
    assert said.endswith(
        f"{len(rows)} persons in {len(rows)} images, 0 problems -> {tmp_path / 'features'}\n"
    )
    about = json.loads((tmp_path / "features" / "features.json").read_text())
    assert (about["finished"], about["rows"], about["problems"]) == (True, len(rows), [])
    assert about["model"]["dim"] == rows.features.shape[1]
    ours, theirs = (
        done("evaluate", *words, "--data", world).split(" mAP ")[-1]
        for words in (("--features", tmp_path / "features"), (finished,))
    )
    assert ours == theirs


def test_what_is_wrong_with_files_is_said_at_the_end(
    footage: Path, searched: tuple[Path, str], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").touch()
    said = done(
        "embed", searched[0], footage, "--out", tmp_path / "features", "--min-score", 0.2
    ).splitlines()
    rows = rows_in(tmp_path / "features")
    assert said[-3].endswith("2.jpg is truncated or damaged: replace or remove it")
    assert "walk-cut.mkv: ends after " in said[-2]
    assert said[-1] == f"{len(rows)} persons in 6 images and 2 videos, 2 problems -> {tmp_path / 'features'}"
    assert json.loads((tmp_path / "features" / "features.json").read_text())["problems"] == said[-3:-1]
    assert "walk-cut.mkv" in rows.sources


def test_a_killed_embed_is_finished_by_two_processes_with_the_same_files(
    footage: Path, searched: tuple[Path, str], whole: Path, tmp_path: Path
) -> None:
    """Killed with SIGKILL in the middle of the first film; each of two processes then has a film to do."""
    out = tmp_path / "stopped"
    words = [*map(str, ("embed", searched[0], footage, "--min-score", 0.2, "--out", out)), "--resume"]
    assert len(list(whole.glob("rows-000001-*"))) >= 3  # parts of the film

    status, said = processes.start(KILLED, 2, *words).wait()
    assert status == -signal.SIGKILL, said
    assert sorted(path.name[:16] for path in out.glob("rows-*")) == ["rows-000000-0000", "rows-000001-0000"]
    with pytest.raises(ReseenError, match="is not finished: continue with reseen embed"):
        list(read_features(out))
    ended = processes.together(KILLED, 99, *words)
    assert [status for status, _ in ended] == [0, 0], ended
    assert sum(said.count(" persons in ") for _, said in ended) == 1
    assert contents(out) == contents(whole)
    done(*words)  # nothing is left to do
    assert contents(out) == contents(whole)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--min-score", "2"), "--min-score 2 is no share"),
        (("--every", "0"), "give --every a time above 0"),
        (("--every", "often"), "'often' is no time in seconds"),
        (("--detector", "none.onnx"), "there is no file none.onnx"),
        (("--annotated",), "--annotated is for a COCO .json"),
        (("--time-pattern", "x(1)"), "time pattern"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    more: tuple[str, ...], why: str, footage: Path, searched: tuple[Path, str], tmp_path: Path
) -> None:
    code, _, err = call("embed", searched[0], footage, "--out", tmp_path / "features", *more)
    assert (code, err.count("\n")) == (2, 1)
    assert why in err
    assert not (tmp_path / "features").exists()


def test_features_of_something_else_are_not_mixed(
    world: Path, trained: tuple[Path, str], searched: tuple[Path, str], tmp_path: Path
) -> None:
    out = tmp_path / "features"
    done("embed", trained[0], world / "query", "--out", out)
    for words, why in (
        ((trained[0], world / "query"), "holds features: continue with --resume"),
        ((trained[0], world / "bounding_box_test", "--resume"), "was begun with other sources"),
        ((searched[0], world / "query", "--resume"), "was begun with other model"),
        ((trained[0], world / "query", "--every", "2", "--resume"), "was begun with other settings"),
    ):
        code, _, err = call("embed", *words, "--out", out)
        assert (code, why in err) == (2, True), err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").touch()
    code, _, err = call("embed", trained[0], world / "query", "--out", tmp_path / "mine")
    assert (code, "is there and holds no features" in err) == (2, True)
    (file,) = out.glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    code, _, err = call("evaluate", "--features", out, "--data", world)
    assert (code, "is damaged (its digest differs)" in err) == (2, True), err
    assert err.count("\n") == 1
