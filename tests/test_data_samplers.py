from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reseen.data import balanced_batches, uniform_batches
from reseen.data.samplers import iterations_to_draw, undrawn_share
from reseen.errors import ReseenError

Rows = NDArray[np.int64]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Rows, Rows]:
    count = draw(st.integers(1, 30))
    labels = draw(st.lists(st.integers(-1, 6), min_size=count, max_size=count).filter(lambda x: max(x) >= 0))
    cameras = draw(st.lists(st.integers(-1, 3), min_size=count, max_size=count))
    return np.array(labels), np.array(cameras)


def turns(rows: Rows, labels: Rows, instances: int) -> list[Rows]:
    """Cut the concatenated rows into the turns of single identities: one row for a lonely image."""
    sizes = np.bincount(labels[labels >= 0])
    found, place = [], 0
    while place < len(rows):
        length = 1 if sizes[labels[rows[place]]] == 1 else instances
        found.append(rows[place : place + length])
        place += length
    return found


@settings(deadline=None, max_examples=150)
@given(worlds(), st.integers(1, 7), st.integers(1, 5), st.integers(1, 12), st.booleans(), st.integers(0, 9))
def test_balanced_batches(
    world: tuple[Rows, Rows], batch_size: int, instances: int, iterations: int, aware: bool, seed: int
) -> None:
    labels, cameras = world
    batches = balanced_batches(
        labels,
        cameras,
        batch_size=batch_size,
        instances=instances,
        iterations=iterations,
        camera_aware=aware,
        seed=seed,
        epoch=3,
    )
    assert [batch.shape for batch in batches] == [(batch_size,)] * iterations
    assert all(batch.dtype == np.int64 for batch in batches)
    rows = np.concatenate(batches)
    assert (labels[rows] >= 0).all()
    seen: list[int] = []
    for turn in turns(rows, labels, instances):
        anchor, companions = turn[0], turn[1:]
        assert len(set(labels[turn])) == 1
        seen.append(int(labels[anchor]))
        others = np.flatnonzero((labels == labels[anchor]) & (np.arange(len(labels)) != anchor))
        elsewhere = others[(cameras[others] >= 0) & (cameras[others] != cameras[anchor])]
        if aware and cameras[anchor] >= 0 and len(elsewhere):
            others = elsewhere
        assert set(companions) <= set(others)  # never the anchor itself
        if len(others) >= instances - 1:
            assert len(set(companions)) == len(companions)
    people = len(set(labels[labels >= 0]))
    for start in range(0, len(seen), people):  # every identity once before any appears twice
        part = seen[start : start + people]
        assert len(set(part)) == len(part)


def test_deterministic_in_seed_and_epoch() -> None:
    labels = np.repeat(np.arange(20), 5)
    cameras = np.arange(100) % 4

    def draw(seed: int, epoch: int) -> list[int]:
        batches = balanced_batches(
            labels,
            cameras,
            batch_size=16,
            instances=4,
            iterations=5,
            camera_aware=True,
            seed=seed,
            epoch=epoch,
        )
        return np.concatenate(batches).tolist()

    assert draw(1, 2) == draw(1, 2)
    assert draw(1, 2) != draw(1, 3)
    assert draw(1, 2) != draw(2, 2)
    assert draw(-1, 2) == draw(-1, 2)


def test_the_anchor_and_its_companions_are_drawn_evenly() -> None:
    labels, cameras = np.zeros(6, dtype=np.int64), np.array([0, 0, 0, 1, 1, 2])
    batches = balanced_batches(
        labels,
        cameras,
        batch_size=2,
        instances=2,
        iterations=6000,
        camera_aware=True,
        seed=0,
        epoch=0,
    )
    pairs = np.array(batches)
    anchors = np.bincount(pairs[:, 0], minlength=6)
    assert (abs(anchors - 1000) < 150).all()
    from_last = pairs[pairs[:, 0] == 5, 1]  # camera 2: any of the other five
    assert (abs(np.bincount(from_last, minlength=6)[:5] - len(from_last) / 5) < 60).all()


def test_camera_unaware_does_not_read_cameras() -> None:
    labels = np.repeat(np.arange(5), 4)
    drawn = [
        np.concatenate(
            balanced_batches(
                labels,
                cameras,
                batch_size=8,
                instances=4,
                iterations=4,
                camera_aware=False,
                seed=0,
                epoch=0,
            )
        ).tolist()
        for cameras in (np.zeros(20), np.arange(20))
    ]
    assert drawn[0] == drawn[1]


def test_nothing_to_draw() -> None:
    options = {"batch_size": 4, "instances": 2, "iterations": 2, "seed": 0, "epoch": 0}
    for labels in (np.full(5, -1), np.empty(0)):
        with pytest.raises(ReseenError, match=r"raise cluster\.eps"):
            balanced_batches(labels, np.zeros(len(labels)), camera_aware=True, **options)  # type: ignore[arg-type]
    for name in ("batch_size", "instances", "iterations"):
        with pytest.raises(ReseenError, match=name):
            balanced_batches(np.zeros(5), np.zeros(5), camera_aware=True, **{**options, name: 0})  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 9), st.integers(0, 5))
def test_uniform_batches(count: int, batch_size: int, iterations: int, epoch: int) -> None:
    batches = uniform_batches(count, batch_size=batch_size, iterations=iterations, seed=1, epoch=epoch)
    assert [batch.shape for batch in batches] == [(batch_size,)] * iterations
    rows = np.concatenate(batches)
    assert rows.dtype == np.int64
    for start in range(0, len(rows), count):
        part = rows[start : start + count]
        assert len(set(part)) == len(part)
        assert set(part) <= set(range(count))
    again = uniform_batches(count, batch_size=batch_size, iterations=iterations, seed=1, epoch=epoch)
    assert np.array_equal(rows, np.concatenate(again))


def test_uniform_batches_of_nothing() -> None:
    with pytest.raises(ReseenError, match="images is 0"):
        uniform_batches(0, batch_size=2, iterations=2, seed=0, epoch=0)


@given(labels=st.lists(st.integers(-1, 5), min_size=1, max_size=40), drawn=st.lists(st.integers(0, 39)))
def test_undrawn_share_is_a_count(labels: list[int], drawn: list[int]) -> None:
    rows = [row for row in drawn if row < len(labels)]
    clustered = [row for row, label in enumerate(labels) if label >= 0 and labels.count(label) > 1]
    share = undrawn_share(labels, rows)
    if not clustered:
        assert np.isnan(share)
        return
    assert share == pytest.approx(sum(row not in rows for row in clustered) / len(clustered))


@pytest.mark.parametrize("singles", [False, True])
@pytest.mark.parametrize("instances", [2, 4])
def test_iterations_to_draw_are_enough_and_not_many_more(instances: int, singles: bool) -> None:
    """Against the sampler itself, over seeds: no cameras, clusters of 2 to 21, as many images alone."""
    sizes = np.arange(2, 22)
    labels = np.concatenate([np.repeat(np.arange(20), sizes), np.arange(20, 20 + sizes.sum())])
    clustered = np.where(labels < 20, labels, -1)

    def mean_share(iterations: int) -> float:
        shares = [
            undrawn_share(
                labels,
                np.concatenate(
                    balanced_batches(
                        labels if singles else clustered,
                        np.full(len(labels), -1),
                        batch_size=16,
                        instances=instances,
                        iterations=iterations,
                        camera_aware=False,
                        seed=seed,
                        epoch=0,
                    )
                ),
            )
            for seed in range(20)
        ]
        return float(np.mean(shares))

    enough = iterations_to_draw(labels, share=1 / 3, batch_size=16, instances=instances, singles=singles)
    assert mean_share(enough) <= 1 / 3 + 0.02
    assert mean_share(enough // 2) > 1 / 3


def test_iterations_to_draw_without_a_cluster() -> None:
    assert iterations_to_draw([-1, 0, 1], share=1 / 3, batch_size=8, instances=4, singles=True) == 0
