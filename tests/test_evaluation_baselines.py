"""Features that nobody trained: what each of them sees and what it must not see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reseen.errors import ReseenError
from reseen.evaluation import BASELINES, evaluate_features
from reseen.evaluation.baselines import chance, colour_histogram, row_means, striped_histogram, thumbnail
from reseen.records import Crop, LabelledCrops

RED, BLUE, GREY = (200, 30, 30), (30, 30, 200), (120, 120, 120)


def save(path: Path, pixels: Any) -> Crop:
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)
    return Crop(path)


def dressed(shirt: Any, trousers: Any, height: int = 64, width: int = 32) -> Any:
    pixels = np.zeros((height, width, 3))
    pixels[: height // 2], pixels[height // 2 :] = shirt, trousers
    return pixels


@pytest.fixture
def people(tmp_path: Path) -> list[Crop]:
    """Red over blue, blue over red, and red over blue again at another size."""
    return [
        save(tmp_path / "a.png", dressed(RED, BLUE)),
        save(tmp_path / "b.png", dressed(BLUE, RED)),
        save(tmp_path / "c.png", dressed(RED, BLUE, 150, 70)),
    ]


@pytest.mark.parametrize("name", BASELINES)
def test_rows_are_unit_float32_and_repeatable(name: str, people: list[Crop]) -> None:
    features = BASELINES[name](people)
    assert features.dtype == np.float32
    assert features.shape[0] == 3
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(BASELINES[name](people[::-1]), features[::-1])
    assert len(BASELINES[name]([])) == 0


def test_only_the_global_histogram_takes_trousers_for_a_shirt(people: list[Crop]) -> None:
    similar = {name: (lambda f: f @ f.T)(feature(people)) for name, feature in BASELINES.items()}
    for name in ("colour_histogram", "striped_histogram", "thumbnail", "row_means"):
        assert similar[name][0, 2] == pytest.approx(1, abs=1e-3), name
    assert similar["colour_histogram"][0, 1] == pytest.approx(1, abs=1e-3)
    for name in ("striped_histogram", "thumbnail", "row_means"):
        assert similar[name][0, 1] < 0.5, name


@pytest.mark.parametrize("feature", [thumbnail, row_means])
def test_normalised_features_forget_brightness_and_contrast(feature: Any, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (64, 32, 3))
    bright, dark = save(tmp_path / "a.png", pixels), save(tmp_path / "b.png", 20 + 0.5 * pixels)
    a, b = feature([bright, dark])
    assert a @ b > 0.999


def test_histograms_count_shares_of_pixels(tmp_path: Path) -> None:
    half, whole = save(tmp_path / "a.png", dressed(RED, BLUE)), save(tmp_path / "b.png", dressed(RED, RED))
    a, b = colour_histogram([half, whole])
    assert a @ b == pytest.approx(np.sqrt(0.5), abs=1e-3)  # Bhattacharyya of (1/2, 1/2) and (1, 0)
    a, b = striped_histogram([half, whole])
    assert a @ b == pytest.approx(0.5, abs=1e-3)  # the upper bands agree, the lower ones do not


def test_an_image_of_one_colour_has_no_direction(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.png", dressed(GREY, GREY))
    assert not thumbnail([plain]).any()
    assert np.isfinite(row_means([plain])).all()


def test_chance_is_drawn_per_image_from_the_seed() -> None:
    crops = [Crop(Path(f"/somewhere/{i}.jpg")) for i in range(300)]
    features = chance(crops)
    np.testing.assert_array_equal(chance([Crop(Path("/elsewhere/7.jpg"))]), features[7:8])
    assert np.abs(chance(crops, seed=1) - features).max() > 0.1
    assert np.abs(features @ features.T - np.eye(300)).max() < 0.7


def test_chance_scores_what_a_blind_guess_scores() -> None:
    """One correct image among n: the mean of 1 / rank, H(n) / n."""
    query = LabelledCrops(tuple(Crop(Path(f"q{i}"), 1) for i in range(400)), np.full(400, 1))
    gallery = LabelledCrops(tuple(Crop(Path(f"g{i}"), 2) for i in range(20)), np.r_[1, np.zeros(19, int)])
    values = [
        evaluate_features(chance(query.crops, seed=s), chance(gallery.crops, seed=s), query, gallery).mean_ap
        for s in range(20)
    ]
    assert np.mean(values) == pytest.approx(sum(1 / r for r in range(1, 21)) / 20, abs=0.05)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"")
    with pytest.raises(ReseenError, match=r"broken\.jpg"):
        thumbnail([Crop(tmp_path / "broken.jpg")])
