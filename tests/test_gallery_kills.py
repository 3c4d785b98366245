"""Writers that are killed, disks that fill up, bytes that change: nothing that was acknowledged is lost or torn."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest

from command_runs import done
from galleries import MODEL, filled, some_features
from processes import start
from reseen.errors import ReseenError
from reseen.gallery import Gallery
from reseen.gallery import store as stores
from reseen.gallery.files import locked
from reseen.gallery.rows import HELD

ROUNDS = int(os.environ.get("RESEEN_KILL_ROUNDS", "2"))


def test_rows_that_were_acknowledged_survive_a_kill(tmp_path: Path) -> None:
    place, noted = tmp_path / "gallery", tmp_path / "gallery.acknowledged"
    running = start(Path(__file__).with_name("gallery_job.py").read_text(), "add", *[place] * ROUNDS)

    def line(number: int) -> str:
        while running.said.count("\n") <= number and running.running:
            time.sleep(0.005)
        return running.said.splitlines()[number]

    for number in range(ROUNDS):
        child, before = int(line(2 * number)), noted.stat().st_size if noted.exists() else 0
        while not noted.exists() or noted.stat().st_size < before + 30:
            time.sleep(0.002 + number % 7 / 1000)
        os.kill(child, signal.SIGKILL)
        assert line(2 * number + 1) == "killed"
    gallery = Gallery.open(place)
    assert gallery.held.column("row").tolist() == list(range(len(gallery)))
    assert len(gallery) % 7 == 0  # a batch is there or is not
    for first in range(0, len(gallery), 7):
        kept = gallery.held.vectors(np.arange(first, first + 7))
        assert (kept == some_features(7, seed=first).astype(np.float16)).all()
    acknowledged = [list(map(int, line.split())) for line in noted.read_text().splitlines()]
    assert len(acknowledged) >= 2 * ROUNDS
    assert all(last < len(gallery) and first == number for number, first, last in acknowledged)
    gallery.forget([0])  # what killed writers left goes with it
    files = {name.rpartition("/")[2] for name in gallery._store.files.names() if "/data/" in name}
    used = {file.path for part in gallery._store.latest().get_fragments() for file in part.data_files()}
    assert files == used


def test_indexing_that_stops_goes_on_and_ends_with_the_same_rows(
    world: Path, trained: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reseen.footage.sources.CROPS", 8)  # images of one addition
    words = ("index", trained[0], world / "bounding_box_train", "--gallery")
    done(*words, tmp_path / "whole")
    add, left = Gallery.add, [2]

    def stop(*given: object, **more: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise MemoryError
        return add(*given, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Gallery, "add", stop)
        with pytest.raises(MemoryError):
            done(*words, tmp_path / "stopped")
    assert len(Gallery.open(tmp_path / "stopped")) == 16
    assert "16 persons in 16 images" in done(*words, tmp_path / "stopped", "--resume")
    one, other = (Gallery.open(tmp_path / name).held for name in ("whole", "stopped"))
    for name in HELD:
        assert str(one.table[name].to_pylist()) == str(other.table[name].to_pylist())
    assert (np.concatenate(one.blocks) == np.concatenate(other.blocks)).all()


def test_a_disk_that_fills_up_while_adding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, features = filled(tmp_path / "gallery", 6)

    def full(*given: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(gallery._store._table), "add", full)
        with pytest.raises(ReseenError, match=r"^[^\n]*No space left[^\n]*free space and try again$"):
            gallery.add(features, sources=["later"] * 6)
    assert len(Gallery.open(tmp_path / "gallery")) == 6
    assert gallery.add(features[:1], sources=["later"]).tolist() == [6]


def test_another_writer_is_waited_for_and_then_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, features = filled(tmp_path / "gallery", 6)
    monkeypatch.setattr("reseen.gallery.files.WAIT", 0.05)
    with locked(gallery.place), pytest.raises(ReseenError, match="another process is writing to"):
        Gallery.open(tmp_path / "gallery").add(features, sources=["a"] * 6)


# --- what disks and people do to files ---


def data_file(place: Path) -> Path:
    return next(place.glob("*.lance/data/*.lance"))


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    _, features = filled(tmp_path / "gallery")
    file = data_file(tmp_path / "gallery")
    whole = file.read_bytes()
    for piece in (features[17].astype(np.float16).tobytes(), b"site 0/0017.jpg"):
        place = whole.index(piece) + 5
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ReseenError, match=r"^[^\n]*row 17 was changed on disk; index again[^\n]*$"):
            Gallery.open(tmp_path / "gallery")


@pytest.mark.parametrize("what", ["data", "_versions"])
@pytest.mark.parametrize("left", [0.0, 0.5, None])
def test_files_that_are_torn_or_missing_are_one_line(what: str, left: float | None, tmp_path: Path) -> None:
    filled(tmp_path / "gallery")
    for file in (tmp_path / "gallery").glob(f"*.lance/{what}/*"):
        whole = file.read_bytes()
        file.unlink()
        if left is not None:
            file.write_bytes(whole[: int(left * len(whole))])
    with pytest.raises(ReseenError, match=r"^[^\n]*gallery[^\n]+$"):
        Gallery.open(tmp_path / "gallery")


def test_a_gallery_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stores, "FORMAT", "9")
        filled(tmp_path / "gallery")
    with pytest.raises(ReseenError, match=r"is of version 9, and this reseen reads version 1: index again"):
        Gallery.open(tmp_path / "gallery", MODEL)
    lance.write_dataset(pa.table({"vector": [1, 2]}), tmp_path / "other" / "mine.lance")
    with pytest.raises(ReseenError, match="is no gallery of reseen"):
        Gallery.open(tmp_path / "other", MODEL)
