"""Exactness: whatever lies in a gallery, the answer is that of inner products in float64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from galleries import oracle, some_features
from reseen.errors import ReseenError
from reseen.gallery import scoring
from reseen.gallery.rows import unit
from reseen.gallery.scoring import nearest, off_by, similarities


def blocks_of(features: NDArray[np.float32], cuts: list[int]) -> list[NDArray[np.uint16]]:
    return [part.view(np.uint16) for part in np.split(features.astype(np.float16), sorted(cuts)) if len(part)]


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"], scope="module")
def narrow(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever the processor has, many queries are compared in float32, and in bfloat16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reseen.gallery.scoring.BFLOAT16", request.param)
        yield


@pytest.mark.usefixtures("narrow")
@given(st.data())
def test_random_galleries_are_answered_exactly(data: st.DataObject) -> None:
    """Copies and near copies, one or many blocks and queries, some rows or all, k up to more than there are."""
    dim, count = data.draw(st.integers(1, 70)), data.draw(st.integers(0, 40))
    draw = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    distinct = draw.standard_normal((max(1, count // data.draw(st.integers(1, 6))), dim)) + 1e-3
    near = data.draw(st.sampled_from([0.0, 1e-4, 0.3]))
    rows = distinct[draw.integers(0, len(distinct), count)] + near * draw.standard_normal((count, dim))
    features, queries = (
        unit(rows.reshape(count, dim)),
        unit(draw.standard_normal((data.draw(st.integers(1, 4)), dim))),
    )
    passes = draw.random(count) < data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    chosen = None if data.draw(st.booleans()) else np.flatnonzero(passes)
    blocks = blocks_of(features, [data.draw(st.integers(0, count)) for _ in range(3)])
    k = data.draw(st.integers(1, 45))
    found = nearest(blocks, queries, k, chosen)
    for query, (places, scores) in zip(queries, found, strict=True):
        expected = oracle(features, query, k, None if chosen is None else passes)
        assert list(zip(places.tolist(), scores.tolist(), strict=True)) == expected
        every = similarities(blocks, query, chosen)
        assert sorted(every.tolist(), reverse=True)[:k] == [score for _, score in expected]


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("threads", [1, 2])
def test_many_rows_threads_and_queries_that_do_not_fit_at_once(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reseen.gallery.scoring.SCORES", 40_000)  # three queries at a time
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    features, queries = some_features(12_000, dim=16), some_features(7, seed=1, dim=16)
    blocks = blocks_of(features, [100, 9000])
    passes = np.random.default_rng(2).random(12_000) < 0.4
    for some in (queries, queries[:1]):
        for which in (None, passes):
            found = nearest(blocks, some, 20, None if which is None else np.flatnonzero(which))
            for query, (places, scores) in zip(some, found, strict=True):
                expected = oracle(features, query, 20, which)
                assert list(zip(places.tolist(), scores.tolist(), strict=True)) == expected


@pytest.mark.parametrize("narrow", [False, True])
def test_no_score_is_further_off_than_it_may_be(narrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a row whose numbers are all rounded down: in bfloat16 nothing is between 1 and 1 + 2^-7."""
    monkeypatch.setattr("reseen.gallery.scoring.BFLOAT16", narrow)
    level = np.full((1, 64), 0.125 * (1 + 3 * 2**-10), np.float32)
    rows, queries = np.concatenate([level, some_features(500, dim=64)]), some_features(30, seed=1, dim=64)
    queries[0] = level
    (block,) = blocks_of(rows, [])
    scores = np.empty((len(queries), len(rows)), np.float32)
    scoring._score_many(block, np.arange(len(rows)), queries, scores)
    off = abs(scores - queries.astype(np.float64) @ block.view(np.float16).astype(np.float64).T)
    assert off.max() <= off_by(64, narrow=narrow)
    assert off.max() > off_by(64) or not narrow  # it is compared as it says


@pytest.mark.parametrize("dim", [1, 64, 2048])
def test_the_bound_is_that_of_its_proof_and_hardly_more(dim):
    """Wide enough is what answers need; wider would only be slower, of which no answer tells."""
    for terms, bound in [
        (dim / 2**24, off_by(dim)),
        (dim / 2**24 + 3 / 2**8, off_by(dim, narrow=True)),
    ]:
        assert 1.01 * terms < bound < 1.02 * terms


def test_what_no_feature_is() -> None:
    for wrong in ([[0.0, 0.0]], [[np.nan, 1.0]], [1.0, 2.0], [["a"]], [[1, 2]], np.zeros((3, 0), np.float32)):
        with pytest.raises(ReseenError, match=r"^feature[^\n]+$"):
            unit(wrong)
    np.testing.assert_allclose(unit(np.array([[3e20, 4e20]], np.float32)), [[0.6, 0.8]], atol=1e-7)
    assert unit(np.zeros((0, 4), np.float32)).shape == (0, 4)
