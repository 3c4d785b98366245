"""How sure a similarity is: a calibrated likelihood ratio, and the probability that it means under a prior.

A likelihood ratio says how many times more often persons that are the same reach a similarity than persons that are
not. It belongs to a model. A probability also needs a prior, which belongs to a gallery: how many of its pairs are of
the same person. The ratio is fitted by isotonic regression, as usual for scores that must only keep their order
(Zadrozny and Elkan 2002); the prior is the one under which the gallery's own ratios are most likely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, isotonic_regression
from scipy.special import expit
from torch import Tensor

from reseen.errors import ReseenError
from reseen.records import Labels

BINS = 400  # of similarity, -1 to 1
PAIRS = 2**22  # compared at once
PRIOR_ROWS = 1_000  # compared with all others for a prior
MIN_CLUSTERS = 30  # with images of two groups (cameras): with fewer there are no digits
# Least probability of each word: the IPCC's scale (Mastrandrea et al. 2010), whose ends are more than is measured here
WORDS = (
    *((0.9, "very likely"), (0.66, "likely"), (0.33, "about as likely as not")),
    *((0.1, "unlikely"), (0.0, "very unlikely")),
)

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Sure = Callable[
    [ArrayLike], tuple[Floats, Floats, Floats]
]  # of similarities: probability, and ends of its interval


@dataclass(frozen=True)
class PairCounts:
    """Pairs across groups by the cluster of their first image and the bin of their similarity, each ``[K, BINS]``."""

    same: Counts
    different: Counts


def bin_of(similarity: Any) -> NDArray[np.int64]:
    """The bin ``0..BINS-1`` of each similarity; what lies outside of -1 to 1 by rounding is in the last one."""
    return np.clip((np.asarray(similarity, dtype=np.float64) + 1) * (BINS / 2), 0, BINS - 1).astype(np.int64)


def in_words(probability: float) -> str:
    """What a probability means, as a word beside its digits."""
    return next(word for least, word in WORDS if probability >= least)


def in_percent(probability: float) -> str:
    """Its digits, without the sign: never 0 or 100, which nothing is."""
    return "<1" if probability < 0.01 else ">99" if probability > 0.99 else f"{100 * probability:.0f}"


def count_pairs(
    features: Tensor, labels: Labels, groups: Labels, *, anchors: int = 4_000, seed: int = 0
) -> PairCounts:
    """Count the pairs of images of different ``groups`` (cameras) that have the same label, and those that have not.

    Args:
        features: ``[M, D]``, rows of length 1.
        labels: ``[M]``; outliers (-1) are in no pair, since nobody says whom they show.
        groups: ``[M]``; -1 is unknown, and in no pair.
        anchors: images that are compared with all others, about: whole clusters are drawn until there are as many.
    """
    usable = np.flatnonzero((labels >= 0) & (groups >= 0))
    features, groups = features[torch.from_numpy(usable)].float(), groups[usable]
    names, clusters = np.unique(labels[usable], return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    sizes = np.bincount(clusters, minlength=len(names))[order]
    chosen = np.zeros(len(names), dtype=bool)
    chosen[order[: np.searchsorted(np.cumsum(sizes), anchors) + 1]] = True
    first = np.flatnonzero(chosen[clusters])

    cluster_of, group_of = torch.from_numpy(clusters), torch.from_numpy(groups)
    place = torch.from_numpy(np.cumsum(chosen) - 1)  # of a chosen cluster among them
    counts = torch.zeros(2, int(chosen.sum()) * BINS, dtype=torch.int64)
    for start in range(0, len(first), block := max(1, PAIRS // max(1, len(features)))):
        rows = torch.from_numpy(first[start : start + block])
        similarity = features[rows] @ features.T
        cells = place[cluster_of[rows, None]] * BINS + torch.from_numpy(bin_of(similarity))
        across = group_of[rows, None] != group_of
        same = cluster_of[rows, None] == cluster_of
        for row, kind in enumerate((across & same, across & ~same)):
            counts[row] += torch.bincount(cells[kind], minlength=counts.shape[1])
    same, different = counts.reshape(2, -1, BINS).numpy()
    return PairCounts(same, different)


@dataclass(frozen=True)
class Calibration:
    """The logarithm of the likelihood ratio of each bin of similarity ``[BINS]``; ``low`` and ``high`` enclose the
    middle 95 % of a bootstrap over clusters. ``clusters``: how many had images of two groups. ``groups``: what the
    pairs lie across, in words."""

    log_ratio: Floats
    low: Floats
    high: Floats
    clusters: int
    groups: str

    def probability(self, similarity: ArrayLike, prior: float) -> tuple[Floats, Floats, Floats]:
        """That two images show the same person, for each similarity, with the ends of its interval.

        ``prior``: the share of the gallery's pairs that do (:func:`fitted_prior`). The interval is that of the ratio;
        what the prior misses is not in it.
        """
        bins, odds = bin_of(similarity), np.log(prior) - np.log1p(-prior)
        value, low, high = (expit(odds + ratio[bins]) for ratio in (self.log_ratio, self.low, self.high))
        return value, low, high

    def prior_of(self, similarity: ArrayLike) -> float:
        """The share of a gallery's pairs ``[n]`` that show the same person, by their similarities alone."""
        return fitted_prior(self.log_ratio, np.bincount(bin_of(similarity).ravel(), minlength=BINS))

    def as_json(self) -> dict[str, Any]:
        ratios = {name: np.round(getattr(self, name), 4).tolist() for name in ("log_ratio", "low", "high")}
        return {**ratios, "clusters": self.clusters, "groups": self.groups}

    @classmethod
    def from_json(cls, tree: Any) -> Calibration:
        """Inverse of :meth:`as_json`. Raises ReseenError where it is something else."""
        try:
            ratio, low, high = np.array([tree[name] for name in ("log_ratio", "low", "high")], np.float64)
            if ratio.shape != (BINS,) or not np.isfinite([ratio, low, high]).all():
                raise ValueError
            return cls(ratio, low, high, int(tree["clusters"]), str(tree["groups"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ReseenError(
                "the calibration is damaged: make it again with reseen report RUN --data PATH"
            ) from error


def spread(count: int, most: int) -> NDArray[np.int64]:
    """``most`` of ``count`` places, spread evenly; all where there are fewer."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))


def across(first: Labels, second: Labels) -> NDArray[np.bool_]:
    """Which pairs ``[n, m]`` of images lie across groups (cameras); where no two are known (0 or above), all do."""
    groups = np.unique(np.concatenate([first, second]))
    if (groups >= 0).sum() < 2:
        return np.ones((len(first), len(second)), dtype=bool)
    apart: NDArray[np.bool_] = first[:, None] != second
    return apart


def group_probabilities(calibration: Calibration, features: Tensor, labels: Labels, groups: Labels) -> Floats:
    """For each image ``[M]``: that it shows the same person as another one of its cluster, on average; nan for who is
    alone. The prior is that of ``features`` ``[M, D]`` (unit rows): of an even sample against all, across ``groups``
    (cameras) where two are known.
    """
    sample = spread(len(labels), PRIOR_ROWS)
    similarity = (features[torch.from_numpy(sample)] @ features.T).numpy()
    others = sample[:, None] != np.arange(len(labels))
    prior = calibration.prior_of(similarity[others & across(groups[sample], groups)])
    result = np.full(len(labels), np.nan)
    for label in np.unique(labels[labels >= 0]):
        rows = np.flatnonzero(labels == label)
        if len(rows) > 1:
            members = features[torch.from_numpy(rows)]
            probability = calibration.probability((members @ members.T).numpy(), prior)[0]
            result[rows] = (probability.sum(1) - probability.diagonal()) / (len(rows) - 1)
    return result


def fit_calibration(counts: PairCounts, *, groups: str, replicas: int = 200, seed: int = 0) -> Calibration:
    """The ratio of each similarity, never falling, from counted pairs.

    Raises:
        ReseenError: fewer than :data:`MIN_CLUSTERS` clusters have a pair.
    """
    paired = counts.same.sum(1) > 0
    if paired.sum() < MIN_CLUSTERS:
        raise ReseenError(
            f"{paired.sum()} clusters hold images of two {groups}: a probability needs {MIN_CLUSTERS} of them"
        )
    same, different = counts.same.astype(np.float64), counts.different.astype(np.float64)
    draws = np.random.default_rng(seed).multinomial(len(same), np.full(len(same), 1 / len(same)), replicas)
    ratios = np.array(
        [log_ratios(draw @ same, draw @ different) for draw in draws if (draw @ same).any()], dtype=np.float64
    )
    low, high = np.quantile(ratios, (0.025, 0.975), axis=0)
    return Calibration(log_ratios(same.sum(0), different.sum(0)), low, high, int(paired.sum()), groups)


def log_ratios(same: Floats, different: Floats) -> Floats:
    """Logarithm of P(bin | same) / P(bin | different), made monotone; each ``[BINS]``.

    Isotonic regression of the posterior under even odds. One pair of each kind is added at the far end of the scale, so
    that no ratio is infinite: a thousand pairs without an error do not say that there is none.
    """
    same, different = same.copy(), different.copy()
    same[0] += 1
    different[-1] += 1
    likelihoods = same / same.sum(), different / different.sum()
    weight = likelihoods[0] + likelihoods[1]
    seen = weight > 0
    posterior = isotonic_regression(likelihoods[0][seen] / weight[seen], weights=weight[seen]).x
    probability = np.interp(np.arange(BINS), np.flatnonzero(seen), posterior)
    return np.asarray(np.log(probability) - np.log1p(-probability), dtype=np.float64)


def fitted_prior(log_ratio: ArrayLike, weight: ArrayLike | None = None) -> float:
    """The share of pairs of the same person under which these ratios ``[n]`` are most likely; needs no labels.

    The likelihood of a mixture in its one weight is concave: its derivative crosses zero once at most (Saerens, Latinne
    and Decaestecker 2002 climb to the same point by EM). Between one pair in all of them and a half.
    """
    ratio = np.exp(np.asarray(log_ratio, dtype=np.float64)) - 1
    count = np.ones_like(ratio) if weight is None else np.asarray(weight, dtype=np.float64)

    def slope(share: float) -> float:
        return float((count * ratio / (1 + share * ratio)).sum())

    least, most = 1 / max(2.0, float(count.sum())), 0.5
    if slope(least) <= 0:
        return least
    if slope(most) >= 0:
        return most
    return float(np.asarray(brentq(slope, least, most)))


@dataclass(frozen=True)
class Reliability:
    """Of the pairs whose probability lay in each interval of ``edges`` ``[B+1]``: how many ``[B]``, what was said on
    average and what was true; nan where there are none."""

    edges: Floats
    pairs: Counts
    said: Floats
    true: Floats


def reliability(
    probability: ArrayLike,
    same: ArrayLike,
    edges: ArrayLike = (0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99, 1),
) -> Reliability:
    """What was said beside what was true: probabilities ``[n]`` and whether each pair was the same person ``[n]``."""
    said, truth, ends = np.asarray(probability, np.float64), np.asarray(same, np.float64), np.asarray(edges)
    part = np.clip(np.searchsorted(ends, said, side="right") - 1, 0, len(ends) - 2)
    pairs = np.bincount(part, minlength=len(ends) - 1)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(part, weights=w, minlength=len(ends) - 1) / pairs for w in (said, truth)]
    return Reliability(ends.astype(np.float64), pairs, *means)
