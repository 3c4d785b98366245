"""Nearest neighbours: exact, in a fixed order, whatever the blocks, the threads and the copies."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import clustering as oracle

from reseen.clustering import nearest_neighbours
from reseen.clustering.nearest import neighbours as module
from reseen.clustering.nearest import proxies, sweep
from reseen.errors import ReseenError


def unit(rows):
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def random_features(count, dim=16, seed=0, copies=()):
    """Unit rows; each of ``copies`` is the size of a group of identical rows, put at the end and shuffled."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, dim))
    end = count
    for size in copies:
        rows[end - size : end] = rows[end - size]
        end -= size
    return unit(rows[rng.permutation(count)])


@st.composite
def lattices(draw, most=24):
    """Unit rows from a small lattice: many copies and many ties."""
    count, dim = draw(st.integers(1, most)), draw(st.integers(1, 3))
    rows = draw(
        st.lists(
            st.lists(st.integers(-1, 2), min_size=dim, max_size=dim).filter(any),
            min_size=count,
            max_size=count,
        )
    )
    return unit(rows)


def assert_same(found, expected):
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


@settings(deadline=None, max_examples=60)
@given(lattices(), st.integers(1, 30))
def test_equals_a_full_sort(features, k):
    assert_same(nearest_neighbours(features, k), oracle.neighbours(features, k))


@pytest.mark.parametrize("copies", [(), (7,), (30, 12)])
def test_blocks_rows_and_device_agree_with_a_full_sort(monkeypatch, copies):
    features = random_features(90, copies=copies)
    expected = oracle.neighbours(features, 5)
    monkeypatch.setattr(sweep, "BLOCK", 13)
    monkeypatch.setattr(module, "SPARE", 3)
    assert_same(nearest_neighbours(features, 5), expected)
    for rows in (slice(0, 40), slice(40, 41), slice(41, None), slice(7, 7)):
        assert_same(nearest_neighbours(features, 5, rows=rows), [part[rows] for part in expected])
    monkeypatch.setattr(sweep, "SIDE", 17)
    monkeypatch.setattr(module, "largest_products", partial(sweep.on_device, memory=4 * 17 * 23))
    assert_same(nearest_neighbours(features, 5), expected)


def test_rows_are_a_plain_slice():
    with pytest.raises(ReseenError, match="without a step"):
        nearest_neighbours(random_features(9), 2, rows=slice(0, 9, 2))
    lists = nearest_neighbours(random_features(9), 2)
    assert_same(nearest_neighbours(random_features(9), 2, rows=slice(3, 9, 1)), [part[3:] for part in lists])


def test_only_unproven_rows_are_searched_again(monkeypatch):
    """A group of copies larger than the candidate list gives no proof; most others have one."""
    features = random_features(200, copies=(60,))
    searched = {}
    search = module.among_all
    monkeypatch.setattr(
        module,
        "among_all",
        lambda rows, chosen, *rest: (
            searched.update({rest[-1]: rows[chosen].numpy()}) or search(rows, chosen, *rest)
        ),
    )
    found = nearest_neighbours(features, 10)
    again = searched[torch.float64]
    copies = np.flatnonzero((features == again[0]).all(axis=1))
    assert len(copies) == 60
    assert (again == again[0]).all(axis=1).sum() == 60  # and rows near the group, whose lists would end in it
    assert len(again) < 120
    assert found[0][copies].tolist() == [copies[:10].tolist()] * 60  # the smallest indices, itself in or not
    assert_same(found, oracle.neighbours(features, 10))


def low_rank(count, dim, rank, noise, seed=0):
    rng = np.random.default_rng(seed)
    return unit(
        rng.normal(size=(count, rank)) @ rng.normal(size=(rank, dim)) + noise * rng.normal(size=(count, dim))
    )


PROXIES = {
    "exact": lambda rows: proxies.exact_proxies(rows),
    "half": lambda rows: proxies.half_proxies(rows, rows.shape[1]),
    "projected": lambda rows: proxies.Proxies(
        proxies.projected(rows, proxies.leading_directions(rows, 8)), 2 * proxies.exact_proxies(rows).slack
    ),
    "projected, half": lambda rows: proxies.half_proxies(
        proxies.projected(rows, proxies.leading_directions(rows, 8)), rows.shape[1]
    ),
}


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("noise", [0.0, 0.01, 3.0])
@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_proxies_hide_no_more_than_their_slack(kind, noise, scale):
    features = low_rank(150, 64, 4, noise)
    features[:40] = features[40]  # copies, where the bound is tightest
    features[1:40] += 1e-4 * np.random.default_rng(1).normal(size=(39, 64)).astype(np.float32)
    features[100:] *= scale
    found = PROXIES[kind](torch.from_numpy(features))
    true = features.astype(np.float64) @ features.astype(np.float64).T
    bound = torch.mm(found.rows, found.rows.T).double().numpy() + found.slack[:, None]
    assert (true <= bound).all()


@pytest.mark.parametrize(("noise", "numbers"), [(0.001, 8), (3.0, 64)])
def test_the_choice_of_proxies_changes_the_cost_and_not_the_lists(monkeypatch, noise, numbers):
    """Rows of low rank are compared by few numbers, others by all of them; the lists are those of a full sort."""
    features = low_rank(600, 64, 4, noise)
    expected = oracle.neighbours(features, 10)
    for name, value in {"WORTHWHILE": 1, "PROJECT": 1, "DIRECTIONS": (8, 16), "LEARNT_FROM": 200}.items():
        monkeypatch.setattr(proxies, name, value)
    for half in ("bf16", "none"):
        monkeypatch.setattr(proxies, "resolve_precision", lambda device, precision, half=half: half)
        chosen = proxies.cheapest_proxies(torch.from_numpy(features), 26, 10)
        assert chosen.rows.shape[1] == numbers
        assert_same(nearest_neighbours(features, 10), expected)


def test_a_sweep_too_coarse_for_most_rows_is_made_good(monkeypatch):
    """Candidates of bfloat16 among rows closer together than it can tell."""
    features = unit(1 + 1e-2 * np.random.default_rng(2).normal(size=(400, 32)))
    coarse = proxies.half_proxies(torch.from_numpy(features), 32)
    monkeypatch.setattr(module, "cheapest_proxies", lambda *_: coarse)
    assert_same(nearest_neighbours(features, 10), oracle.neighbours(features, 10))


def test_the_choice_draws_no_random_numbers_of_torch():
    before = torch.get_rng_state()
    nearest_neighbours(low_rank(5000, 16, 3, 0.1), 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_collapsed_features_are_still_exact():
    """Closer together than float32 products can tell."""
    rng = np.random.default_rng(1)
    features = unit(1 + 1e-4 * rng.normal(size=(120, 8)))
    assert_same(nearest_neighbours(features, 9), oracle.neighbours(features, 9))


def test_threads_change_nothing():
    features = random_features(1500, dim=8, copies=(40, 40))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = nearest_neighbours(features, 20)
        torch.set_num_threads(3)
        assert_same(nearest_neighbours(features, 20), alone)
    finally:
        torch.set_num_threads(before)


def test_reduced_precision_is_shut_out_and_put_back():
    features = random_features(300, dim=64)
    expected = nearest_neighbours(features, 5)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert_same(nearest_neighbours(features, 5), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_tensors_half_precision_and_strides_are_taken():
    features = random_features(40, dim=6)
    expected = nearest_neighbours(features, 4)
    assert_same(nearest_neighbours(torch.from_numpy(features), 4), expected)
    assert_same(nearest_neighbours(np.asfortranarray(features), 4), expected)
    assert_same(nearest_neighbours(features.astype(np.float64), 4), expected)
    assert_same(nearest_neighbours(torch.from_numpy(features).requires_grad_(), 4), expected)
    half = torch.from_numpy(features).half()
    assert_same(nearest_neighbours(half, 4), nearest_neighbours(half.float(), 4))


def test_more_neighbours_than_rows():
    indices, similarities = nearest_neighbours(random_features(3), 10)
    assert indices.shape == similarities.shape == (3, 3)
    assert indices.dtype == np.int64
    assert similarities.dtype == np.float32
    assert indices[:, 0].tolist() == [0, 1, 2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_finds_the_same():
    features = random_features(3000, dim=32, copies=(100, 20))
    assert_same(nearest_neighbours(features, 30, device="cuda"), nearest_neighbours(features, 30))


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (np.zeros((0, 4), np.float32), "shape"),
        (np.zeros(4, np.float32), "shape"),
        (np.ones((3, 2), np.int64), "floating"),
        (
            np.array([[1, 0], [np.nan, 0], [np.inf, 1]], np.float32),
            "NaN or infinity in 2 of 3 rows, first in row 1",
        ),
    ],
)
def test_bad_features_are_named(features, words):
    with pytest.raises(ReseenError, match=words):
        nearest_neighbours(features, 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("device", ["cuda", "nowhere"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(ReseenError, match=device):
        nearest_neighbours(np.eye(3, dtype=np.float32), 2, device=device)


def test_k_below_one():
    with pytest.raises(ReseenError, match="k >= 1"):
        nearest_neighbours(np.eye(3, dtype=np.float32), 0)
