"""Features for FiftyOne: the two files of its JSON layout, and what they say. FiftyOne itself is not installed here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reseen
from command_runs import done
from reseen.errors import ReseenError
from reseen.footage import Rows
from reseen.footage.fiftyone import write_fiftyone
from test_cli import refused


def test_crops_are_samples_with_the_features_of_the_run(finished: Path, world: Path, tmp_path: Path) -> None:
    features, out = tmp_path / "features", tmp_path / "out"
    done("embed", finished, world / "query", "--out", features)
    words = ("export", finished, "--format", "fiftyone", "--out", out)
    assert "--features FEATURES" in refused(*words)
    given = (*words, "--features", features, "--images")
    assert "give the folder that was embedded" in refused(*given, tmp_path)
    assert "leave them out" in refused("export", finished, "--format", "hub", "--features", features)
    assert not out.exists()
    said = done(*given, world / "query")
    assert f"fiftyone.Dataset.from_dir({str(out)!r}, fiftyone.types.FiftyOneDataset)" in said
    metadata = json.loads((out / "metadata.json").read_text())
    assert "version" not in metadata  # by which FiftyOne tells this layout from that of its exports
    embedder = reseen.Embedder.load(finished)
    assert metadata["info"]["fingerprint"] == embedder.fingerprint
    samples = json.loads((out / "samples.json").read_text())["samples"]
    paths = sorted((world / "query").iterdir())
    assert sorted(sample["filepath"] for sample in samples) == [str(path) for path in paths]
    found = {sample["filepath"]: sample["embedding"] for sample in samples}
    np.testing.assert_allclose([found[str(path)] for path in paths], embedder(paths), atol=1e-6)
    assert all("persons" not in sample for sample in samples)
    about = (features / "features.json").read_text()
    (features / "features.json").write_text(about.replace(embedder.fingerprint, "0" * 40))
    assert "another model" in refused(*given[:5], tmp_path / "other", *given[6:], world / "query")


def test_scenes_are_samples_with_detections_and_the_rest_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (80, 40)).save(tmp_path / "a.png")
    Image.new("RGB", (10, 20)).save(tmp_path / "b.png")
    sources = ("b.png", "a.png", "a.png", "walk.mp4", "gone.png", "\udcff.png")
    rows = Rows(
        features=np.eye(6, 4, dtype=np.float32),
        sources=sources,
        frames=np.array([-1, -1, -1, 7, -1, -1]),
        seconds=np.full(6, np.nan),
        times=np.array([np.nan, 1.0, 1.0, 1.0, 1.0, 1.0]),
        cameras=np.array([-1, 3, 3, 3, 3, 3]),
        boxes=np.array([[0, 0, 10, 20], *[[20, 10, 60, 30]] * 5], np.float32),
        scores=np.linspace(1, 0.5, 6, dtype=np.float32),
        tracks=np.full(6, -1),
        thumbnails=(b"",) * 6,
    )
    said = write_fiftyone(rows, tmp_path, tmp_path / "out", {})
    assert "2 samples, 3 persons with 4 numbers" in said[0]
    assert said[-1].startswith("left out: 3 persons, in videos")
    assert "gone.png" in said[-1]
    b, a = json.loads((tmp_path / "out" / "samples.json").read_text())["samples"]
    assert {"camera", "time", "embedding"}.isdisjoint(b)
    assert (a["camera"], a["time"]) == (3, "1970-01-01T00:00:01+00:00")
    assert a["persons"]["_cls"] == "Detections"
    assert [one["_cls"] for one in a["persons"]["detections"]] == ["Detection"] * 2
    first = a["persons"]["detections"][0]
    assert (first["label"], first["bounding_box"]) == ("person", [0.25, 0.25, 0.5, 0.5])
    assert (first["confidence"], first["embedding"]) == (pytest.approx(0.9), [0, 1, 0, 0])
    assert b["persons"]["detections"][0]["bounding_box"] == [0, 0, 1, 1]
    with pytest.raises(ReseenError, match="is there already"):
        write_fiftyone(rows, tmp_path, tmp_path / "out", {})
