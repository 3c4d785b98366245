"""k-reciprocal Jaccard: sparse against the dense formula."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import clustering as oracle
from tests.test_clustering_neighbours import lattices, random_features, unit

from reseen.clustering import jaccard_distance, jaccard_graph, nearest_neighbours
from reseen.errors import ReseenError


def dense(distances):
    """A sparse distance matrix with its absent entries put back."""
    full = np.ones(distances.shape)
    entries = distances.tocoo()
    full[entries.row, entries.col] = entries.data
    return full


def people(count=160, identities=12, dim=12, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    return unit(
        rng.normal(size=(identities, dim))[rng.integers(0, identities, count)]
        + noise * rng.normal(size=(count, dim))
    )


@settings(deadline=None, max_examples=60)
@given(lattices(), st.integers(1, 12), st.integers(1, 5))
def test_equals_the_formula_with_copies_and_ties(features, k1, k2):
    distances = jaccard_distance(features, k1=k1, k2=k2)
    assert np.abs(dense(distances) - oracle.jaccard(features, k1, k2)).max() < 1e-6


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.integers(20, 120), st.integers(3, 40), st.integers(1, 8))
def test_equals_the_formula_on_people(seed, count, k1, k2):
    features = people(count, seed=seed)
    distances = jaccard_distance(features, k1=k1, k2=k2)
    assert np.abs(dense(distances) - oracle.jaccard(features, k1, k2)).max() < 1e-6


@pytest.mark.parametrize("copies", [(), (40, 10, 6)])
def test_equals_the_formula_at_the_papers_k(copies):
    """Groups of copies larger than k1: some rows are missing from their own list."""
    features = random_features(130, dim=5, copies=copies)
    distances = jaccard_distance(features)
    expected = oracle.jaccard(features, 30, 6)
    assert np.abs(dense(distances) - expected).max() < 1e-6
    assert 0.01 < (expected < 0.6).mean() < 0.9  # the case is neither empty nor full


def test_neighbour_counts_of_the_release():
    """k1 counts the row itself (a list of 30, not 31) and the half list has round(k1 / 2) + 1 = 16."""
    features = people(150)
    for k1, near in ((30, True), (31, False), (29, False)):
        difference = np.abs(dense(jaccard_distance(features)) - oracle.jaccard(features, k1, 6)).max()
        assert (difference < 1e-6) == near


def test_stored_entries():
    distances = jaccard_distance(people())
    assert distances.dtype == np.float32
    assert distances.has_sorted_indices
    assert (distances != distances.T).nnz == 0
    pattern = distances.copy()
    pattern.data[:] = 1
    assert (pattern != pattern.T).nnz == 0
    assert distances.data.max() < 1
    stored = {(i, j) for i, j in zip(*distances.tocoo().coords, strict=True)}
    assert all((i, i) in stored and distances[i, i] == 0 for i in range(160))


@pytest.mark.parametrize("eps", [0.2, 0.6, 0.62, 0.9, 0.999999])
@pytest.mark.parametrize("spread", ["people", "crowd"])
def test_cut_graph_is_the_uncut_one_without_the_far_pairs(eps, spread):
    """Bit for bit, whatever part of the columns the cut search leaves out."""
    features = people() if spread == "people" else random_features(700, dim=12, copies=(9,))
    full, cut = jaccard_distance(features).tocoo(), jaccard_distance(features, max_distance=eps).tocoo()
    near = full.data <= np.float32(eps)
    assert len(features) < near.sum()
    assert near.sum() < len(near) or eps > 0.99
    assert np.array_equal(cut.row, full.row[near])
    assert np.array_equal(cut.col, full.col[near])
    assert np.array_equal(cut.data, full.data[near])


def test_copies_are_stored_as_zero():
    features = people(20)
    features[13] = features[4]
    cut = jaccard_distance(features, max_distance=0.3)
    entries = set(zip(*cut.tocoo().coords, strict=True))
    assert (4, 13) in entries
    assert cut[4, 13] < 1e-6


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(-1, 4))
def test_within_clusters_is_the_uncut_graph_there(seed, most):
    features = people(60, seed=seed)
    labels = np.random.default_rng(seed).integers(-1, most + 1, 60) * 3
    labels[labels < 0] = -1
    graph = jaccard_graph(features, k1=12, k2=4)
    full, within = graph.distances().tocoo(), graph.within(labels)
    together = ((labels[full.row] == labels[full.col]) & (labels[full.row] >= 0)) | (full.row == full.col)
    assert within.has_sorted_indices
    within = within.tocoo()
    assert np.array_equal(within.row, full.row[together])
    assert np.array_equal(within.col, full.col[together])
    assert np.array_equal(within.data, full.data[together])


def test_threads_change_nothing():
    features = people(1500, identities=60)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = jaccard_distance(features)
        torch.set_num_threads(3)
        shared = jaccard_distance(features)
    finally:
        torch.set_num_threads(before)
    for name in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(alone, name), getattr(shared, name))


def test_all_copies_and_one_row():
    assert np.abs(dense(jaccard_distance(np.tile(unit([[1, 2]]), (50, 1))))).max() < 1e-6
    assert jaccard_distance(unit([[3, 4]])).toarray().tolist() == [[0]]


def test_tensor_and_array_agree():
    features = people(40)
    assert (jaccard_distance(torch.from_numpy(features)) != jaccard_distance(features)).nnz == 0


@pytest.mark.parametrize(
    ("features", "options", "words"),
    [
        (np.eye(3), {"k1": 0}, "k1"),
        (np.eye(3), {"k2": 0}, "k2"),
        (np.eye(3) * 2, {}, "L2-normalised.*row 0.*length 2"),
        (np.diag([1.0, 0.0, 1.0]), {}, "row 1.*length 0"),
        (np.full((3, 3), np.nan), {}, "NaN"),
    ],
)
def test_bad_input_is_named(features, options, words):
    with pytest.raises(ReseenError, match=words):
        jaccard_distance(features, **options)


def test_labels_of_another_length():
    with pytest.raises(ReseenError, match="as many labels"):
        jaccard_graph(np.eye(3)).within([0, 1])


def test_a_ready_neighbour_list_is_taken():
    features = people()
    lists = nearest_neighbours(features, 30)
    searched, given = jaccard_graph(features), jaccard_graph(features, neighbours=lists)
    assert (searched.weights != given.weights).nnz == 0
    swapped = lists[0].copy()
    swapped[:, [3, 4]] = swapped[:, [4, 3]]  # another ranking of the same rows: k2 = 4 sees another third row
    other = jaccard_graph(features, k2=4, neighbours=(swapped, lists[1]))
    assert (other.weights != jaccard_graph(features, k2=4).weights).nnz > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i, s: (i[:-1], s[:-1]), "must be indices and similarities"),
        (lambda i, s: (i, s[:, :-1]), "must be indices and similarities"),
        (lambda i, s: (i + 1, s), "must be rows 0 to 159"),
        (lambda i, s: (i - 1, s), "must be rows 0 to 159"),
    ],
)
def test_a_bad_neighbour_list_is_named(change, words):
    features = people()
    with pytest.raises(ReseenError, match=words):
        jaccard_graph(features, neighbours=change(*nearest_neighbours(features, 30)))
