"""``reseen train two-step`` is killed in each of its parts and goes on; and two processes make one run of it."""

from __future__ import annotations

import json
import shutil
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

import processes
from command_runs import contents, done, lines
from reseen.commands import train as command
from reseen.distributed import Ranks
from reseen.street import draw_scenes
from reseen.tasks.two_step import run as two_step
from reseen.tasks.two_step.crops import MANIFEST, complete
from reseen.training import LAST, read_checkpoint
from test_cli import call, refused
from worlds import TINY, TINY_SEARCH

SETTINGS = (
    *(f"detector.{word}" for word in TINY_SEARCH),
    *("detector.train.epochs=16", "detector.train.batch_size=2", "detector.train.lr=0.03"),
    *("detector.search.dim=16", "detector.data.height=64", "detector.train.clip_norm=5"),
    *(f"reid.{word}" for word in TINY),
    *("reid.cluster.k1=5", "reid.cluster.eps=0.3", "reid.train.epochs=3"),
)
EPOCHS = {"detector": 16, "reid": 3}
KILLED = """
import itertools, os, signal, sys
from pathlib import Path
from PIL import Image
from reseen.cli import main

part, *words = sys.argv[1:]
save, replace, crops = Image.Image.save, os.replace, itertools.count(1)

def half_a_crop(image, path, *given, **more):
    save(image, path, *given, **more)
    if part == "crops" and Path(path).parent.name == part and next(crops) == 4:
        os.truncate(path, 40)
        os.kill(os.getpid(), signal.SIGKILL)

def one_epoch(source, target):
    replace(source, target)
    if str(target).endswith(f"{part}/checkpoint/last.safetensors"):
        os.kill(os.getpid(), signal.SIGKILL)

Image.Image.save, os.replace = half_a_crop, one_epoch
sys.exit(main(words))
"""


def words(street: Path, run: Path) -> list[str]:
    given = ["train", "two-step", "--data", str(street), "--run", str(run), "--weights", "none"]
    return [*given, *(word for setting in SETTINGS for word in ("--set", setting))]


def resumed(street: Path, run: Path) -> list[str]:
    return ["train", "two-step", "--data", str(street), "--run", str(run), "--resume"]


def epoch_of(run: Path, step: str) -> int:
    return int(read_checkpoint(run / step / "checkpoint" / LAST).state["epoch"])


def drawn(root: Path, *, train_scenes: int, seed: int) -> Path:
    draw_scenes(
        root,
        seed=seed,
        train_scenes=train_scenes,
        test_scenes=2,
        train_identities=4,
        test_identities=3,
        cameras=2,
        persons=(2, 3),
    )
    return root


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.mktemp("street"), train_scenes=6, seed=1)


@pytest.fixture(scope="module")
def whole(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    torch.set_num_threads(1)  # as in the processes that are killed
    run = tmp_path_factory.mktemp("runs") / "whole"
    done(*words(street, run))
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / whole.name)  # its pages are headed by its name


# --- killed ---


def kill_after_an_epoch(run: Path, *given: str) -> None:
    """``reseen`` until its detector has a checkpoint, then SIGKILL from outside."""
    process = processes.reseen(*given)
    last = run / "detector" / "checkpoint" / LAST
    process.until(last)
    process.kill()


def kill_in(part: str, *given: str) -> None:
    """A process that gets SIGKILL in the middle of its fourth crop, or after the first epoch of ``reid``."""
    status, said = processes.start(KILLED, part, *given).wait()
    assert status == -signal.SIGKILL, said


def test_killed_in_each_part_it_ends_as_if_it_was_not(
    whole: Path, street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    kill_after_an_epoch(run, *words(street, run))
    assert 1 <= epoch_of(run, "detector") < EPOCHS["detector"]
    assert not (run / "crops").exists()

    kill_in("crops", *resumed(street, run))
    assert epoch_of(run, "detector") == EPOCHS["detector"]
    cut = sorted((run / "crops").iterdir())
    assert len(cut) == 4
    assert cut[-1].stat().st_size == 40
    assert not complete(run / "crops")
    shutil.copy(cut[0], run / "crops" / "000099_000.png")  # of a detector that found more

    kill_in("reid", *resumed(street, run))
    assert epoch_of(run, "reid") == 1
    assert contents(run / "crops") == contents(whole / "crops")
    assert not (run / "metrics.jsonl").exists()

    monkeypatch.setattr(command, "report_on", lambda *given: None)  # pictures take seconds
    done(*resumed(street, run))
    before, after = contents(whole), contents(run)
    assert set(after) == {name for name in before if "report/" not in name}
    same = [name for name in before if name.startswith("crops/") or name.endswith(".yaml")]
    assert [name for name in same if after[name] != before[name]] == []
    for step, epochs in EPOCHS.items():
        one, other = (read_checkpoint(folder / step / "checkpoint" / LAST) for folder in (whole, run))
        assert one.state["epoch"] == other.state["epoch"] == epochs
        assert one.tensors.keys() == other.tensors.keys()
        assert [name for name in one.tensors if not torch.equal(one.tensors[name], other.tensors[name])] == []
        told = [lines(folder / step / "metrics.jsonl") for folder in (whole, run)]
        for first, second in zip(*told, strict=True):
            assert [key for key in first if key != "seconds" and first[key] != second[key]] == []
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert lines(run / name) == lines(whole / name)
    (record,) = lines(run / "metrics.jsonl")
    assert record["test"]["detection_recall"] > 0  # else nothing was compared


# --- to be continued ---


def test_a_finished_run_that_is_resumed_changes_no_file(run: Path, street: Path) -> None:
    before = contents(run)
    done(*resumed(street, run))
    after = contents(run)
    assert set(after) == set(before)
    assert [name for name in before if after[name] != before[name]] == []


@pytest.mark.parametrize("setting", ["detector.train.epochs=99", "reid.train.epochs=99"])
def test_other_settings_are_refused_and_the_run_still_goes_on(
    setting: str, run: Path, street: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refused settings are not kept as the run's own."""
    (run / "metrics.jsonl").unlink()
    stored = (run / "config.yaml").read_bytes()
    line = refused(*words(street, run), "--resume", "--set", setting)
    assert f"other settings ({setting.partition('=')[0]})" in line
    assert (run / "config.yaml").read_bytes() == stored
    monkeypatch.setattr(command, "report_on", lambda *given: None)
    done(*resumed(street, run))
    assert (run / "metrics.jsonl").exists()


def test_a_finished_run_of_other_data_is_refused(run: Path, tmp_path: Path) -> None:
    other, before = drawn(tmp_path / "other", train_scenes=2, seed=2), contents(run)
    assert "trained on other images" in refused(*resumed(other, run))
    assert contents(run) == before


def test_another_run_is_not_written_over(run: Path, street: Path) -> None:
    """``--resume`` with the folder of r-siamnet's own run; with settings of its own as well."""
    before = contents(run / "detector")
    for given in (resumed(street, run / "detector"), [*words(street, run / "detector"), "--resume"]):
        assert "not that of a two-step run" in refused(*given)
    assert contents(run / "detector") == before


def test_stopped_before_its_first_checkpoint_it_begins_with_the_same_weights(
    street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    def stopped(*given: Any, **more: Any) -> None:
        begun.append(given[0].weights)
        raise KeyboardInterrupt

    monkeypatch.setattr(two_step.scenes, "train", stopped)
    for given in (words(street, tmp_path / "run"), resumed(street, tmp_path / "run")):
        assert call(*given)[0] == 130
    assert begun == ["none", "none"]


@pytest.mark.parametrize("lost", ["000000_000.png", MANIFEST, "summary.json"])
def test_crops_that_are_not_all_there_are_cut_again(
    lost: str, run: Path, street: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "report_on", lambda *given: None)
    crops = contents(run / "crops")
    (run / "crops" / lost).unlink()
    (run / "metrics.jsonl").unlink()  # else the run is finished
    done(*resumed(street, run))
    assert contents(run / "crops") == crops


# --- two processes ---


def test_two_processes_make_one_run(street: Path, tmp_path: Path, whole: Path) -> None:
    run = tmp_path / "run"
    settings = ["--set", "reid.model.bn_group_size=4"]
    ended = processes.together(processes.RESEEN, *words(street, run), *settings)
    assert [code for code, _ in ended] == [0, 0], ended
    assert [epoch_of(run, step) for step in EPOCHS] == list(EPOCHS.values())
    assert complete(run / "crops")
    (record,) = lines(run / "metrics.jsonl")
    (alone,) = lines(whole / "metrics.jsonl")
    assert record["test"].keys() == alone["test"].keys()
    assert record["crops"]["found"] > 0
    assert len(lines(run / "evaluations.jsonl")) == 1
    one, two = ({name for name in contents(it) if "crops/0" not in name} for it in (whole, run))
    assert one == two  # and no file of the second process
    assert json.loads((run / "environment.json").read_text())["processes"] == 2


def test_batches_that_two_cannot_share_are_said_before_the_first_step(
    street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pair(Ranks):
        def broadcast(self, make: Any) -> Any:
            return make()

    monkeypatch.setattr(command, "join", lambda: nullcontext(Pair(rank=0, ranks=2)))
    given = (*words(street, tmp_path / "run"), "--set", "reid.train.batch_size=6")
    assert refused(*given).startswith("reid: each of 2 processes gets 3 of train.batch_size=6")
    assert not (tmp_path / "run").exists()
