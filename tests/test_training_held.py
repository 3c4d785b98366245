"""Two jobs never train into one folder, and a folder that is taken away ends the job."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

import processes
from reseen.errors import ReseenError
from reseen.training.held import held
from test_cli import refused
from worlds import TINY, people


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    people(tmp_path / "photos", identities=8)
    given = ["train", "cacl", "--data", str(tmp_path / "photos"), "--weights", "none", "--run"]
    given += [str(tmp_path / "run"), *(word for setting in TINY for word in ("--set", setting))]
    return [*given, "--set", "train.epochs=400"]


def test_a_second_training_is_refused_and_one_after_a_kill_is_not(words: list[str], tmp_path: Path) -> None:
    first = processes.reseen(*words)
    first.until(tmp_path / "run" / "checkpoint" / "last.safetensors")
    assert "is being trained by another process: wait until it ends" in refused(*words, "--resume")
    first.kill()
    with held(tmp_path / "run") as still_there:  # a dead process holds nothing
        still_there()


def test_a_folder_that_is_removed_meanwhile_ends_the_training(words: list[str], tmp_path: Path) -> None:
    training = processes.reseen(*words)
    training.until(tmp_path / "run" / "checkpoint" / "last.safetensors")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    status, said = training.wait(60)
    assert status == 2
    assert (
        said.count("was removed or moved while it was trained, so training stops: choose another --run") == 1
    )
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_picture_that_vanishes_while_it_is_trained_on_is_named_and_no_epoch_is_lost(
    words: list[str], tmp_path: Path
) -> None:
    last = tmp_path / "run" / "checkpoint" / "last.safetensors"
    training = processes.reseen(*words)
    training.until(last)
    picture = sorted((tmp_path / "photos").iterdir())[3]
    kept = picture.read_bytes()
    picture.unlink()
    status, said = training.wait(60)
    assert (status, "Traceback" in said) == (2, False)
    assert said.splitlines()[-1] == f"reseen: {picture} cannot be read: No such file or directory"
    assert "other images than --data holds now" in refused(*words, "--resume")
    picture.write_bytes(kept)
    before = last.stat().st_mtime_ns
    again = processes.reseen(*words, "--resume")
    while last.stat().st_mtime_ns == before and again.running:
        time.sleep(0.02)
    assert "continuing" in again.kill()


def test_who_is_refused_and_who_did_not_begin_leave_nothing(tmp_path: Path) -> None:
    with held(tmp_path / "run") as still_there:
        with pytest.raises(ReseenError, match="another process"), held(tmp_path / "run"):
            pass
        still_there()  # it took nothing away
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_made_anew_is_another_one(tmp_path: Path) -> None:
    with held(tmp_path / "run") as still_there:
        still_there()
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(ReseenError, match="removed or moved"):
            still_there()
        with held(tmp_path / "run"), pytest.raises(ReseenError, match="removed or moved"):
            still_there()
