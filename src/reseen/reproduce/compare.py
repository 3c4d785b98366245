"""Rows over seeds, differences between rows, and whether what the paper claims holds: from result files alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reseen.metrics.bootstrap import PairedDifference, paired_difference
from reseen.reproduce.results import Result
from reseen.reproduce.tables import Claim, Table

SURE = 0.05  # p of the t-test over seeds
Results = Mapping[str, Sequence[Result]]  # by row, each in the order of the seeds


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over ``seeds`` (n - 1; nan for one) of a share."""

    mean: float
    sd: float
    seeds: int

    def in_percent(self) -> str:
        if self.seeds == 0 or math.isnan(self.mean):
            return "–"
        return f"{100 * self.mean:.1f}" + ("" if math.isnan(self.sd) else f" ± {100 * self.sd:.1f}")


@dataclass(frozen=True)
class Finding:
    """A claim of the paper beside what was measured; ``paper``: its difference in mAP (percent), None: it has none."""

    claim: Claim
    difference: PairedDifference
    paper: float | None

    @property
    def verdict(self) -> str:
        """``yes`` and ``no, the reverse`` also need the t-test over seeds (p < .05); one seed never gives them."""
        sign = self.difference.sign
        if sign == 0:
            return "inside the noise"
        if len(self.difference.by_seed) == 1:
            return "for this seed" if sign > 0 else "the reverse, for this seed"
        sure = self.difference.p_value < SURE
        if sign > 0:
            return "yes" if sure else "likely"
        return "no, the reverse" if sure else "likely the reverse"

    def in_words(self) -> str:
        """``refinement helps: yes, +2.1 ± 0.6 (3 seeds)``."""
        d, seeds = self.difference, len(self.difference.by_seed)
        over = (
            f"± {100 * d.spread:.1f} ({seeds} seeds)"
            if seeds > 1
            else f"[{100 * d.low:+.1f}, {100 * d.high:+.1f}] over queries (one seed)"
        )
        return f"{self.claim.says}: {self.verdict}, {100 * d.mean:+.1f} {over}"


def spread(results: Sequence[Result], column: str, way: str = "last") -> Spread:
    """A score of a row over its seeds, by one way of choosing the epoch."""
    values = [result.scores[way][column] for result in results if column in result.scores.get(way, {})]
    if not values:
        return Spread(float("nan"), float("nan"), 0)
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return Spread(float(np.mean(values)), sd, len(values))


def findings(table: Table, results: Results, data: str) -> list[Finding]:
    """Every claim of the table whose two rows are both there, on the seeds that both have."""
    found = []
    for claim in table.claims:
        better, worse = (
            {result.seed: result for result in results.get(name, ())} for name in (claim.better, claim.worse)
        )
        seeds = sorted(set(better) & set(worse))
        if seeds:
            difference = paired_difference(
                [better[seed].average_precision for seed in seeds],
                [worse[seed].average_precision for seed in seeds],
                same_queries=len({better[seed].about["test_digest"] for seed in seeds}) == 1,
            )
            found.append(Finding(claim, difference, _papers(table, claim, data)))
    return found


def papers_data(table: Table, data: str) -> str:
    """Whose figures stand in the paper's column: this data set's, or where the paper has none, its first one's."""
    return data if any(data in row.paper for row in table.rows.values()) else (table.needs or ("",))[0]


def _papers(table: Table, claim: Claim, data: str) -> float | None:
    of = papers_data(table, data)
    figures = [table.rows[name].paper.get(of) for name in (claim.better, claim.worse)]
    return None if None in figures else round(figures[0][0] - figures[1][0], 2)  # type: ignore[index]
