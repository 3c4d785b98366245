r"""k-reciprocal Jaccard distance (Zhong et al. 2017, arXiv:1701.08398), in the form SpCL uses, kept sparse.

Notation: N(i, k) is the list of the k most similar rows of row i, itself included where it belongs. With
h = round(k1 / 2) + 1,

1. reciprocal neighbours R(i, k) = { j in N(i, k) : i in N(j, k) };
2. expansion: R*(i) = R(i, k1) joined with each R(q, h), q in R(i, k1), of which more than two thirds
   already lie in R(i, k1);
3. weights V_ij = exp(-(2 - 2 cos(x_i, x_j))) for j in R*(i), scaled to sum 1; 0 elsewhere;
4. query expansion: V_i becomes the mean of V_q over q in N(i, k2); left out for k2 = 1;
5. m_ij = sum_l min(V_il, V_jl) and d_ij = 1 - m_ij / (2 - m_ij), negatives raised to 0.

Step 1 takes k1 neighbours with self, where re-ranking for retrieval takes k1 + 1 (docs/methods/cacl.md). The
distance of two rows without a common l is exactly 1, so only the others are ever formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from reseen.clustering.nearest import as_features, nearest_neighbours
from reseen.clustering.overlap import distances_of_pairs
from reseen.clustering.weights import Csr, Floats, reciprocal_weights
from reseen.errors import ReseenError

UNIT_TOLERANCE = 1e-2  # on the length of a row; half precision stays well inside


@dataclass(frozen=True)
class JaccardGraph:
    """The weights V of all rows after query expansion: everything from which a distance follows.

    Attributes:
        weights: float32 ``[M, M]``, sparse; row i is V_i, sums to 1.
    """

    weights: csr_array

    def distances(self, max_distance: float | None = None) -> csr_array:
        """Distances of all pairs that are nearer than 1, and at most ``max_distance`` apart if that is given.

        Returns:
            float32 ``[M, M]``, symmetric, columns sorted, the diagonal stored as explicit 0. An absent
            entry is 1, or farther than ``max_distance`` (compared in float32, as scikit-learn does).
        """
        limit = 1.0 if max_distance is None else max_distance
        return distances_of_pairs(self._csr(), self.weights.shape[1], limit)

    def within(self, labels: Any) -> csr_array:
        """Exact distances between the members of each cluster: what the refinement needs (CACL, Eq. 1).

        Args:
            labels: int ``[M]``, -1 for outliers.

        Returns:
            float32 ``[M, M]`` as from :meth:`distances`, uncut. Stored: pairs of one cluster that are
            nearer than 1, and the whole diagonal. An absent entry between two members is 1; others are not
            known.
        """
        labels = np.asarray(labels)
        count = self.weights.shape[0]
        if labels.shape != (count,):
            raise ReseenError(f"{count} rows need as many labels, not {labels.shape}")
        members = np.flatnonzero(labels >= 0)
        members = members[np.argsort(labels[members], kind="stable")]
        _, sizes = np.unique(labels[members], return_counts=True)
        ends = np.repeat(np.cumsum(sizes), sizes).astype(np.int64)
        pointers, indices, data = self._csr()
        lengths = np.diff(pointers)[members]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        take = np.repeat(pointers[:-1][members] - starts[:-1], lengths) + np.arange(starts[-1])
        grouped = distances_of_pairs((starts, indices[take], data[take]), count, 1.0, ends)
        outliers = np.flatnonzero(labels < 0)  # these have their diagonal only
        stacked = csr_array(
            (
                np.concatenate([grouped.data, np.zeros(len(outliers), dtype=np.float32)]),
                np.concatenate([members[grouped.indices], outliers]),
                np.concatenate([grouped.indptr, grouped.indptr[-1] + 1 + np.arange(len(outliers))]),
            ),
            shape=(count, count),
        )
        return stacked[np.argsort(np.concatenate([members, outliers]))]

    def _csr(self) -> Csr:
        return (
            self.weights.indptr.astype(np.int64),
            self.weights.indices.astype(np.int32),
            self.weights.data,
        )


def jaccard_graph(
    features: Any,
    *,
    k1: int = 30,
    k2: int = 6,
    neighbours: tuple[Any, Any] | None = None,
    device: torch.device | str | None = None,
) -> JaccardGraph:
    """Steps 1 to 4: neighbour lists to weights.

    Args:
        features: L2-normalised rows ``[M, D]``, array or tensor. Fewer than k1 rows are fine: all are
            neighbours.
        k1: length of the neighbour lists, self included; at least 1.
        k2: rows averaged in the query expansion; 1 leaves it out.
        neighbours: a ready list, ``indices`` and ``similarities`` ``[M, min(k1, M)]`` best first, as
            :func:`~reseen.clustering.nearest_neighbours` returns it or another search would rank. None searches.
        device: where the neighbour search runs; the rest runs on the CPU.

    Raises:
        ReseenError: shape, NaN or infinity; a row that is not of unit length, a zero row included; k1 or k2
            < 1; neighbours of another shape, or outside 0..M-1.
    """
    if k1 < 1 or k2 < 1:
        raise ReseenError(f"cluster.k1 and cluster.k2 must be at least 1, not {k1} and {k2}")
    rows, tensor = as_features(features)
    lengths = np.sqrt(np.einsum("md,md->m", rows, rows, dtype=np.float64))
    off = np.flatnonzero(np.abs(lengths - 1) > UNIT_TOLERANCE)
    if len(off):
        raise ReseenError(
            f"features must be L2-normalised rows, but row {off[0]} (of {len(off)} such) has length "
            f"{lengths[off[0]]:.4g}: use torch.nn.functional.normalize, and leave out rows that are all zero"
        )
    indices, similarities = (
        nearest_neighbours(tensor, k1, device=device)
        if neighbours is None
        else _as_lists(*neighbours, count=len(rows), listed=min(k1, len(rows)))
    )
    ranking = indices.astype(np.int32)
    pointers, columns, data = reciprocal_weights(rows, ranking, similarities, k1=k1, k2=k2)
    count = len(rows)
    return JaccardGraph(csr_array((data, columns, pointers), shape=(count, count)))


def _as_lists(
    indices: Any, similarities: Any, *, count: int, listed: int
) -> tuple[NDArray[np.int64], Floats]:
    """A neighbour list from elsewhere, checked."""
    names = torch.as_tensor(indices).cpu().numpy()
    values = torch.as_tensor(similarities).to(torch.float32).cpu().numpy()
    if names.shape != (count, listed) or values.shape != names.shape:
        raise ReseenError(
            f"neighbours of {count} rows must be indices and similarities of shape [{count}, {listed}], "
            f"not {list(names.shape)} and {list(values.shape)}"
        )
    if names.min() < 0 or names.max() >= count:
        raise ReseenError(f"neighbours must be rows 0 to {count - 1}, not {names.min()} to {names.max()}")
    return names.astype(np.int64), values


def jaccard_distance(
    features: Any,
    *,
    k1: int = 30,
    k2: int = 6,
    max_distance: float | None = None,
    device: torch.device | str | None = None,
) -> csr_array:
    """k-reciprocal Jaccard distance of all rows to all rows, sparse.

    Args:
        features, k1, k2, device: see :func:`jaccard_graph`.
        max_distance: leave out pairs farther apart than this. Uncut, a row holds about 2,000 entries at M =
            13,000, against 15 when cut at 0.6.

    Returns:
        float32 ``[M, M]``, symmetric, see :meth:`JaccardGraph.distances`.

    Raises:
        ReseenError: see :func:`jaccard_graph`.
    """
    return jaccard_graph(features, k1=k1, k2=k2, device=device).distances(max_distance)
