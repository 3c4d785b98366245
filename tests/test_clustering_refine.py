"""The refinement: Eq. (1), the rule of the release, and what a removed part becomes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from tests.oracles import clustering as oracle
from tests.test_clustering_jaccard import people

from reseen.clustering import dbscan, jaccard_graph, refine, refine_official, refined_parts
from reseen.errors import ReseenError


def parts_of(sizes, within=0.30, between=0.55):
    """One cluster in parts of these sizes, with two distances: labels, tight labels, distances."""
    tight = np.repeat(np.arange(len(sizes)), sizes)
    distances = np.where(tight[:, None] == tight, within, between)
    np.fill_diagonal(distances, 0)
    return np.zeros(len(tight), dtype=int), tight, distances


def groups(labels):
    """A labelling as sets of images, to compare it whatever its numbers."""
    return {frozenset(np.flatnonzero(labels == name).tolist()) for name in set(labels.tolist()) - {-1}}


def ranges(*sizes):
    ends = np.cumsum((0, *sizes))
    return {frozenset(range(a, b)) for a, b in pairwise(ends)}


@pytest.mark.parametrize(
    ("sizes", "paper", "official", "whole"),
    [  # the two rules on five clusters whose parts are 0.30 wide and 0.55 apart
        ((10,), (10,), (10,), True),
        ((9, 1), (9, 1), (*[1] * 9, 1), False),  # official: the nine are dissolved, the straggler stays
        ((7, 3), (7, 3), (*[1] * 7, 3), False),
        ((5, 5), (5, 5), [1] * 10, False),
        ((4, 3, 3), (4, 3, 3), (10,), False),
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_five_rows(sizes, paper, official, whole, sparse):
    labels, tight, distances = parts_of(sizes)
    if sparse:
        distances = csr_array(distances.astype(np.float32))
    refined = refine(labels, tight, distances)
    assert groups(refined) == ranges(*paper)
    assert (refined == 0).all() == whole
    assert groups(refine_official(labels, tight, distances)) == ranges(*official)
    ones = [1] * 10 if not whole else (10,)
    assert groups(refine(labels, tight, distances, removed_to="singletons")) == ranges(*ones)


def test_official_straggler_keeps_the_label():
    refined = refine_official(*parts_of((9, 1)))
    assert refined[9] == 0
    assert sorted(refined[:9].tolist()) == list(range(1, 10))


def test_central_part_stays():
    """Three parts on a line: the middle one is nearer to the rest than the images are to each other."""
    places = np.repeat([0.0, 0.3, 0.6], 2)
    distances = np.abs(places[:, None] - places)
    refined = refine([7] * 6, [0, 0, 1, 1, 2, 2], distances)
    assert refined.tolist() == [8, 8, 7, 7, 9, 9]
    singles = refine([7] * 6, [0, 0, 1, 1, 2, 2], distances, removed_to="singletons")
    assert singles.tolist() == [8, 9, 7, 7, 10, 11]


def test_equality_leaves():
    """All distances equal: rho is 1 exactly, in float32 as well."""
    for value in (0.1, 0.3, 0.7):
        distances = np.full((6, 6), value, dtype=np.float32)
        refined = refine([0] * 6, [0, 0, 0, 1, 1, -1], distances)
        assert refined.tolist() == [1, 1, 1, 2, 2, 3]
        assert refine_official([0] * 4, [0, 0, 1, -1], distances[:4, :4]).tolist() == [1, 2, 0, 0]


def test_official_equality_stays():
    """Two images in two parts: 1 / 1 of the distance against 2 / 4 of it leaves; none of it stays."""
    distances = np.array([[0, 0.5], [0.5, 0]])
    assert refine_official([0, 0], [0, 1], distances).tolist() == [1, 2]
    assert refine_official([0, 0], [0, 1], distances * 0).tolist() == [0, 0]


def test_copies_stay_together():
    assert refine([0] * 4, [0, 0, 1, -1], np.zeros((4, 4))).tolist() == [0] * 4


def test_outliers_and_part_across_clusters():
    """-1 stays -1; tight cluster 5 reaches into both clusters and is judged in each by itself."""
    labels = np.array([0, 0, 0, -1, 1, 1, 1, -1])
    tight = np.array([5, 5, 6, 5, 5, 6, 6, -1])
    distances = np.full((8, 8), 0.01)  # what lies between clusters must not matter
    for members in (labels == 0, labels == 1):
        block = np.where(tight[:, None] == tight, 0.2, 0.6)
        distances = np.where(members[:, None] & members, block, distances)
    refined = refine(labels, tight, distances)
    assert refined.tolist() == [2, 2, 3, -1, 4, 5, 5, -1]


@st.composite
def clusterings(draw):
    count = draw(st.integers(1, 16))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    labels = rng.integers(-1, draw(st.integers(1, 3)), count)
    tight = rng.integers(-1, draw(st.integers(1, 5)), count)
    upper = np.triu(rng.integers(0, 11, (count, count)), 1) / 10
    return labels, tight, (upper + upper.T).astype(np.float32)


@settings(deadline=None, max_examples=120)
@given(clusterings(), st.sampled_from(["subcluster", "singletons", "official"]))
def test_equals_the_formula(clustering, rule):
    labels, tight, distances = clustering
    official = rule == "official"
    rows, columns = np.nonzero(distances < 1)
    sparse = csr_array((distances[rows, columns], (rows, columns)), shape=distances.shape)  # absent = 1
    for matrix in (distances, sparse):
        refined = (
            refine_official(labels, tight, matrix)
            if official
            else refine(labels, tight, matrix, removed_to=rule)
        )
        assert ((refined == -1) == (labels == -1)).all()
        expected = set()
        stay = {}
        for part, leaves in oracle.refined_parts(
            labels.tolist(), tight.tolist(), distances.tolist(), official=official
        ):
            if not leaves:
                assert (refined[part] == labels[part]).all()
                stay.setdefault(labels[part[0]], set()).update(part)
            else:
                assert (refined[part] > labels.max()).all()
                expected |= (
                    {frozenset(part)} if rule == "subcluster" else {frozenset([image]) for image in part}
                )
        assert groups(refined) == expected | {frozenset(members) for members in stay.values()}


def test_on_a_graph_cut_at_eps():
    """Cutting at eps and recomputing within clusters refines as the uncut graph does."""
    graph = jaccard_graph(people(300, identities=20, noise=0.6), k1=20)
    cut, full = graph.distances(0.6), graph.distances()
    labels, tight = dbscan(cut, eps=0.6), dbscan(cut, eps=0.5)
    assert len(groups(tight)) > len(groups(labels)) or (tight < 0).sum() > (labels < 0).sum()
    for rule in (refine, refine_official):
        assert np.array_equal(rule(labels, tight, graph.within(labels)), rule(labels, tight, full))
        assert not np.array_equal(rule(labels, tight, full), labels)


def test_bad_input_is_named():
    with pytest.raises(ReseenError, match="removed_to"):
        refine([0], [0], np.zeros((1, 1)), removed_to="nowhere")
    with pytest.raises(ReseenError, match="same images"):
        refine([0, 0], [0], np.zeros((2, 2)))


@given(
    rows=st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 4), st.booleans()), min_size=1, max_size=30)
)
def test_refined_parts_are_counted_as_a_loop_counts_them(rows: list[tuple[int, int, bool]]) -> None:
    """A part is what shares both labels; a tight outlier is one of its own. ``moved`` by part, so made equal in it."""
    parts: dict[tuple[int, int], list[int]] = {}
    for row, (label, tight, _) in enumerate(rows):
        if label >= 0:
            parts.setdefault((label, tight if tight >= 0 else 100 + row), []).append(row)
    refined = [label for label, _, _ in rows]
    left = stayed = 0
    for number, ((label, _), members) in enumerate(parts.items()):
        alone = sum(other == label for other, _ in parts) == 1
        leaves = rows[members[0]][2] and not alone
        for row in members if leaves else ():
            refined[row] = 1000 + number
        left, stayed = left + leaves, stayed + (not leaves and not alone)
    labels, tights = [label for label, _, _ in rows], [tight for _, tight, _ in rows]
    assert refined_parts(labels, tights, refined) == (left, stayed)
