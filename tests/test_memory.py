"""The instance memory: sequential momentum, and the means of clusters."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import losses as oracle

from reseen import memory as module
from reseen.memory import cluster_means, momentum_update


def rows(count, dim=4, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, generator=generator, dtype=torch.float64), dim=1).to(dtype)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 5), max_size=12), st.sampled_from([0.0, 0.1, 0.2, 0.9, 1.0]))
def test_equals_one_row_after_the_other(places, momentum):
    memory, features = rows(6), rows(len(places), seed=1)
    expected = oracle.momentum_update(memory.tolist(), places, features.tolist(), momentum)
    updated = momentum_update(memory, torch.tensor(places, dtype=torch.int64), features, momentum=momentum)
    assert updated is memory
    assert np.abs(memory.numpy() - np.array(expected)).max() < 1e-12


def test_by_hand():
    """momentum weighs the OLD value; the result has unit length; the default is 0.2."""
    memory = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    momentum_update(memory, torch.tensor([0]), torch.tensor([[0.0, 1.0]]))
    expected = torch.tensor([0.2, 0.8]) / (0.2**2 + 0.8**2) ** 0.5
    assert torch.allclose(memory[0], expected)
    assert memory[1].tolist() == [0, 1]


def test_twice_in_a_batch_is_not_one_step_to_the_mean():
    start, features = rows(1), rows(2, seed=1)
    both = momentum_update(start.clone(), torch.tensor([0, 0]), features)
    turned = momentum_update(start.clone(), torch.tensor([0, 0]), features.flip(0))
    mean = momentum_update(start.clone(), torch.tensor([0]), features.mean(0, keepdim=True))
    assert not torch.allclose(both, turned)
    assert not torch.allclose(both, mean)


def test_no_gradient_history_and_any_precision():
    memory, features = rows(3, dtype=torch.float32), rows(2, seed=1, dtype=torch.bfloat16).requires_grad_()
    momentum_update(memory, torch.tensor([2, 0]), features)
    assert memory.dtype == torch.float32
    assert not memory.requires_grad
    assert torch.allclose(memory.norm(dim=1), torch.ones(3))
    momentum_update(
        rows(3).requires_grad_(), torch.tensor([2, 0]), features
    )  # in place, which a gradient forbids


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-1, 5), min_size=1, max_size=20), st.integers(6, 8))
def test_means_equal_the_loop(labels, count):
    memory = rows(len(labels))
    expected = np.array(oracle.cluster_means(memory.tolist(), labels, count))
    means = cluster_means(memory, torch.tensor(labels), count)
    assert np.abs(means.numpy() - expected).max() < 1e-15
    single = cluster_means(memory.float(), torch.tensor(labels), count)
    assert single.dtype == torch.float32
    assert np.abs(single.numpy() - expected).max() < 1e-7


def test_means_on_a_device_are_the_same(monkeypatch):
    """The form for accelerators, run on the CPU: with outliers and with clusters that nobody is in."""
    memory, labels = rows(300), torch.randint(-1, 20, (300,), generator=torch.Generator().manual_seed(2)) * 2
    labels[labels < 0] = -1
    expected = cluster_means(memory, labels, 41)
    order = torch.argsort(labels, stable=True)
    order = order[labels[order] >= 0]
    sizes = torch.bincount(labels[order], minlength=41)
    assert torch.allclose(module._means_on_device(memory, order, sizes), expected, atol=1e-15)
    assert expected[1].tolist() == [0.0] * 4


def test_means_are_equal_bit_by_bit_on_any_number_of_threads():
    memory, labels = rows(4000, 8, dtype=torch.float32), torch.arange(4000) % 900
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = cluster_means(memory, labels, 900)
        torch.set_num_threads(3)
        assert torch.equal(cluster_means(memory, labels, 900), alone)
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_agrees():
    memory, labels = rows(500, 16, dtype=torch.float32), torch.arange(500) % 37 - 1
    expected = cluster_means(memory, labels, 36)
    assert torch.allclose(cluster_means(memory.cuda(), labels, 36).cpu(), expected, atol=1e-6)
    places, features = torch.tensor([3, 3, 9]), rows(3, 16, seed=1, dtype=torch.float32)
    moved = momentum_update(memory.cuda(), places, features.cuda()).cpu()
    assert torch.allclose(moved, momentum_update(memory, places, features), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: momentum_update(m, torch.tensor([0]), m[:2]), "as many rows"),
        (lambda m: momentum_update(m, torch.tensor([0]), m[:1, :2]), "do not fit"),
        (lambda m: momentum_update(m, torch.tensor([0]), m[0]), "do not fit"),
        (lambda m: momentum_update(m, torch.tensor([0]), m[:1, :, None]), "do not fit"),
        (lambda m: momentum_update(m[:, :, None], torch.tensor([0]), m[:1]), "do not fit"),
        (lambda m: momentum_update(m, torch.tensor([-1]), m[:1]), "outside"),
        (lambda m: momentum_update(m, torch.tensor([3]), m[:1]), "outside"),
        (lambda m: momentum_update(m, torch.tensor([5]), m[:1]), "outside"),
        (lambda m: momentum_update(m, torch.tensor([0]), m[:1], momentum=1.2), "OLD|old"),
        (lambda m: momentum_update(m, torch.tensor([0]), m[:1], momentum=-0.1), "OLD|old"),
        (lambda m: cluster_means(m, torch.tensor([0]), 1), "one label a row"),
        (lambda m: cluster_means(m[:, :, None], torch.tensor([0, 1, 2]), 3), "one label a row"),
        (lambda m: cluster_means(m, torch.tensor([0, 1, 2]), 2), "label 2"),
    ],
)
def test_wrong_use_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call(rows(3))
