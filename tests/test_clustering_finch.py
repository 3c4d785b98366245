"""FINCH's first partition and the image filter of R-SiamNet."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import clustering as oracle
from tests.test_clustering_neighbours import lattices
from tests.test_clustering_refine import groups

from reseen.clustering import finch
from reseen.errors import ReseenError


def at(*degrees):
    """Points on the unit circle."""
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@settings(deadline=None, max_examples=100)
@given(lattices(18), st.integers(1, 8), st.integers(0, 100), st.sampled_from(["none", "link", "next"]))
def test_equals_the_specification(features, scenes, seed, image_filter):
    images = np.random.default_rng(seed).integers(0, scenes, len(features))
    labels = finch(features, image_ids=images, image_filter=image_filter)
    assert groups(labels) == {frozenset(part) for part in oracle.finch(features, images, image_filter)}


@settings(deadline=None, max_examples=60)
@given(lattices(18), st.integers(1, 8), st.integers(0, 100))
def test_strict_takes_apart_what_collides_and_nothing_else(features, scenes, seed):
    images = np.random.default_rng(seed).integers(0, scenes, len(features))
    strict = groups(finch(features, image_ids=images, image_filter="strict"))
    link = groups(finch(features, image_ids=images, image_filter="link"))
    for part in strict:
        assert len({images[row] for row in part}) == len(part)
        assert any(part <= whole for whole in link)
    for whole in link:
        if len({images[row] for row in whole}) == len(whole):
            assert whole in strict


def test_filters_on_a_circle():
    """0 and 1 are neighbours in one scene; both lie near 2, and 3 is near 2 as well."""
    features, images = at(0, 4, 10, 17), [0, 0, 1, 2]
    assert finch(features, image_ids=images, image_filter="none").tolist() == [0, 0, 0, 0]
    assert finch(features, image_ids=images, image_filter="link").tolist() == [0, 1, 1, 1]
    assert finch(features, image_ids=images, image_filter="next").tolist() == [0, 0, 0, 0]
    assert finch(features, image_ids=images).tolist() == [0, 1, 1, 1]  # link is the default
    assert finch(features).tolist() == [0, 0, 0, 0]  # without scenes there is nothing to filter


def test_strict_keeps_the_stronger_link():
    """0 and 3 of one scene meet through 1 and 2; 3 hangs on by the longest link and is left alone."""
    features, images = at(0, 3, 7, 15), [0, 1, 2, 0]
    assert finch(features, image_ids=images, image_filter="link").tolist() == [0, 0, 0, 0]
    assert finch(features, image_ids=images, image_filter="strict").tolist() == [0, 0, 0, 1]


def test_ties_go_to_the_smaller_index():
    features = np.eye(4, dtype=np.float32)[[0, 1, 2, 3]]
    assert finch(features).tolist() == [0, 0, 0, 0]  # everybody is equally near: all link to 0, and 0 to 1


def test_one_row_one_scene_and_tensors():
    assert finch(at(5)).tolist() == [0]
    assert finch(at(0, 1, 2), image_ids=[4, 4, 4], image_filter="next").tolist() == [0, 1, 2]
    features, names = at(0, 4, 10, 17), np.array(["a", "a", "b", "c"])
    assert finch(torch.from_numpy(features), image_ids=torch.tensor([0, 0, 1, 2])).tolist() == [0, 1, 1, 1]
    assert finch(features, image_ids=names).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("features", "options", "words"),
    [
        (at(0, 1), {"image_filter": "links"}, "one of none, link, next, strict"),
        (at(0, 1), {"image_ids": [0]}, "as many image_ids"),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), {}, "row 1 .* all zero"),
        (np.array([[1.0, np.nan]]), {}, "NaN"),
    ],
)
def test_bad_input_is_named(features, options, words):
    with pytest.raises(ReseenError, match=words):
        finch(features, **options)
