"""``python -m reseen.experiments.criteria RUN [RUN ...]``: which label-free criterion follows the test mAP?

An epoch's criteria speak of the features that it began with, so those of epoch e + 1 are paired with the test mAP
after epoch e. The test labels judge the criteria here, after training; no run chooses by them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from reseen.errors import ReseenError
from reseen.experiments.pages.page import Table
from reseen.experiments.reproduce.write import markdown
from reseen.experiments.run_files import at, read_metrics

FEWEST_PAIRS = 4  # of a run: a rank correlation of three is 1 by chance in one of six
BEFORE_CRITERIA = "centroid_margin"  # what runs recorded, as label_free, when there was no other
COLUMNS = (
    "criterion",
    "correlation",
    "sd",
    "runs",
    "left out",
    "pooled",
    "pairs",
    "regret",
    "regret of the last",
)


def criterion_table(histories: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """How well each criterion follows the test mAP: one row a criterion, the highest correlation first.

    Candidates of a run are the epochs e whose test mAP and whose next record are known. A criterion chooses the
    candidate with its highest value in record e + 1, the later one on a tie. For a criterion a run is left out if
    fewer than :data:`FEWEST_PAIRS` candidates have a value, or if one side never changes (no ranks to correlate).

    Args:
        histories: the records of ``metrics.jsonl`` of each run.

    Returns:
        ``criterion``; ``correlation``: mean over runs of Spearman's rank correlation within the run; ``sd``: its
        standard deviation over runs, nan with one; ``runs`` and ``left_out``: how many; ``pooled``: the correlation
        over all ``pairs`` of the runs that count; ``regret``: mean over runs of (highest mAP of all candidates - mAP
        of the chosen one), as a fraction; ``regret_last``: the same for the last candidate. nan where no run counts;
        a criterion that has no value anywhere has no row.
    """
    runs = [_candidates(history) for history in histories]
    names = dict.fromkeys(name for run in runs for candidate in run for name in candidate.criteria)
    rows = [_row(name, runs) for name in names]
    return sorted(rows, key=lambda row: -row["correlation"] if row["runs"] else float("inf"))


@dataclass(frozen=True)
class _Candidate:
    """The network after an epoch: its test mAP, and what the next epoch's record says of its features."""

    mean_ap: float
    criteria: Mapping[str, float]  # known ones


def _candidates(history: Sequence[Mapping[str, Any]]) -> list[_Candidate]:
    """In the order of the epochs."""
    epochs = {int(record["epoch"]): record for record in history}
    found = []
    for epoch in sorted(epochs):
        mean_ap, after = at(epochs[epoch], "test", "mean_ap"), epochs.get(epoch + 1)
        if mean_ap is not None and after is not None:
            criteria = after.get("criteria") or {BEFORE_CRITERIA: after.get("label_free")}
            known = {name: float(value) for name, value in criteria.items() if value is not None}
            found.append(_Candidate(float(mean_ap), known))
    return found


def _row(name: str, runs: Sequence[Sequence[_Candidate]]) -> dict[str, Any]:
    from scipy.stats import spearmanr  # half a second to import

    kept, correlations, regrets, last = [], [], [], []
    for run in runs:
        pairs = np.array([(c.criteria[name], c.mean_ap) for c in run if name in c.criteria]).reshape(-1, 2)
        if len(pairs) < FEWEST_PAIRS or (pairs == pairs[0]).all(axis=0).any():
            continue
        chosen = np.flatnonzero(pairs[:, 0] == pairs[:, 0].max())[-1]
        best = max(candidate.mean_ap for candidate in run)
        kept.append(pairs)
        correlations.append(float(spearmanr(*pairs.T).statistic))
        regrets.append(best - float(pairs[chosen, 1]))
        last.append(best - run[-1].mean_ap)
    pooled = np.concatenate(kept) if kept else np.zeros((0, 2))
    return {
        "criterion": name,
        "correlation": _mean(correlations),
        "sd": float(np.std(correlations, ddof=1)) if len(correlations) > 1 else float("nan"),
        "runs": len(kept),
        "left_out": len(runs) - len(kept),
        "pooled": float(spearmanr(*pooled.T).statistic) if kept else float("nan"),
        "pairs": len(pooled),
        "regret": _mean(regrets),
        "regret_last": _mean(last),
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _too_short(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """A line for each run that no criterion counts."""
    for name, history in runs.items():
        count = len(_candidates(history))
        if count < FEWEST_PAIRS:
            yield (
                f"{name} is left out: of {FEWEST_PAIRS} epochs with a test mAP and a later epoch it has {count} "
                "(train with --set train.evaluate_every=1)"
            )


def criterion_cells(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of :func:`criterion_table` in words; regret in points of mAP."""

    def words(value: float, form: str) -> str:
        return "–" if np.isnan(value) else format(value, form)

    lines = tuple(
        (
            str(row["criterion"]),
            words(row["correlation"], ".2f"),
            words(row["sd"], ".2f"),
            str(row["runs"]),
            str(row["left_out"]),
            words(row["pooled"], ".2f"),
            str(row["pairs"]),
            words(100 * row["regret"], ".1f"),
            words(100 * row["regret_last"], ".1f"),
        )
        for row in rows
    )
    caption = (
        "Spearman's rank correlation of criterion and test mAP within a run, mean and sd over runs; pooled: over all "
        "pairs. Regret: mAP lost against the best candidate, in points, by the criterion and by taking the last "
        f"candidate. A run is left out with fewer than {FEWEST_PAIRS} pairs, or if nothing changes."
    )
    return Table(COLUMNS, lines, caption)


def compare_criteria(runs: Sequence[Path]) -> None:
    """Print the table for the terminal, then as Markdown. Raises ReseenError for a folder without records."""
    histories = {str(run): read_metrics(run) for run in runs}
    for name, history in histories.items():
        if not history:
            raise ReseenError(f"{name} has no metrics.jsonl: give the --run folder of reseen train")
    short = list(_too_short(histories))
    if len(short) == len(histories):
        raise ReseenError(f"no run can be judged: {short[0]}")
    cells = criterion_cells(criterion_table(list(histories.values())))
    Console().print(cells.to_rich())
    print(f"\n{markdown(cells)}\n\n{cells.caption}")
    for line in short:
        print(line)


def main() -> int:
    """Exit code 2 and one line for what the user can mend, as the commands of ``reseen``."""
    parser = argparse.ArgumentParser(
        prog="python -m reseen.experiments.criteria",
        description="Compare label-free criteria with the test mAP of finished runs.",
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="run folder with a test mAP per epoch"
    )
    try:
        compare_criteria(parser.parse_args().runs)
    except (ReseenError, OSError) as error:
        print(f"reseen: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
