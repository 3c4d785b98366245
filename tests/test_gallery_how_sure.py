"""How sure a gallery is of its hits: by its model's calibration and its own prior, or it says why it is not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from galleries import MODEL, calibration, filled, some_features
from reseen.errors import ReseenError
from reseen.gallery import Gallery
from reseen.gallery.rows import Hit, unit
from reseen.gallery.store import Store
from reseen.metrics.calibration import fitted_prior


def sure(place: Path, count: int = 60, **details: Any) -> tuple[Gallery, np.ndarray]:
    gallery, features = filled(place, count, **details)
    gallery.keep_calibration(calibration())
    return gallery, features


def digits(hit: Hit) -> list[float]:
    return [hit.probability, hit.probability_low, hit.probability_high]


def expected(features: np.ndarray, groups: np.ndarray, similarity: float) -> list[float]:
    """Over every pair of rows in different groups."""
    rows = unit(features).astype(np.float16).astype(np.float32)
    pairs = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if groups[i] != groups[j]]
    ratios = [calibration().log_ratio[int((rows[i] @ rows[j] + 1) * 200)] for i, j in pairs]
    return [float(value) for value in calibration().probability(similarity, fitted_prior(ratios))]


def test_a_hit_has_the_probability_of_its_similarity_in_this_gallery(tmp_path: Path) -> None:
    gallery, features = sure(tmp_path / "gallery")
    hits = gallery.search(features[7], 60)
    cameras = np.arange(60) % 3 + 1
    for hit in hits[:9]:
        assert digits(hit) == pytest.approx(expected(features, cameras, hit.similarity), rel=0.02)
    assert hits[0].probability > 0.8 > 0.1 > hits[-1].probability
    # cameras that nobody knows: across sources
    gallery, features = sure(tmp_path / "other", cameras=np.full(60, -1), sources=["a.mp4", "b.mp4"] * 30)
    (hit,) = gallery.search(features[7], 1)
    assert digits(hit) == pytest.approx(expected(features, np.arange(60) % 2, hit.similarity), rel=0.02)


def test_it_stays_with_the_rows(tmp_path: Path) -> None:
    gallery, features = sure(tmp_path / "gallery")
    said = digits(gallery.search(features[7], 1)[0])
    assert digits(Gallery.open(tmp_path / "gallery").search(features[7], 1)[0]) == said
    gallery.copy_to(str(tmp_path / "copy"))
    assert digits(Gallery.open(tmp_path / "copy").search(features[7], 1)[0]) == said
    gallery.forget([3])
    assert Gallery.open(tmp_path / "gallery").search(features[7], 1)[0].probability > 0.8


def test_the_prior_is_that_of_the_rows_that_are_there_now(tmp_path: Path) -> None:
    gallery, features = sure(tmp_path / "gallery")
    before = gallery.search(features[7], 1)[0].probability
    strangers = some_features(600, seed=3)[::3]  # one of each three: nobody is there twice
    gallery.add(strangers, sources=[f"{row}.jpg" for row in range(200)], cameras=np.arange(200) % 3 + 1)
    assert gallery.search(features[7], 1)[0].probability < before


def test_where_there_is_none_it_says_why(tmp_path: Path) -> None:
    older, features = filled(tmp_path / "older")
    assert all(math.isnan(value) for hit in older.search(features[7], 5) for value in digits(hit))
    assert "reseen index RUN PATH --gallery G --resume" in older.why_no_probability
    gallery, features = sure(tmp_path / "gallery")
    assert gallery.why_no_probability == ""
    assert math.isnan(gallery.search(features[7], 1, rerank=True)[0].probability)
    assert math.isnan(gallery.search_many(features[7:8], 1, refined=True)[0][0].probability)
    few, others = sure(tmp_path / "few", 20)
    assert "too few rows" in few.why_no_probability
    assert math.isnan(few.search(others[7], 1)[0].probability)
    Store.all(str(tmp_path / "gallery"))[0].keep_calibration("{}")
    damaged = Gallery.open(tmp_path / "gallery")
    assert "damaged" in damaged.why_no_probability
    assert damaged.search(features[7], 1)[0].row == 7


def test_nothing_is_kept_where_no_row_is(tmp_path: Path) -> None:
    Gallery.open(tmp_path / "gallery", MODEL).keep_calibration(calibration())
    assert len(Gallery.open(tmp_path / "gallery", MODEL)) == 0


def test_who_is_like_somebody_is_said_by_a_probability_or_a_similarity(tmp_path: Path) -> None:
    gallery, features = sure(tmp_path / "gallery")
    hits = gallery.search(features[7], 60)
    probable = sorted(hit.row for hit in hits if hit.probability >= 0.6)
    alike = sorted(hit.row for hit in hits if hit.similarity >= 0.3)
    assert 1 <= len(probable) < len(alike) < 60
    assert gallery.matching(like=features[7], above=0.6).tolist() == probable
    assert gallery.matching(like=features[7], above_similarity=0.3).tolist() == alike
    for wrong, why in (
        ({"like": features[7]}, "two things"),
        ({"above": 0.5}, "two things"),
        ({"like": features[7], "above": 0.5, "above_similarity": 0.5}, "two things"),
        ({"like": features[7], "above": 60}, "60 is no probability"),
    ):
        with pytest.raises(ReseenError, match=why):
            gallery.matching(**wrong)  # type: ignore[arg-type]
    older, features = filled(tmp_path / "older")
    with pytest.raises(ReseenError, match=r"no probability: .* or name a similarity \(--above-similarity\)"):
        older.matching(like=features[7], above=0.5)
