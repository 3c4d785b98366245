"""Every loss of both papers, a pure function each.

Half precision is raised to float32 on the way in; float32 and float64 are kept. Centroids and memory rows are
constants: no gradient reaches them. What else is a constant is the caller's choice, by ``detach``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def instance_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    r"""Turn each prediction towards its target: negative cosine similarity (CACL, Eq. 2, and 14 for CSCL).

    .. math:: L_I = -\frac{1}{N} \sum_i \frac{z_i^\top}{\|z_i\|} \frac{\tilde x_i}{\|\tilde x_i\|}

    Args:
        predictions: z, shape ``[N, D]``, of any length other than 0.
        targets: the features of the other branch, shape ``[N, D]``. The stop-gradient is the caller's.

    Returns:
        Scalar in [-1, 1], the mean over N.
    """
    predictions, targets = _raise_half(predictions, targets)
    _check_same_rows("predictions", predictions, "targets", targets)
    return -(F.normalize(predictions, dim=1) * F.normalize(targets, dim=1)).sum(dim=1).mean()


def inter_view_loss(predictions: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
    r"""Turn each prediction towards the centroid of its cluster in the other view (CACL, Eq. 3, and 15).

    .. math::
        L_C^{(inter)} = -\frac{1}{N} \sum_i \frac{z_i^\top}{\|z_i\|}
        \frac{\tilde u_{\omega(i)}}{\|\tilde u_{\omega(i)}\|}

    Args:
        predictions: z, shape ``[N, D]``.
        centroids: rows of the other branch's memory averaged by cluster, shape ``[K, D]``, of any length
            other than 0. Constants.
        labels: cluster of each prediction, int64 in ``[0, K)``, shape ``[N]``.

    Returns:
        Scalar in [-1, 1], the mean over N.
    """
    predictions, centroids = _raise_half(predictions, centroids)
    _check_labels(predictions, centroids, labels)
    return instance_loss(predictions, centroids.detach()[labels])


def cluster_loss(
    features: Tensor,
    centroids: Tensor,
    labels: Tensor,
    *,
    temperature: float = 0.05,
    focal_gamma: float = 2.0,
) -> Tensor:
    r"""Pull each feature to the centroid of its cluster and away from all others: one term of CACL's Eq. (5).

    .. math::
        L = \frac{1}{N} \sum_i -(1 - q_i)^{\gamma} \ln q_i, \qquad
        q_i = \operatorname{softmax}_\ell (u_\ell^\top x_i / \tau)_{\omega(i)}  \qquad (6, 7)

    Sources: :math:`\gamma = 2` is CACL (arXiv:2106.07846; its release has 4). :math:`\gamma = 0` with means
        over an instance memory is the unified loss of SpCL (arXiv:2006.02713), because the mean similarity
        to the members is the similarity to their mean; with unit centroids it is ClusterNCE (Cluster
        Contrast, arXiv:2103.11568).

    Args:
        features: L2-normalised rows x, shape ``[N, D]``. The only input that receives a gradient.
        centroids: rows u, shape ``[K, D]``. Constants. Unit length or not is the caller's choice and changes
            the loss: a plain mean (Eq. 4 and 8) gives a loose cluster smaller logits.
        labels: pseudo label of each feature, int64 in ``[0, K)``, shape ``[N]``. Outliers (-1) are left
            out, or given rows of their own, by the caller.
        temperature: tau > 0, no unit.
        focal_gamma: 0 (plain cross-entropy), or at least 1: between them the gradient is infinite at q = 1.

    Returns:
        Scalar, the mean over N in nats. ``log K`` if all centroids are equally near and ``focal_gamma=0``.

    Differs from the releases: no 1e-6 inside the logarithm or the sum (exact log-softmax).

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> cluster_loss(x, x, torch.tensor([0, 1]), temperature=1.0, focal_gamma=0.0)
        tensor(0.3133)
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    if focal_gamma < 0 or 0 < focal_gamma < 1:
        raise ValueError(f"focal_gamma must be 0, or 1 and more, not {focal_gamma}")
    features, centroids = _raise_half(features, centroids)
    _check_labels(features, centroids, labels)
    with torch.autocast(features.device.type, enabled=False):
        logits = features @ centroids.detach().T / temperature  # [N, K]
    log_q = F.log_softmax(logits, dim=1).gather(1, labels[:, None]).squeeze(1)  # [N]
    if focal_gamma == 0:
        return -log_q.mean()
    return (-((-torch.expm1(log_q)) ** focal_gamma) * log_q).mean()


def camera_loss(
    features: Tensor,
    centroids: Tensor,
    labels: Tensor,
    clusters: Tensor,
    *,
    temperature: float = 0.07,
    hardest: int = 50,
) -> Tensor:
    r"""Pull each feature as much to its cluster's centroid in one camera as in another, away from the nearest ones of
    other clusters: the contrast between cameras of CAP (arXiv:2012.10674).

    .. math::
        L = \frac{1}{N} \sum_i - \frac{1}{|P_i|} \sum_{p \in P_i} \ln
        \frac{e^{c_p^\top x_i / \tau}}{\sum_{k \in P_i \cup Q_i} e^{c_k^\top x_i / \tau}}

    with :math:`P_i` the centroids of the cluster of i in all cameras and :math:`Q_i` the ``hardest`` centroids of other
    clusters, those most similar to :math:`x_i`.

    Args:
        features: L2-normalised rows x, shape ``[N, D]``. The only input that receives a gradient.
        centroids: rows c, one for each cluster and camera, shape ``[P, D]``. Constants.
        labels: pseudo label of each feature, int64 ``[N]``; each has a centroid at least.
        clusters: pseudo label of each centroid, int64 ``[P]``.
        temperature: tau > 0, no unit. hardest: as many negatives, or all there are. Both defaults are CAP's.

    Returns:
        Scalar, the mean over N in nats.

    Example:
        >>> centroids = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # of two clusters, in one camera
        >>> camera_loss(centroids[:1], centroids, torch.tensor([5]), torch.tensor([5, 6]), temperature=1.0)
        tensor(0.3133)
    """
    if temperature <= 0 or hardest < 0:
        raise ValueError(f"temperature must be above 0 and hardest at least 0: {temperature}, {hardest}")
    features, centroids = _raise_half(features, centroids)
    if features.ndim != 2 or centroids.ndim != 2 or features.shape[1] != centroids.shape[1]:
        raise ValueError(
            f"features {list(features.shape)} and centroids {list(centroids.shape)} must share D"
        )
    if labels.shape != features.shape[:1] or clusters.shape != centroids.shape[:1] or not len(labels):
        raise ValueError(
            f"{len(features)} features and {len(centroids)} centroids need one label each, "
            f"not {list(labels.shape)} and {list(clusters.shape)}"
        )
    with torch.autocast(features.device.type, enabled=False):
        logits = features @ centroids.detach().T / temperature  # [N, P]
    own = labels[:, None] == clusters[None, :]
    if own.device.type == "cpu" and not bool(own.any(dim=1).all()):
        raise ValueError(
            "a feature's label has no centroid: leave outliers (-1) out, or give each a centroid"
        )
    negatives = logits.masked_fill(own, -torch.inf).topk(min(hardest, len(centroids)), dim=1).values
    among = torch.cat([logits.masked_fill(~own, -torch.inf), negatives], dim=1).logsumexp(dim=1)
    return (among - (logits * own).sum(dim=1) / own.sum(dim=1)).mean()


def self_instance_loss(search: Tensor, instance: Tensor) -> Tensor:
    r"""Make the two paths agree on each person: L_ins of R-SiamNet (arXiv:2109.06109).

    .. math:: L_{ins} = 1 - \frac{1}{n} \sum_i x_i^\top y_i

    Args:
        search: L2-normalised features x of the scene-image path, shape ``[n, D]``. Receives a gradient.
        instance: L2-normalised features y of the cropped-person path, shape ``[n, D]``. Receives one too.

    Returns:
        Scalar in [0, 2].
    """
    search, instance = _raise_half(search, instance)
    _check_same_rows("search", search, "instance", instance)
    return 1 - (search * instance).sum(dim=1).mean()


def inter_instance_loss(search: Tensor, instance: Tensor) -> Tensor:
    r"""Make the two paths agree on who resembles whom: L_int of R-SiamNet.

    .. math::
        L_{int} = \sum_i \mathrm{KL}(Q_i \| P_i) + \mathrm{KL}(P_i \| Q_i), \qquad
        P = \operatorname{softmax}(X X^\top), \quad Q = \operatorname{softmax}(Y Y^\top)

    by row, at temperature 1, the diagonal included. Summed over persons, not averaged: the rows are nearly
    uniform, and the sum is what gives the term its weight.

    Args:
        search: L2-normalised features X of the scene-image path, shape ``[n, D]``. Receives a gradient.
        instance: L2-normalised features Y of the cropped-person path, shape ``[n, D]``. Receives one too.

    Returns:
        Scalar, at least 0, in nats.
    """
    search, instance = _raise_half(search, instance)
    _check_same_rows("search", search, "instance", instance)
    with torch.autocast(search.device.type, enabled=False):
        log_p = F.log_softmax(search @ search.T, dim=1)  # [n, n]
        log_q = F.log_softmax(instance @ instance.T, dim=1)
    return ((log_q.exp() - log_p.exp()) * (log_q - log_p)).sum()  # both directions at once


def unified_pair_loss(
    features: Tensor,
    memory: Tensor,
    labels: Tensor,
    memory_labels: Tensor,
    *,
    scale: float = 16.0,
    margin: float = 0.1,
) -> Tensor:
    r"""Rank the rows of one's own cluster above all other rows: L_clu of R-SiamNet.

    .. math::
        L_{clu} = \frac{1}{n} \sum_i \ln \Big( 1 + \sum_{p \in P_i} e^{-\gamma (s_{ip} - \delta)}
        \sum_{k \in N_i} e^{\gamma s_{ik}} \Big), \qquad s_{ik} = z_i^\top m_k

    with :math:`P_i` the memory rows that share the label of i and :math:`N_i` all the rest: the unified
    pair loss of Circle loss (arXiv:2002.10857) without its weights.

    Args:
        features: rows z, shape ``[n, D]``. The only input that receives a gradient. R-SiamNet joins both
            paths, so that their length is sqrt(2).
        memory: rows m, shape ``[M, D]``. Constants.
        labels: pseudo label of each feature, int64 ``[n]``.
        memory_labels: pseudo label of each memory row, int64 ``[M]``.
        scale: gamma. margin: delta.

    Returns:
        Scalar, the mean over n in nats. A feature without a positive or without a negative row adds 0.
    """
    features, memory = _raise_half(features, memory)
    if features.ndim != 2 or memory.ndim != 2 or features.shape[1] != memory.shape[1]:
        raise ValueError(f"features {list(features.shape)} and memory {list(memory.shape)} differ in width")
    if labels.shape != features.shape[:1] or memory_labels.shape != memory.shape[:1]:
        raise ValueError(
            f"{len(features)} features and {len(memory)} memory rows need one label each, "
            f"not {list(labels.shape)} and {list(memory_labels.shape)}"
        )
    with torch.autocast(features.device.type, enabled=False):
        similarities = features @ memory.detach().T  # [n, M]
    positive = labels[:, None] == memory_labels[None, :]
    # the lowest number and not -inf: with an empty set the term is then 0, and so is its gradient, not NaN
    lowest = torch.finfo(similarities.dtype).min / 4
    positives = (-scale * (similarities - margin)).masked_fill(~positive, lowest).logsumexp(dim=1)
    negatives = (scale * similarities).masked_fill(positive, lowest).logsumexp(dim=1)
    return F.softplus(positives + negatives).mean()


def nt_xent_loss(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    r"""Find the other view of an image among all views of the batch: NT-Xent of SimCLR (arXiv:2002.05709,
    Eq. 1).

    .. math::
        L = -\frac{1}{2N} \sum_{i=1}^{2N}
        \ln \frac{e^{\cos(v_i, v_{i'}) / \tau}}{\sum_{j \ne i} e^{\cos(v_i, v_j) / \tau}}

    where i' is the other view of the image of i.

    Args:
        first, second: two views of N images, shape ``[N, D]`` each, row i of both from image i; of any length
            other than 0. Both receive gradients.
        temperature: tau > 0, no unit.

    Returns:
        Scalar, the mean over 2N views in nats; 0 for N = 1.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> nt_xent_loss(x, x, temperature=1.0)
        tensor(0.5514)
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    first, second = _raise_half(first, second)
    _check_same_rows("first", first, "second", second)
    views = F.normalize(torch.cat([first, second]), dim=1)  # [2N, D]
    with torch.autocast(views.device.type, enabled=False):
        logits = views @ views.T / temperature  # [2N, 2N]
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    partner = torch.arange(len(views), device=views.device).roll(len(first))
    return F.cross_entropy(logits.masked_fill(itself, -torch.inf), partner)


def _raise_half(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Half precision to float32; mixed inputs to the widest of them."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)


def _check_same_rows(name: str, one: Tensor, other_name: str, other: Tensor) -> None:
    if one.ndim != 2 or one.shape != other.shape or len(one) == 0:
        raise ValueError(
            f"{name} {list(one.shape)} and {other_name} {list(other.shape)} must both be [N, D] with N >= 1"
        )


def _check_labels(features: Tensor, centroids: Tensor, labels: Tensor) -> None:
    if features.ndim != 2 or centroids.ndim != 2 or features.shape[1] != centroids.shape[1]:
        raise ValueError(
            f"features {list(features.shape)} and centroids {list(centroids.shape)} must share D"
        )
    if labels.shape != features.shape[:1] or len(labels) == 0:
        raise ValueError(f"{len(features)} features need as many labels, at least one: {list(labels.shape)}")
    # on an accelerator the look would wait for the device at every step
    if labels.device.type == "cpu" and not 0 <= int(labels.min()) <= int(labels.max()) < len(centroids):
        raise ValueError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, but {len(centroids)} centroids are "
            "numbered from 0: leave outliers (-1) out, or give each a centroid"
        )
