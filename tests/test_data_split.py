"""A validation split by identity: nobody is on both sides, and the manifest reads back as it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reseen.cli import main
from reseen.data import open_data
from reseen.data.split import validation_split
from reseen.errors import ReseenError
from reseen.records import Crop, ReidData
from worlds import people


@given(
    rows=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3)), min_size=2, max_size=40),
    held_out=st.integers(1, 8),
)
def test_identities_are_held_out_and_each_camera_gives_one_query(rows: list[tuple[int, int]], held_out: int):
    crops = tuple(Crop(Path(f"{number}.jpg"), camera) for number, (_, camera) in enumerate(rows))
    labels = np.array([identity for identity, _ in rows])
    data = ReidData("some", Path(), crops, labels)
    there = sorted(set(labels.tolist()))
    if held_out >= len(there):
        with pytest.raises(ReseenError, match="training identities: hold out"):
            validation_split(data, held_out)
        return
    parts = validation_split(data, held_out)
    tested = there[-held_out:]
    assert parts.query is not None
    assert parts.gallery is not None
    assert set(parts.train_identities.tolist()) == set(there) - set(tested)
    expected, seen = ([], []), set()
    for crop, identity in zip(crops, labels.tolist(), strict=True):
        if identity in tested:
            expected[(identity, crop.camera) in seen].append((crop, identity))
            seen.add((identity, crop.camera))
    for part, wanted in zip((parts.query, parts.gallery), expected, strict=True):
        assert list(zip(part.crops, part.identities.tolist(), strict=True)) == wanted


def test_the_command_writes_a_manifest_that_reads_back(tmp_path, capsys):
    crops, labels = people(tmp_path / "market" / "bounding_box_train", identities=6)
    out = tmp_path / "split.csv"
    assert (
        main(["split", str(tmp_path / "market"), "--out", str(out), "--held-out", "2", "--identities", "3"])
        == 0
    )
    assert "12 training images, 4 queries and 4 gallery images of 2 identities" in capsys.readouterr().out
    data = open_data(out)
    assert [crop.path for crop in data.train] == [crop.path.resolve() for crop in crops[:12]]
    assert len(set(data.train_identities.tolist())) == 3
    assert {crop.camera for crop in data.query.crops} == {1, 2}
    assert set(data.query.identities.tolist()) == set(data.gallery.identities.tolist())
    assert len(labels) == 24


def test_images_without_identities_are_refused_in_one_line(tmp_path, capsys):
    people(tmp_path / "photos", identities=2)
    for file in (tmp_path / "photos").iterdir():
        file.rename(file.with_name(f"image{file.name.replace('_', '')}"))
    assert main(["split", str(tmp_path / "photos"), "--out", str(tmp_path / "split.csv")]) == 2
    assert "has no identities" in capsys.readouterr().err
    assert not (tmp_path / "split.csv").exists()
