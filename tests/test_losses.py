"""Losses against loops over the printed formulas, by closed forms, and by what receives a gradient."""

import doctest
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import losses as oracle
from torch.autograd import gradcheck

from reseen import losses

N, K, D = 6, 4, 5
LABELS = torch.tensor([0, 3, 1, 1, 0, 2])
CLUSTERS = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3])  # of centroids by camera
MEMORY_LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 7, -1])


def rows(count, seed=0, *, unit=True, dtype=torch.float64):
    values = torch.randn(count, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (F.normalize(values, dim=1) if unit else values * 3).to(dtype)


def deep(features):
    """As wide as ``features``, with a dimension too many."""
    return features[:, :, None].expand(-1, -1, 2)


# name: (function of the tensor inputs, inputs, oracle on lists, which inputs receive a gradient)
CASES = {
    "instance": (
        losses.instance_loss,
        (rows(N, 1, unit=False), rows(N, 2, unit=False)),
        oracle.instance,
        (True, True),
    ),
    "inter_view": (
        lambda z, u: losses.inter_view_loss(z, u, LABELS),
        (rows(N, 1, unit=False), rows(K, 2, unit=False)),
        lambda z, u: oracle.inter_view(z, u, LABELS.tolist()),
        (True, False),
    ),
    **{
        f"cluster_{gamma}": (
            lambda x, u, gamma=gamma: losses.cluster_loss(x, u, LABELS, temperature=0.2, focal_gamma=gamma),
            (rows(N, 1), rows(K, 2) * 0.8),
            lambda x, u, gamma=gamma: oracle.cluster(x, u, LABELS.tolist(), 0.2, gamma),
            (True, False),
        )
        for gamma in (0.0, 1.0, 2.0, 4.0)
    },
    **{
        f"camera_{hardest}": (
            lambda x, c, hardest=hardest: losses.camera_loss(
                x, c, LABELS, CLUSTERS, temperature=0.2, hardest=hardest
            ),
            (rows(N, 1), rows(8, 2) * 0.9),
            lambda x, c, hardest=hardest: oracle.camera(
                x, c, LABELS.tolist(), CLUSTERS.tolist(), 0.2, hardest
            ),
            (True, False),
        )
        for hardest in (2, 50)
    },
    "self_instance": (
        losses.self_instance_loss,
        (rows(N, 1), rows(N, 2)),
        oracle.self_instance,
        (True, True),
    ),
    "inter_instance": (
        losses.inter_instance_loss,
        (rows(N, 1), rows(N, 2)),
        oracle.inter_instance,
        (True, True),
    ),
    "unified_pair": (
        lambda z, m: losses.unified_pair_loss(z, m, LABELS, MEMORY_LABELS, scale=4.0, margin=0.3),
        (rows(N, 1), rows(8, 2)),
        lambda z, m: oracle.unified_pair(z, m, LABELS.tolist(), MEMORY_LABELS.tolist(), 4.0, 0.3),
        (True, False),
    ),
    "nt_xent": (
        lambda a, b: losses.nt_xent_loss(a, b, temperature=0.3),
        (rows(N, 1, unit=False), rows(N, 2, unit=False)),
        lambda a, b: oracle.nt_xent(a, b, 0.3),
        (True, True),
    ),
}
each_loss = pytest.mark.parametrize(("loss", "inputs", "expected", "gradients"), CASES.values(), ids=CASES)


@each_loss
def test_equals_the_printed_formula(loss, inputs, expected, gradients):
    value = loss(*inputs)
    assert value.shape == ()
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(expected(*(tensor.tolist() for tensor in inputs)), rel=1e-12)


@each_loss
def test_gradient_is_the_derivative_and_reaches_what_it_should(loss, inputs, expected, gradients):
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    loss(*leaves).backward()
    for leaf, wanted in zip(leaves, gradients, strict=True):
        assert (leaf.grad is not None and bool(leaf.grad.abs().sum() > 0)) == wanted
    moving = [tensor.clone().requires_grad_(wanted) for tensor, wanted in zip(inputs, gradients, strict=True)]
    assert gradcheck(loss, moving)


@each_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_raised_and_float32_kept(loss, inputs, expected, gradients, dtype):
    lowered = [tensor.to(dtype) for tensor in inputs]
    value = loss(*lowered)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(*(tensor.float() for tensor in lowered)).item())
    with torch.autocast("cpu", dtype=torch.bfloat16):  # the arithmetic stays in float32 there
        assert loss(*lowered).item() == value.item()


@pytest.mark.parametrize("name", ["instance", "self_instance", "inter_instance", "nt_xent"])
def test_order_of_the_rows_does_not_matter(name):
    loss, inputs, _, _ = CASES[name]
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    assert loss(*(tensor[order] for tensor in inputs)).item() == pytest.approx(loss(*inputs).item())


def test_cosines_in_closed_form():
    x = torch.eye(3)
    assert losses.instance_loss(x * 5, x).item() == -1
    assert losses.instance_loss(-x, x * 7).item() == 1
    assert losses.instance_loss(x, x.roll(1, 0)).item() == 0
    assert losses.inter_view_loss(x, 0.1 * x, torch.tensor([0, 1, 1])).item() == pytest.approx(-2 / 3)


@pytest.mark.parametrize("count", [2, 10])
def test_equal_centroids_give_log_k(count):
    centroids = torch.ones(count, D) * 0.1
    value = losses.cluster_loss(rows(N).float(), centroids, torch.arange(N) % count, focal_gamma=0)
    assert value.item() == pytest.approx(math.log(count), rel=1e-5)


def test_focal_weight_by_hand():
    """Two centroids, logits 1 and 0: q = 1 / (1 + 1 / e)."""
    x, centroids, label = torch.tensor([[1.0, 0.0]]), torch.eye(2), torch.tensor([0])
    q = 1 / (1 + math.exp(-1))
    for gamma in (0, 1, 2, 4):
        value = losses.cluster_loss(x, centroids, label, temperature=1.0, focal_gamma=gamma)
        assert value.item() == pytest.approx((1 - q) ** gamma * -math.log(q), rel=1e-5)


def test_cluster_loss_equals_the_release_up_to_its_small_numbers():
    """Exponentials with 1e-6 in their sum and in the logarithm, exponent 4; features near their centroids."""
    centroids = rows(K, 2)
    x = F.normalize(centroids[LABELS] + 0.5 * rows(N, 1), dim=1)
    powers = (x @ centroids.T / 0.05).exp()
    q = (powers / (powers.sum(1, keepdim=True) + 1e-6)).gather(1, LABELS[:, None]) + 1e-6
    released = (-((1 - q) ** 4) * q.log()).mean()
    ours = losses.cluster_loss(x, centroids, LABELS, focal_gamma=4)
    assert ours.item() == pytest.approx(released.item(), abs=1e-3)


def test_renaming_clusters_changes_nothing():
    x, centroids = rows(N, 1), rows(K, 2)
    names = torch.tensor([2, 0, 3, 1])
    moved = torch.empty_like(centroids)
    moved[names] = centroids
    for loss in (losses.cluster_loss, losses.inter_view_loss):
        assert loss(x, moved, names[LABELS]).item() == pytest.approx(loss(x, centroids, LABELS).item())


def test_instance_memory_form_of_spcl():
    """With means over a constant memory the loss is a softmax of mean similarities to members."""
    x, memory, owner = rows(N, 1), rows(12, 2), torch.arange(12) % K
    means = torch.stack([memory[owner == cluster].mean(0) for cluster in range(K)])
    similarity = torch.stack([(x @ memory[owner == cluster].T).mean(1) for cluster in range(K)], dim=1)
    expected = F.cross_entropy(similarity / 0.05, LABELS)
    assert losses.cluster_loss(x, means, LABELS, focal_gamma=0).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_far_ends_stay_finite(gamma, sign):
    """q = 1 and q = 0 in float32 at the papers' temperature and far beyond."""
    x = torch.eye(2).requires_grad_()
    for temperature in (0.05, 1e-4):
        value = losses.cluster_loss(
            x, sign * torch.eye(2), torch.tensor([0, 1]), temperature=temperature, focal_gamma=gamma
        )
        (gradient,) = torch.autograd.grad(value, x)
        assert value.isfinite()
        assert gradient.isfinite().all()


def test_r_siamnet_in_closed_form():
    x = rows(N, 1)
    assert losses.self_instance_loss(x, x).item() == pytest.approx(0, abs=1e-12)
    assert losses.self_instance_loss(x, -x).item() == pytest.approx(2)
    assert losses.inter_instance_loss(x, x).item() == 0
    a, b = rows(N, 1), rows(N, 2)
    assert losses.inter_instance_loss(a, b).item() == pytest.approx(losses.inter_instance_loss(b, a).item())
    assert losses.inter_instance_loss(a, b).item() > 0
    # one positive and one negative at equal similarity: log(1 + e^(scale * margin))
    memory = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    value = losses.unified_pair_loss(memory[:1], memory, torch.tensor([5]), torch.tensor([5, 6]))
    assert value.item() == pytest.approx(math.log1p(math.exp(1.6)), rel=1e-6)


@pytest.mark.parametrize("memory_labels", [[5, 5, 5], [1, 2, 3]])
def test_pair_loss_without_positives_or_negatives_is_zero(memory_labels):
    features = rows(1, 1, dtype=torch.float32).requires_grad_()
    value = losses.unified_pair_loss(
        features, rows(3, 2).float(), torch.tensor([5]), torch.tensor(memory_labels)
    )
    value.backward()
    assert value.item() == 0
    assert features.grad.tolist() == [[0.0] * D]


def test_nt_xent_in_closed_form():
    one = torch.ones(1, D)
    assert losses.nt_xent_loss(one, one, temperature=0.5).item() == 0
    same = torch.ones(4, D)  # nobody can be told apart: log(2N - 1)
    assert losses.nt_xent_loss(same, same, temperature=0.5).item() == pytest.approx(math.log(7))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 7), st.integers(1, 12), st.integers(0, 1000))
def test_any_shape(count, clusters, dim, seed):
    generator = torch.Generator().manual_seed(seed)
    x = F.normalize(torch.randn(count, dim, generator=generator, dtype=torch.float64), dim=1)
    u = torch.randn(clusters, dim, generator=generator, dtype=torch.float64)
    labels = torch.randint(clusters, (count,), generator=generator)
    value = losses.cluster_loss(x, u, labels, temperature=0.5)
    assert value.item() == pytest.approx(
        oracle.cluster(x.tolist(), u.tolist(), labels.tolist(), 0.5, 2.0), abs=1e-12
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: losses.cluster_loss(x, x, LABELS[:3]), "as many labels"),
        (lambda x: losses.cluster_loss(x, x[:, :2], LABELS), "share D"),
        (lambda x: losses.cluster_loss(x, x, LABELS - 1), r"outliers \(-1\)"),
        (lambda x: losses.cluster_loss(x, x[:2], LABELS), "0 to 3, but 2 centroids"),
        (lambda x: losses.inter_view_loss(x, x[:2], LABELS), "0 to 3, but 2 centroids"),
        (lambda x: losses.cluster_loss(x, x, LABELS, temperature=0), "temperature"),
        (lambda x: losses.cluster_loss(x, x, LABELS, focal_gamma=0.5), "focal_gamma"),
        (lambda x: losses.cluster_loss(x, x, LABELS, focal_gamma=-2), "focal_gamma"),
        (lambda x: losses.cluster_loss(x[0], x, LABELS), "share D"),
        (lambda x: losses.cluster_loss(deep(x), x, LABELS), "share D"),
        (lambda x: losses.cluster_loss(x, deep(x), LABELS), "share D"),
        (lambda x: losses.camera_loss(x[:, :2], x, LABELS, LABELS), "share D"),
        (lambda x: losses.camera_loss(x, x[:, :2], LABELS, LABELS), "share D"),
        (lambda x: losses.camera_loss(deep(x), x, LABELS, LABELS), "share D"),
        (lambda x: losses.camera_loss(x, deep(x), LABELS, LABELS), "share D"),
        (lambda x: losses.camera_loss(x, x, LABELS[:2], LABELS), "one label each"),
        (lambda x: losses.camera_loss(x, x, LABELS, LABELS[:2]), "one label each"),
        (lambda x: losses.camera_loss(x[:0], x, LABELS[:0], LABELS), "one label each"),
        (lambda x: losses.camera_loss(x, x, LABELS - 1, LABELS), r"outliers \(-1\)"),
        (lambda x: losses.camera_loss(x, x, LABELS, LABELS, temperature=0), "temperature"),
        (lambda x: losses.camera_loss(x, x, LABELS, LABELS, hardest=-1), "hardest"),
        (lambda x: losses.nt_xent_loss(x, x, temperature=0), "temperature"),
        (lambda x: losses.instance_loss(x[0], x[0]), "N, D"),
        (lambda x: losses.instance_loss(deep(x), deep(x)), "N, D"),
        (lambda x: losses.instance_loss(x, x[:2]), "N, D"),
        (lambda x: losses.instance_loss(x[:0], x[:0]), "N >= 1"),
        (lambda x: losses.self_instance_loss(x, x[:2]), "N, D"),
        (lambda x: losses.unified_pair_loss(x, x[:, :2], LABELS, LABELS), "width"),
        (lambda x: losses.unified_pair_loss(deep(x), x, LABELS, LABELS), "width"),
        (lambda x: losses.unified_pair_loss(x, deep(x), LABELS, LABELS), "width"),
        (lambda x: losses.unified_pair_loss(x, x, LABELS, LABELS[:2]), "one label each"),
        (lambda x: losses.unified_pair_loss(x, x, LABELS[:2], LABELS), "one label each"),
    ],
)
def test_wrong_use_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call(rows(N))


def test_docstring_examples():
    results = doctest.testmod(losses, extraglobs={"torch": torch})
    assert results.attempted >= 6
    assert results.failed == 0
