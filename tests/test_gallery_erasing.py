"""Erasing: the bytes are gone from every file, whatever happened before or meanwhile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lance.dataset import DatasetOptimizer
from numpy.typing import NDArray

import processes
from galleries import MODEL, bucket, filled, some_features
from gallery_job import POINTS
from reseen.errors import ReseenError
from reseen.gallery import Gallery
from reseen.gallery.bytes import Needles, windows
from reseen.gallery.files import Files

Traces = dict[str, bytes]


def traces(features: NDArray[np.float32], rows: Sequence[int], seed: int = 0) -> Traces:
    """What `filled` wrote for each row: vector, thumbnail, name."""
    found = {}
    for row in rows:
        found[f"vector {row}"] = features[row].astype(np.float16).tobytes()
        found[f"thumbnail {row}"] = np.random.default_rng(row).bytes(200)
        found[f"name {row}"] = f"site {seed}/{row:04d}.jpg".encode()
    return found


def on_disk(place: str | Path, wanted: Traces) -> dict[str, str]:
    """In which file each of them stands, by reading every byte."""
    files = Files(str(place))
    where = {}
    for name in files.names():
        content = files.read(name)
        where |= {trace: name for trace, piece in wanted.items() if piece in content}
    return where


def erased(place: str | Path, rows: Sequence[int], features: NDArray[np.float32]) -> Gallery:
    """Erase and look everywhere: before, all of it is there; afterwards nothing is, and the others are as they were."""
    wanted, others = traces(features, rows), [row for row in range(len(features)) if row not in rows]
    assert on_disk(place, wanted).keys() == wanted.keys()
    gallery = Gallery.open(place, MODEL)
    receipt = gallery.forget(rows, why="row")
    assert receipt is not None
    assert (receipt.rows, receipt.shared) == (len(rows), 0)
    assert receipt.needles >= 6 * len(rows)
    assert on_disk(place, wanted) == {}
    stays = traces(features, others)
    assert on_disk(place, stays).keys() == stays.keys()
    again = Gallery.open(place, MODEL)
    for one in (gallery, again):
        assert one.held.column("row").tolist() == others
        assert rows[0] not in [hit.row for hit in one.search(features[rows[0]], 5)]
    line = json.loads(Files(str(place)).read("audit.jsonl").splitlines()[-1])
    assert (line["rows"], line["why"]) == (len(rows), "row")
    assert "site" not in str(line)
    return again


# --- what is looked for ---


def test_windows_stand_near_the_beginning_the_middle_and_the_end() -> None:
    content = bytes(range(256)) * 2
    assert windows(content) == [content[start : start + 16] for start in (62, 248, 434)]
    assert windows(content[:16]) == [content[:16]]
    assert windows(content[:15]) == []


def test_windows_pass_over_what_is_uniform() -> None:
    six, five = bytes([0] * 11 + [1, 2, 3, 4, 5]), bytes([0] * 12 + [1, 2, 3, 4])
    assert (windows(six), windows(five), windows(bytes(512))) == ([six], [], [])
    for letters, start in (
        (63, 62),
        (101, 94),
        (102, 94),
        (126, 118),
        (134, None),
    ):  # by 8, and not further than 4 windows
        content = bytes(letters) + bytes(range(1, 9)) + bytes(504 - letters)
        assert windows(content) == ([content[start : start + 16]] if start else [])


@given(
    st.binary(max_size=80), st.lists(st.binary(min_size=8, max_size=24), max_size=4), st.data(), st.booleans()
)
def test_needles_are_found_wherever_they_stand(
    content: bytes, needles: list[bytes], data: st.DataObject, folder: bool
) -> None:
    needles = [needle[:3] + b"/" + needle[3:] if folder else needle for needle in needles]
    content = content[:40] + b"".join(needles[:2]) + content[40:]
    cut = data.draw(st.integers(0, len(content)))
    pieces = [content[:cut], content[max(0, cut - 24) :]]
    assert Needles(needles).within(pieces) == {needle for needle in needles if needle in content}
    for window in windows(content):
        assert Needles([window]).within([content]) == {window}


def test_a_needle_that_a_piece_ends_in_is_not_in_it_whatever_lies_behind() -> None:
    needle, content = bytes(range(24)), memoryview(bytes(range(24)) * 2)
    for piece, found in ((content, {needle}), (content[:23], set()), (content[1:24], set())):
        assert Needles([needle]).within([piece]) == found


# --- from every file ---


def test_one_row_of_a_large_fragment(tmp_path: Path) -> None:
    _, features = filled(tmp_path / "gallery", 3000)
    gallery = erased(tmp_path / "gallery", [1777], features)
    assert gallery.add(features[:1], sources=["new"]).tolist() == [3000]


def test_rows_of_many_small_fragments_and_the_last_row(tmp_path: Path) -> None:
    features = some_features(40)
    gallery = Gallery.open(tmp_path / "gallery", MODEL)
    for row in range(40):
        picture = np.random.default_rng(row).bytes(200)
        gallery.add(features[row : row + 1], sources=[f"site 0/{row:04d}.jpg"], thumbnails=[picture])
    gallery = erased(tmp_path / "gallery", [0, 7, 8, 39], features)
    assert gallery.add(features[:1], sources=["new"]).tolist() == [40]  # 39 is not given again


def test_only_the_file_that_holds_the_row_is_written_anew(tmp_path: Path) -> None:
    gallery, features = filled(tmp_path / "gallery", 30)
    for _ in range(2):
        gallery.add(features, sources=["later"] * 30)
    before = set(tmp_path.glob("gallery/*.lance/data/*"))
    gallery.forget([40])
    after = set(tmp_path.glob("gallery/*.lance/data/*"))
    assert (len(before - after), len(after - before)) == (1, 1)


def test_on_object_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    with bucket(monkeypatch) as address:
        _, features = filled(f"{address}/g", 50)
        erased(f"{address}/g", [3, 44], features)


def test_a_reader_goes_on_answering_and_forgets(tmp_path: Path) -> None:
    gallery, features = filled(tmp_path / "gallery")
    reader = Gallery.open(tmp_path / "gallery", MODEL)
    gallery.forget([5])
    assert reader.search(features[5], 1)[0].row == 5  # for a second at most
    reader.refresh()
    assert reader.search(features[5], 1)[0].row != 5
    assert reader.thumbnails([5]) == {}
    assert len(reader.thumbnails([6, 7])) == 2


# --- who is erased ---


def test_rows_are_named_in_many_ways(tmp_path: Path) -> None:
    features = some_features(30)
    gallery = Gallery.open(tmp_path / "gallery", MODEL)
    sources = [f"videos/{row // 10}.mp4" for row in range(30)]
    gallery.add(
        features,
        sources=sources,
        tracks=np.arange(30) // 5 % 2,
        expiries=[1.0] * 4 + [np.nan] * 10 + [9e9] * 16,
    )
    kept = features.astype(np.float16).astype(np.float64)
    alike = np.flatnonzero((kept @ features[12]).astype(np.float32) >= 0.5).tolist()
    assert 1 < len(alike) < 30
    for named, rows in (
        ({"rows": [7, 3]}, [3, 7]),
        ({"sources": "videos/1.mp4"}, list(range(10, 20))),
        ({"sources": "videos"}, list(range(30))),
        ({"sources": "1.mp4"}, []),
        ({"tracks": [("videos/2.mp4", 1)]}, list(range(25, 30))),
        ({"expired": True}, [0, 1, 2, 3]),
        ({"like": features[12], "above_similarity": 0.5}, alike),
        ({"rows": [1], "tracks": [("videos/0.mp4", 1)]}, [1, 5, 6, 7, 8, 9]),
    ):
        assert gallery.matching(**named).tolist() == rows, named
    assert gallery.forget(sources="nobody.mp4") is None
    with pytest.raises(ReseenError, match="has no row 99"):
        gallery.forget([2, 99])
    with pytest.raises(ReseenError, match="the image, and the probability"):
        gallery.forget(like=features[0])
    assert len(Gallery.open(tmp_path / "gallery")) == 30


def test_copies_that_stay_are_no_leftovers(tmp_path: Path) -> None:
    gallery, features = filled(tmp_path / "gallery", 12)
    picture = np.random.default_rng(4).bytes(200)
    gallery.add(features[4:5], sources=["monday/site 0/0004.jpg"], thumbnails=[picture])
    receipt = gallery.forget([4])
    assert receipt is not None
    assert receipt.shared == receipt.needles >= 7  # all of it, and the name inside of another
    assert gallery.search(features[4], 1)[0].row == 12


def test_bytes_that_are_left_anywhere_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reseen.gallery.files.CHUNK", 11)  # a needle stands across the edges of what is read
    gallery, features = filled(tmp_path / "gallery", 12)
    (tmp_path / "gallery" / "backup.bin").write_bytes(
        b"x" * 99 + features[4].astype(np.float16).tobytes() + b"y"
    )
    with pytest.raises(ReseenError, match=r"bytes of erased rows are still in [^\n]*backup.bin"):
        gallery.forget([4])
    assert gallery.unfinished == 1
    (tmp_path / "gallery" / "backup.bin").unlink()
    assert gallery.forget() is not None
    assert gallery.unfinished == 0


# --- killed in the middle ---


def test_an_eraser_that_is_killed_is_finished_by_the_next_one(tmp_path: Path) -> None:
    folders = [tmp_path / point for point in POINTS]
    for folder in folders:
        gallery, features = filled(folder)
    _, said = processes.start(
        Path(__file__).with_name("gallery_job.py").read_text(), "erase", *folders
    ).wait()
    assert said.split()[1::2] == ["killed"] * len(POINTS), said
    for folder in folders:
        after = Gallery.open(folder, MODEL)
        assert after.unfinished == 2
        after.add(some_features(1, seed=9), sources=["an addition finishes it"])
        assert on_disk(folder, traces(features, [5, 20])) == {}
        proven = json.loads(Files(str(folder)).read("audit.jsonl").splitlines()[-1])
        assert proven["needles"] >= 12  # also of rows that were deleted before the kill
        again = Gallery.open(folder, MODEL)
        assert again.unfinished == 0
        assert again.held.column("row").tolist() == [row for row in range(61) if row not in (5, 20)]
    gallery.refresh()  # one that was open all the time
    assert gallery.search(features[6], 1)[0].row == 6


def full_disk(*given: object, **more: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_disk_that_fills_up_while_erasing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, features = filled(tmp_path / "gallery")
    with monkeypatch.context() as patch:
        patch.setattr(DatasetOptimizer, "compact_files", full_disk)
        with pytest.raises(ReseenError, match=r"No space left.*free space and try again"):
            gallery.forget([5])
    gallery.refresh()
    assert gallery.search(features[5], 1)[0].row != 5
    assert (gallery.unfinished, len(on_disk(tmp_path / "gallery", traces(features, [5])))) == (1, 3)
    gallery.forget()
    assert on_disk(tmp_path / "gallery", traces(features, [5])) == {}


@pytest.mark.parametrize("more", [0, 1, 2])
def test_rows_stay_in_order_when_an_early_file_is_rewritten(tmp_path: Path, more: int) -> None:
    """Lance puts the file that an erasure rewrote last."""
    gallery, features = filled(tmp_path / "gallery", 40)
    gallery.add(some_features(30, seed=1), sources=[f"later/{row}" for row in range(30)])
    gallery.forget([7, 8])
    for number in range(more):  # an addition after it, and another erasure
        gallery.add(some_features(6, seed=2 + number), sources=[f"last/{number}/{row}" for row in range(6)])
        gallery.forget([10 + number, 45 + number])
    gone = {7, 8, *(10 + number for number in range(more)), *(45 + number for number in range(more))}
    again = Gallery.open(tmp_path / "gallery", MODEL)
    for one in (gallery, again):
        assert one.held.column("row").tolist() == [row for row in range(70 + 6 * more) if row not in gone]
        assert [one.search(features[row], 1)[0].row for row in (0, 6, 9, 39)] == [0, 6, 9, 39]
        assert one.search(some_features(30, seed=1)[3], 1)[0].row == 43
    assert set(again.thumbnails([0, 39])) == {0, 39}
    copy = tmp_path / "copy"
    again.copy_to(str(copy))
    assert Gallery.open(copy, MODEL).held.column("row").tolist() == again.held.column("row").tolist()
