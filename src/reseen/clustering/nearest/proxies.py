r"""Stand-ins for features that are cheaper to multiply, with a bound on what they hide.

A proxy y_i of each row x_i comes with a slack s_i such that, for every j,

.. math:: x_i \cdot x_j \le y_i \cdot y_j + s_i,

the product as it is computed. A search over proxies that keeps the largest products therefore knows how similar
the rows can be that it did not keep. Three kinds:

- the rows themselves, in float32: the slack is the rounding of the product;
- the rows in bfloat16, where the CPU multiplies it (four times the rate): by Cauchy and Schwarz the slack is
  \|x_i\| max \|e_j\| + \|e_i\| max \|y_j\|, with e the rounding errors, which are measured;
- z_i = (x_i Q, r_i), with Q the leading directions of the rows and r_i the length of what they miss: again by
  Cauchy and Schwarz, x_i . x_j <= z_i . z_j. Any orthonormal Q is right; a good one lets a few hundred numbers
  stand for thousands.

Rounding of float32 sums of D terms is taken as D units of roundoff times both lengths, which no order of summation
exceeds; that of the projection as the same again, of which it stays far below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reseen.device import resolve_precision

UNIT_ROUNDOFF = 2.0**-24  # float32
HALF_ROUNDOFF = 2.0**-9  # bfloat16
HALF_SPEED = 4.0  # products a second in bfloat16 against float32, where the CPU has it
WORTHWHILE = 4096  # rows from which a sample is worth its time
PROJECT = 16384  # rows from which finding directions is
DIRECTIONS = (256, 512)  # numbers in a projected row, the last of them r
PROBES, LEARNT_FROM = 64, 2048  # rows of the two samples


@dataclass(frozen=True)
class Proxies:
    """``rows`` ``[M, d]``, bfloat16 or float32; ``slack`` float64 ``[M]``."""

    rows: Tensor
    slack: NDArray[np.float64]


def exact_proxies(features: Tensor) -> Proxies:
    """The rows ``[M, D]`` themselves."""
    lengths = features.norm(dim=1).cpu().double().numpy()
    return Proxies(features, _rounding(features.shape[1]) * lengths * lengths.max())


def cheapest_proxies(features: Tensor, width: int, k: int) -> Proxies:
    """The proxies over which lists of ``width`` candidates prove the k nearest of most rows at the least cost.

    What each kind would prove is tried on a few rows against all; costs are counted in products, with a row that is
    not proven paid for by a search of its own. Only speed depends on this choice, and it draws no random numbers
    that others would miss.

    Args:
        features: float32 rows ``[M, D]`` on the CPU.
    """
    count, dim = features.shape
    best, least = exact_proxies(features), 1.0
    if count < WORTHWHILE:
        return best
    half = resolve_precision(features.device, "auto") == "bf16"
    random = np.random.default_rng(0)
    probes = torch.from_numpy(np.sort(random.choice(count, min(PROBES, count), replace=False)))
    nearest = torch.mm(features[probes], features.T).topk(min(k, count), dim=1).values[:, -1:]
    sample = torch.from_numpy(np.sort(random.choice(count, min(LEARNT_FROM, count), replace=False)))
    for rows in _shorter_first(features, sample, whole=half):
        products = rows.shape[1] / dim / (HALF_SPEED if half else 1)
        if products >= least:
            continue
        found = half_proxies(rows, dim) if half else Proxies(rows, 2 * exact_proxies(features).slack)
        within = torch.mm(found.rows[probes], found.rows.T).float()
        within += torch.from_numpy(found.slack[probes.numpy()]).float()[:, None]
        unproven = float(((within >= nearest).sum(dim=1) >= width).float().mean())
        if products + 2 * unproven < least:
            best, least = found, products + 2 * unproven
    return best


def _shorter_first(features: Tensor, sample: Tensor, *, whole: bool) -> Iterator[Tensor]:
    """The rows in few numbers, in more, and all of them."""
    count, dim = features.shape
    lengths = [d for d in DIRECTIONS if 2 * d <= dim and count >= PROJECT]
    if lengths:
        basis = leading_directions(features[sample], max(lengths))
        for length in lengths:
            yield projected(features, basis[:, : length - 1])
    if whole:
        yield features


def half_proxies(rows: Tensor, dim: int) -> Proxies:
    """Rows ``[M, d]`` in bfloat16; ``dim`` is the length of the sums behind them."""
    short = rows.to(torch.bfloat16)
    errors = torch.cat([(a - b.float()).norm(dim=1) for a, b in _chunks(rows, short)]).double().numpy()
    lengths = torch.linalg.vector_norm(rows, dim=1).double().numpy()
    errors, longest = errors * (1 + 2**-6), float(lengths.max()) * (1 + 2**-6)
    product = HALF_ROUNDOFF + 2 * _rounding(dim)  # the product itself is rounded to bfloat16
    return Proxies(short, lengths * errors.max() + errors * longest + product * lengths * longest)


def projected(features: Tensor, basis: Tensor) -> Tensor:
    """(x Q, r) for rows ``[M, D]`` and orthonormal columns ``[D, d - 1]``: ``[M, d]``. r is rounded up."""
    inside = torch.mm(features, basis)
    squares = torch.einsum("md,md->m", features, features)
    rest = squares - torch.einsum("md,md->m", inside, inside)
    rest = rest.clamp(min=0) + 2 * _rounding(features.shape[1]) * squares
    return torch.cat([inside, rest.sqrt()[:, None]], dim=1)


def leading_directions(sample: Tensor, count: int) -> Tensor:
    """About the first ``count`` right singular vectors of ``[m, D]``, strongest first: ``[D, count]``.

    Randomised subspace iteration (Halko et al. 2011, arXiv:0909.4061), one round.
    """
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(sample.shape[1], count, generator=generator)
    for _ in range(2):
        basis = torch.linalg.qr(torch.mm(sample.T, torch.mm(sample, basis))).Q
    inside = torch.mm(sample, basis)
    _, vectors = torch.linalg.eigh(torch.mm(inside.T, inside))
    directions: Tensor = torch.linalg.qr(torch.mm(basis, vectors.flip(1)).double()).Q.float()
    return directions


def _rounding(terms: int) -> float:
    """Of a float32 sum of products of two unit rows; twice, so that rounding the result comes on top."""
    return 2 * terms * UNIT_ROUNDOFF


def _chunks(rows: Tensor, short: Tensor) -> zip[tuple[Tensor, Tensor]]:
    return zip(torch.split(rows, 4096), torch.split(short, 4096), strict=True)
