"""The t-SNE figure: what is looked at, what the shares say, and what stands in the enlarged windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reseen.errors import ReseenError
from reseen.reports.canvas import GREEN, INK, VERMILLION
from reseen.reports.tsne import looked_at, same_person_share, tsne
from worlds import eight_people


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return eight_people(tmp_path_factory.mktemp("crops"))


@pytest.fixture(scope="module")
def space() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(8), 3)
    return (rng.normal(size=(8, 16))[people] + 0.8 * rng.normal(size=(24, 16))).astype(np.float32), people


def points(figure: Figure) -> np.ndarray:
    return np.concatenate([c.get_offsets() for c in figure.axes[0].collections])


def test_tsne_is_the_same_every_time_and_tells_identities_apart(space: tuple[np.ndarray, np.ndarray]) -> None:
    features, people = space
    one, two = (tsne({"model": torch.from_numpy(features)}, people) for _ in range(2))
    np.testing.assert_array_equal(points(one), points(two))
    looks = {(tuple(c.get_facecolor()[0]), str(c.get_paths()[0].vertices)) for c in one.axes[0].collections}
    assert len(looks) == 8
    assert points(one).shape == (24, 2)


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.float32, (9, 3), elements=st.sampled_from([-1.0, 0.0, 1.0])),  # ties and zeros
    hnp.arrays(np.int64, 9, elements=st.integers(-1, 3)),
    st.integers(1, 12),
)
def test_shares_of_the_same_person_by_slow_loops(rows, people, nearest):
    shares = same_person_share(rows, people, nearest)
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    for i in range(9):
        others = int((people == people[i]).sum()) - 1
        if people[i] < 0 or not others:
            assert np.isnan(shares[i])
            continue
        ranked = sorted((j for j in range(9) if j != i), key=lambda j, i=i: (-(unit @ unit.T)[i, j], j))
        asked = min(nearest, others, 8)
        assert shares[i] == pytest.approx(sum(people[j] == people[i] for j in ranked[:asked]) / asked)


def test_the_person_on_whom_models_differ_most_is_looked_at_whichever_is_better():
    people = np.repeat([-1, 3, 5, 7, 9], [6, 4, 4, 4, 2])  # nobody, three persons, one of two images
    one, two = (
        np.repeat(values, [6, 4, 4, 4, 2]) for values in ([0, 0.5, 0.9, 0.2, 1], [1, 0.6, 0.3, 0.3, 0])
    )
    assert looked_at([one, two], people) == 5
    assert looked_at([two, one], people) == 5
    assert looked_at([one], people) == 7  # of one model, the hardest
    assert looked_at([one, two], np.where(people == 9, 9, -1)) == 9  # few images are better than none


def test_a_window_is_enlarged_below_each_map(space: tuple[np.ndarray, np.ndarray], crops: list[Path]) -> None:
    features, people = space
    models = {"before": np.roll(features, 5, axis=0), "after": features}
    figure = tsne(models, people, paths=crops, nearest=2)
    axes = figure.axes[0]
    shares = [same_person_share(rows, people, 2) for rows in models.values()]
    own = people == looked_at(shares, people)
    told = [text.get_text() for text in axes.texts]
    assert {"before", "after"} <= set(told)
    for share in shares:
        assert any(text.endswith(f"the window has some of them): {share[own].mean():.0%}") for text in told)
        assert f"of the nearest, {np.nanmean(share):.0%} the same person" in told
    framed = [p for p in axes.patches if isinstance(p, Rectangle) and not p.get_fill()]
    colours = [to_hex(p.get_edgecolor()).upper() for p in framed]
    assert colours.count(INK.upper()) == 2  # a window in each map
    assert len(axes.images) == colours.count(GREEN) + colours.count(VERMILLION)
    marks = [line.get_marker() for line in axes.lines]  # those without room for an image
    assert colours.count(GREEN) + marks.count("o") == 2 * own.sum()  # all 24 points are in the window
    assert colours.count(VERMILLION) + marks.count("x") == 2 * (~own).sum()


def test_nobody_known_is_nobody_enlarged(space: tuple[np.ndarray, np.ndarray], crops: list[Path]) -> None:
    features, people = space
    assert not tsne({"model": features}, np.full_like(people, -1), paths=crops).axes[0].images


def test_a_map_fills_its_place(space: tuple[np.ndarray, np.ndarray]) -> None:
    low, high = (f(points(tsne({"model": space[0]}, space[1])), axis=0) for f in (np.min, np.max))
    np.testing.assert_allclose(high - low, 4.6)


def test_tsne_stands_collapse_and_unknown_people(space: tuple[np.ndarray, np.ndarray]) -> None:
    features, people = space
    unknown = np.where(people < 3, -1, people)
    figure = tsne({"collapsed": np.ones_like(features), "one column": features[:, :1]}, unknown)
    assert np.isfinite(points(figure)).all()
    assert len(figure.axes[0].collections) == 2 * 6


def test_tsne_refuses_what_it_cannot_show(space: tuple[np.ndarray, np.ndarray], crops: list[Path]) -> None:
    features, people = space
    broken = features.copy()
    broken[2, 3] = np.nan
    for models, ids, paths, word in (
        ({}, people, None, "at least one model"),
        ({"m": features[:4]}, people[:4], None, "five images"),
        ({"m": features[:9]}, people, None, "features"),
        ({"m": broken}, people, None, "finite"),
        ({"m": features}, people, crops[:3], "path"),
    ):
        with pytest.raises(ReseenError, match=word):
            tsne(models, ids, paths=paths)


def test_sixty_identities_look_different() -> None:
    people = np.repeat(np.arange(60), 2)
    features = np.random.default_rng(0).normal(size=(120, 8)).astype(np.float32)
    shown = tsne({"model": features}, people).axes[0].collections
    assert len({(tuple(c.get_facecolor()[0]), str(c.get_paths()[0].vertices)) for c in shown}) == 60
