"""DBSCAN against scikit-learn: the same labels under the same numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array, csr_array, csr_matrix
from sklearn.cluster import DBSCAN
from tests.test_clustering_jaccard import people

from reseen.clustering import dbscan, jaccard_distance
from reseen.errors import ReseenError


def reference(distances, eps, min_samples):
    return DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(distances).labels_


@st.composite
def distance_matrices(draw):
    """Symmetric, in steps of 0.1 so that many entries equal eps, with zeros off the diagonal."""
    count = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    upper = np.triu(rng.integers(0, draw(st.integers(2, 30)), (count, count)), 1)
    distances = np.minimum(upper + upper.T, 10) / 10
    return distances.astype(draw(st.sampled_from([np.float32, np.float64])))


@settings(deadline=None, max_examples=80)
@given(distance_matrices(), st.sampled_from([0.1, 0.2, 0.3, 0.58, 0.6]), st.integers(1, 6))
@pytest.mark.filterwarnings("ignore:Precomputed sparse input")
def test_labels_and_numbers_are_scikit_learns(distances, eps, min_samples):
    expected = reference(distances, eps, min_samples)
    assert np.array_equal(dbscan(distances, eps=eps, min_samples=min_samples), expected)
    rows, columns = np.nonzero(distances < 1)
    sparse = csr_matrix(coo_array((distances[rows, columns], (rows, columns)), shape=distances.shape))
    assert sparse.nnz == len(rows)  # zeros are explicit
    assert np.array_equal(reference(sparse, eps, min_samples), expected)
    assert np.array_equal(dbscan(sparse, eps=eps, min_samples=min_samples), expected)


@pytest.mark.parametrize("eps", [0.45, 0.58, 0.6])
@pytest.mark.parametrize("noise", [0.3, 0.6, 0.9])
def test_on_people(eps, noise):
    features = people(300, identities=25, noise=noise)
    features[200:260] = features[:60]
    distances = jaccard_distance(features)
    full = np.ones(distances.shape, np.float32)
    full[distances.tocoo().coords] = distances.data
    labels = dbscan(jaccard_distance(features, max_distance=0.6), eps=eps)
    assert labels.dtype == np.int64
    assert len(np.unique(labels)) > 1
    assert np.array_equal(labels, reference(full, eps, 4))


def test_border_image_joins_the_first_cluster():
    """Image 3 lies between two cores and is none itself; with ``min_samples=3`` it goes to cluster 0."""
    line = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 3.5, 4.0])
    distances = np.abs(line[:, None] - line) / 2
    assert dbscan(distances, eps=0.5, min_samples=4).tolist() == [0, 0, 0, 0, 1, 1, 1]
    flipped = distances[::-1, ::-1]
    assert dbscan(flipped, eps=0.5, min_samples=4).tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_diagonal_need_not_be_stored():
    distances = csr_array((np.float32([0.1, 0.1]), ([0, 1], [1, 0])), shape=(3, 3))
    assert dbscan(distances, min_samples=2).tolist() == [0, 0, -1]


def test_no_core_and_one_cluster():
    assert dbscan(1 - np.eye(5), eps=0.5).tolist() == [-1] * 5
    assert dbscan(torch.zeros(5, 5), eps=0.5).tolist() == [0] * 5
    assert dbscan(np.zeros((0, 0))).tolist() == []


@pytest.mark.parametrize(
    ("distances", "options", "words"),
    [
        (np.zeros((2, 3)), {}, "shape"),
        (np.full((2, 2), np.nan), {}, "NaN"),
        (np.zeros((2, 2)), {"eps": 0}, "eps"),
        (np.zeros((2, 2)), {"min_samples": 0}, "min_samples"),
    ],
)
def test_bad_input_is_named(distances, options, words):
    with pytest.raises(ReseenError, match=words):
        dbscan(distances, **options)
