"""Two jobs never train into one folder, and folders that change meanwhile: of the run, of its pictures."""

from __future__ import annotations

import ctypes
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import processes
from command_runs import contents, done
from reseen.config import Config
from reseen.errors import ReseenError
from reseen.training import Run, fit
from reseen.training.fit import describe
from reseen.training.held import held
from test_cli import refused
from test_training import quiet_fit
from worlds import TINY, people

C = ctypes.CDLL(None)
# of linux/capability.h; 0: of this thread
VERSION, CAP_DAC_OVERRIDE = (ctypes.c_uint32 * 2)(0x20080522, 0), 1 << 1


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


def test_what_cannot_be_written_since_the_folder_is_gone_says_that_it_is_gone(tmp_path: Path) -> None:
    def write(taken_away: bool) -> None:
        with held(tmp_path / "run"):
            if taken_away:
                (tmp_path / "run").rename(tmp_path / "elsewhere")
            raise ReseenError("cannot write")

    with pytest.raises(ReseenError, match="cannot write"):
        write(False)
    with pytest.raises(ReseenError, match="was removed or moved"):
        write(True)


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


@pytest.fixture
def after_an_epoch(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What is done as soon as the first epoch of a command is saved."""
    first: list[Callable[[], object]] = []

    def described(record: dict[str, Any], config: Config) -> str:
        if record["epoch"] == 1:
            first[0]()
        return describe(record, config)

    monkeypatch.setattr("reseen.commands.train.report_on", lambda *given: None)  # pictures take seconds
    monkeypatch.setitem(fit.__globals__, "describe", described)
    return first


def test_pictures_that_come_or_change_while_they_are_trained_on(
    words: list[str], tmp_path: Path, after_an_epoch: list[Callable[[], object]]
) -> None:
    words += ["--set", "train.epochs=2", "--set", "cluster.features=fresh"]  # each picture in each epoch
    picture, *_, another = sorted((tmp_path / "photos").iterdir())
    whole, new = picture.read_bytes(), tmp_path / "photos" / f"0{another.name}"
    after_an_epoch += [lambda: new.write_bytes(another.read_bytes())]
    assert "epoch 2/2" in done(*words)  # with what it began with
    assert "other images than --data holds now" in refused(*words, "--resume")
    new.unlink()
    picture.write_bytes(another.read_bytes())  # of another size
    assert "other images than --data holds now" in refused(*words, "--resume")
    picture.write_bytes(whole)
    done(*words, "--resume")
    shutil.rmtree(tmp_path / "run")
    after_an_epoch[0] = lambda: picture.write_bytes(whole[:200])
    assert refused(*words) == f"{picture} is truncated or damaged: replace or remove it"
    picture.write_bytes(whole)
    assert "epoch 2/2" in done(*words, "--resume")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """By its permissions, which stop root too while it lacks the right to pass them over."""
    paths = [(path, path.stat().st_mode) for path in (folder, *folder.rglob("*"))]
    rights = (ctypes.c_uint32 * 6)()  # the first: those in effect of number 0 to 31
    if sys.platform == "linux":
        C.capget(VERSION, rights)
        C.capset(VERSION, (ctypes.c_uint32 * 6)(rights[0] & ~CAP_DAC_OVERRIDE, *rights[1:]))
    for path, mode in paths:
        path.chmod(mode & 0o555)
    try:
        yield
    finally:
        for path, mode in paths:
            path.chmod(mode)
        if sys.platform == "linux":
            C.capset(VERSION, rights)


def test_a_folder_that_becomes_read_only_keeps_its_epochs(tmp_path: Path) -> None:
    crops, run, before = people(tmp_path / "people")[0], tmp_path / "run", {}
    with ExitStack() as stack:

        def lock(training: Run, method: object) -> dict[str, object]:
            if training.epoch == 2:
                before.update(contents(run))
                stack.enter_context(read_only(run))
            return {}

        with pytest.raises(
            ReseenError, match=r"^cannot write [^\n]*last good [^\n]* untouched, [^\n]*--resume$"
        ):
            quiet_fit(run, crops, "train.epochs=3", watch=lock)
        assert contents(run) == before
        with pytest.raises(
            ReseenError, match=r"cannot be locked .*: choose a --run folder that can be written to"
        ):
            quiet_fit(run, crops, "train.epochs=3", resume=True)
        assert contents(run) == before
    assert quiet_fit(run, crops, "train.epochs=3", resume=True).epoch == 3


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
