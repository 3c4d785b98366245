"""SpCL's independence and compactness, its thresholds, and who is kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import clustering as oracle

from reseen.clustering import keep_reliable, spcl_alpha, spcl_reliability
from reseen.errors import ReseenError

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, -1])
LOOSE = np.array([0, 0, 0, 0, 1, 1, 1, 1])
TIGHT = np.array([0, 0, 0, -1, 1, 1, 1, -1])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(*[st.integers(-1, 3)] * 3), min_size=1, max_size=20))
def test_equals_intersection_over_union(rows):
    labels, loose, tight = (np.array(column) for column in zip(*rows, strict=True))
    independence, compactness = spcl_reliability(labels, loose, tight)
    assert np.allclose(independence, oracle.overlap(labels, loose))
    assert np.allclose(compactness, oracle.overlap(labels, tight))


def test_by_hand():
    independence, compactness = spcl_reliability(LABELS, LOOSE, TIGHT)
    assert independence.tolist() == [1, 1, 1, 1, 0.75, 0.75, 0.75, 0.25]
    assert compactness.tolist() == [0.75, 0.75, 0.75, 0.25, 1, 1, 1, 1]


def test_only_the_most_compact_part_of_an_independent_cluster_stays():
    scores = spcl_reliability(LABELS, LOOSE, TIGHT)
    assert keep_reliable(LABELS, *scores, min_independence=0.9).tolist() == [0, 0, 0, -1, -1, -1, -1, -1]
    assert keep_reliable(LABELS, *scores, min_independence=0.5).tolist() == [0, 0, 0, -1, 1, 1, 1, -1]
    constant = keep_reliable(LABELS, *scores, min_independence=0.5, min_compactness=0.9)
    assert constant.tolist() == [-1] * 4 + [1, 1, 1, -1]


def test_alpha_lets_nine_of_ten_clusters_pass():
    labels = np.repeat(np.arange(20), 2)
    independence = np.repeat(np.arange(1, 21) / 20, 2)
    alpha = spcl_alpha(labels, independence)
    kept = keep_reliable(labels, independence, np.ones(40), min_independence=alpha)
    assert len(set(kept.tolist()) - {-1}) == 19  # place 18 of the descending list, itself included
    assert alpha == 0.1


def test_alpha_without_clusters():
    alone = np.array([-1, -1, 0])
    assert spcl_alpha(alone, spcl_reliability(alone, alone, alone)[0]) == 0.0


def test_lengths_must_agree():
    with pytest.raises(ReseenError, match="three labellings"):
        spcl_reliability([0, 0], [0], [0, 0])
