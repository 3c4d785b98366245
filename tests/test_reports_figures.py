"""The figures show what they are given: every line, frame and view is checked against its source."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from reseen import files
from reseen.config import DataConfig
from reseen.errors import ReseenError
from reseen.pages import page
from reseen.reports import canvas, figures
from reseen.reports.curves import curves, series
from reseen.reports.figures import augmentation_panel, ranked_lists
from reseen.training import chosen_epochs
from worlds import eight_people

SMALL = DataConfig(height=32, width=16)


def epoch(number: int, **more: Any) -> dict[str, Any]:
    return {
        "epoch": number,
        "loss": {"instance": -0.1 * number, "intra": 3.0 - number / 10, "total": 2.5 - number / 5},
        "clusters": 10 + number,
        "outliers": 100 - number,
        "cross_camera_share": 0.02 * number,
        "label_free": 0.01 * number,
        **more,
    }


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return eight_people(tmp_path_factory.mktemp("crops"))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def frames(figure: Figure) -> list[Rectangle]:
    return [p for p in figure.axes[0].patches if isinstance(p, Rectangle) and not p.get_fill()]


def panels(figure: Figure) -> dict[str, Any]:
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.axison}


# --- curves ---


def test_series_leaves_out_what_was_not_measured() -> None:
    lines = [{"epoch": 1, "test": {"mean_ap": 0.5}}, {"epoch": 2}, {"epoch": 3, "test": None}]
    lines += [{"epoch": 4, "test": {"mean_ap": math.nan}}, {"epoch": 5, "test": {"mean_ap": None}}]
    lines += [{"epoch": 6, "test": {"mean_ap": 0}}]
    epochs, values = series(lines, "test", "mean_ap")
    assert epochs.tolist() == [1, 6]
    assert values.tolist() == [0.5, 0.0]


def test_curves_draw_every_value_and_no_panel_without_one() -> None:
    metrics = [epoch(n) for n in range(1, 8)]
    shown = panels(curves(metrics))
    assert list(shown) == [
        "Losses",
        "Clusters and outliers",
        "Clusters seen by several cameras",
        "Label-free criterion",
    ]
    lines = {line.get_label(): line for line in shown["Losses"].lines}
    assert list(lines) == ["total", "instance", "intra"]
    for name, line in lines.items():
        assert line.get_xdata().tolist() == list(range(1, 8))
        assert line.get_ydata().tolist() == [m["loss"][name] for m in metrics]
    assert len({(line.get_color(), str(line.get_linestyle())) for line in lines.values()}) == 3
    assert shown["Clusters and outliers"].get_ylim()[0] == 0


def test_chosen_epochs_are_named_on_the_test_curve() -> None:
    scores = {2: 0.3, 4: 0.6, 6: 0.5}
    metrics = [
        epoch(n, **({"test": {"mean_ap": scores[n], "rank1": 0.7}} if n in scores else {}))
        for n in range(1, 7)
    ]
    metrics[3]["label_free"] = 9.0  # of the features that epoch 4 began with: the network after epoch 3
    figure = curves(metrics)
    assert chosen_epochs(metrics) == {"last": 6, "best-on-test": 4, "label-free": 3}
    assert {"last (epoch 6)", "best-on-test (epoch 4)", "label-free (epoch 3)"} <= set(texts(figure))
    diamonds = [line for line in panels(figure)["Test scores"].lines if line.get_marker() == "D"]
    assert {(line.get_xdata()[0], line.get_ydata()[0]) for line in diamonds} == {(6, 0.5), (4, 0.6)}
    together = curves([epoch(1, test={"mean_ap": 0.2})])
    assert "last = best-on-test (epoch 1)" in texts(together)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=1, max_size=8))
def test_chosen_epochs_equal_a_slow_search(rows: list[tuple[int, int, bool]]) -> None:
    metrics: list[dict[str, Any]] = []
    expected: dict[str, int] = {}
    best = free = -1
    for number, (score, criterion, scored) in enumerate(rows, start=1):
        metrics.append(
            {"epoch": number, "label_free": criterion} | ({"test": {"mean_ap": score}} if scored else {})
        )
        expected["last"] = number
        if scored and score >= best:
            best, expected["best-on-test"] = score, number
        if criterion >= free:
            free, expected["label-free"] = criterion, number - 1
    assert chosen_epochs(metrics) == expected


@settings(deadline=None, max_examples=8)
@given(st.data())
def test_curves_stand_any_gap(data: st.DataObject) -> None:
    full = {**epoch(1), "diagnostics": {"ari": -0.1, "nmi": 0.5}, "test": {"mean_ap": 0.0, "rank1": 0.0}}
    metrics = []
    for number in range(1, data.draw(st.integers(1, 4)) + 1):
        gaps = data.draw(st.sets(st.sampled_from(sorted(set(full) - {"epoch", "clusters"}))))
        nulls = data.draw(st.sets(st.sampled_from(sorted(set(full) - {"epoch", "clusters"}))))
        metrics.append(
            {k: None if k in nulls else v for k, v in full.items() if k not in gaps} | {"epoch": number}
        )
    assert curves(metrics).axes


def test_curves_need_an_epoch_and_leave_matplotlib_as_it_was() -> None:
    before = dict(mpl.rcParams)
    curves([epoch(1)])
    assert dict(mpl.rcParams) == before
    for nothing in ([], [{"epoch": 1}]):
        with pytest.raises(ReseenError, match="train for one epoch"):
            curves(nothing)


# --- ranked lists ---


def test_ranked_lists_frame_right_and_wrong(crops: list[Path]) -> None:
    queries = [crops[0], crops[0], crops[3]]  # two models for the first query, one for the second
    galleries = [crops[1:5], crops[5:9], crops[9:11]]
    correct = [[True, False, False, True], [False] * 4, [True, False]]
    figure = ranked_lists(queries, galleries, correct, titles=["before", "after", "after"])
    flat = [flag for row in correct for flag in row]
    assert [t for t in texts(figure) if t in "✓✗"] == ["✓" if flag else "✗" for flag in flat]
    right, wrong = mpl.colors.to_rgba(canvas.GREEN), mpl.colors.to_rgba(canvas.VERMILLION)
    assert [p.get_edgecolor() for p in frames(figure)] == [right if flag else wrong for flag in flat]
    assert [p.get_linestyle() == "-" for p in frames(figure)] == flat
    assert len(figure.axes[0].images) == 2 + len(flat)  # the repeated query is drawn once
    assert [t for t in texts(figure) if t in ("before", "after")] == ["before", "after", "after"]
    assert "10" in texts(figure)


def test_ranked_lists_cut_at_top(crops: list[Path]) -> None:
    figure = ranked_lists([crops[0]], [crops], [[True] * len(crops)], top=5)
    assert len(frames(figure)) == 5
    assert "6" not in texts(figure)


def test_ranked_lists_refuse_unequal_lengths(crops: list[Path]) -> None:
    for queries, galleries, flags, titles in (
        ([], [], [], []),
        (crops[:2], [crops], [[True]], ["a", "b"]),
        (crops[:1], [crops], [[True]], ["a", "b"]),
    ):
        with pytest.raises(ReseenError, match="ranked lists need"):
            ranked_lists(queries, galleries, flags, titles=titles)
    with pytest.raises(ReseenError, match="nowhere"):
        ranked_lists([Path("nowhere.jpg")], [[]], [[]])


# --- augmented views ---


def views(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


def test_grey_is_what_follows_the_same_second_view(crops: list[Path]) -> None:
    raw, first, second, grey, jitter = views(augmentation_panel(crops[:1], SMALL, seed=4))
    assert raw.shape == (40, 20, 3)
    assert first.shape == second.shape == (32, 16, 3)
    luma = second @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey, np.repeat(luma[..., None], 3, axis=2), atol=1e-5)
    assert np.abs(first - second).max() > 0.05  # another draw
    assert np.abs(jitter - second).max() > 0.02  # the same draw, other colours
    assert np.ptp(jitter, axis=2).max() > 0.02


def test_views_follow_the_seed_and_leave_the_generator_alone(crops: list[Path]) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    once, again, other = (views(augmentation_panel(crops[:5], SMALL, seed=s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(once) == 25
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(once, other, strict=True))
    with pytest.raises(ReseenError, match="at least one image"):
        augmentation_panel([], SMALL)


def test_the_panel_shows_the_configured_transform(crops: list[Path]) -> None:
    still = replace(SMALL, height=40, width=20, flip=0.0, erase=0.0, pad=0.0)  # T is then the identity
    raw, first, second, *_ = views(augmentation_panel(crops[:1], still))
    np.testing.assert_allclose(first, raw / 255, atol=1e-6)
    np.testing.assert_allclose(second, raw / 255, atol=1e-6)


# --- saving ---


def test_a_saved_figure_describes_itself(tmp_path: Path) -> None:
    path = canvas.save_figure(
        curves([epoch(1)]), tmp_path / "new" / "c.png", title="Curves", alt="Five <lines>"
    )
    with Image.open(path) as image:
        assert image.size[0] == round(figures.WIDTH * page.DPI)
        assert (image.info["Title"], image.info["Description"]) == ("Curves", "Five <lines>")
    assert [p.name for p in path.parent.iterdir()] == ["c.png"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    files.write_file(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ReseenError, match="No space left"):
        files.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    monkeypatch.undo()
    with pytest.raises(ReseenError, match="cannot write"):
        files.write_file(path / "below-a-file", b"x")
