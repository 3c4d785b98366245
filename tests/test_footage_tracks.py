"""Who walks on from one sampled frame to the next."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reseen.footage.tracks import GAP, Tracks, follow

RED, BLUE = np.eye(2, dtype=np.float32)


def box(x: float) -> list[float]:
    return [x, 0, x + 20, 60]


def walked(*frames: tuple[float, list[tuple[float, NDArray[np.float32]]]]) -> list[list[int]]:
    """Tracks of hits (x, feature) in frames at so many seconds."""
    tracks, seen = Tracks.none(2), []
    for seconds, hits in frames:
        boxes = np.array([box(x) for x, _ in hits], dtype=np.float32).reshape(-1, 4)
        features = np.array([feature for _, feature in hits], dtype=np.float32).reshape(-1, 2)
        numbers, tracks = follow(tracks, boxes, features, seconds)
        seen.append(numbers.tolist())
    return seen


def test_a_walk_is_one_track() -> None:
    assert walked((0, [(0, RED)]), (0.5, [(15, RED)]), (1, [(30, RED)])) == [[0], [0], [0]]


def test_nobody_turns_into_somebody_else_or_jumps() -> None:
    assert walked((0, [(0, RED)]), (0.5, [(0, BLUE)])) == [[0], [1]]
    assert walked((0, [(0, RED)]), (0.5, [(300, RED)])) == [[0], [1]]


def test_two_who_cross_are_told_apart_by_their_looks() -> None:
    frames = [(t / 2, [(10 * t, RED), (40 - 10 * t, BLUE)]) for t in range(5)]
    assert walked(*frames) == [[0, 1]] * 5


def test_two_who_look_alike_are_told_apart_by_where_they_are() -> None:
    assert walked((0, [(0, RED), (30, RED)]), (0.5, [(32, RED), (3, RED)])) == [[0, 1], [1, 0]]


def test_who_is_hidden_for_a_moment_comes_back_and_later_does_not() -> None:
    assert walked((0, [(0, RED)]), (0.5, []), (1, [(30, RED)])) == [[0], [], [0]]
    assert walked((0, [(0, RED)]), (GAP + 0.5, [(0, RED)])) == [[0], [1]]


def test_numbers_are_not_used_again() -> None:
    assert walked((0, [(0, RED), (50, BLUE)]), (9, [(0, RED)]), (18, [(0, BLUE)])) == [[0, 1], [2], [3]]


hits = st.lists(st.tuples(st.integers(0, 100), st.sampled_from([RED, BLUE])), max_size=4)


@given(st.lists(hits, min_size=1, max_size=6))
def test_a_track_is_in_a_frame_once_and_tracks_are_numbered_as_they_come(
    frames: list[list[tuple[int, NDArray[np.float32]]]],
) -> None:
    seen = walked(*((number / 2, hits) for number, hits in enumerate(frames)))
    assert all(len(set(here)) == len(here) for here in seen)
    known = 0
    for here in seen:
        fresh = sorted(number for number in here if number >= known)
        assert fresh == list(range(known, known + len(fresh)))
        known += len(fresh)
