"""Which label-free criterion follows the test mAP? The study of docs/results.md, on run folders with a mAP per epoch.

    python benchmarks/criteria.py runs/reproduce/runs/*
    python benchmarks/criteria.py --record runs/one cacl --data PATH --set train.evaluate_every=1

The first judges whatever criteria the runs recorded. A run records three (docs/metrics.md); ``--record RUN METHOD ...``
is ``reseen train METHOD ... --run RUN``, in one process, and writes the five that lost into RUN/criteria.jsonl as well.

An epoch's criteria speak of the features that it began with, so those of epoch e + 1 are paired with the test mAP
after epoch e. The test labels judge the criteria here, after training; no run chooses by them.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reseen.device import full_precision
from reseen.errors import ReseenError
from reseen.memory import cluster_means
from reseen.metrics import cross_camera_share
from reseen.metrics.arrays import to_labels
from reseen.records import PseudoLabels
from reseen.training.run_folder import at, read_lines, read_metrics

FEWEST_PAIRS = 4  # of a run: a rank correlation of three is 1 by chance in one of six
BEFORE_CRITERIA = "centroid_margin"  # what runs recorded, as label_free, when there was no other
FURTHER = (
    "criteria.jsonl"  # in a run folder: what --record writes, a line an epoch; the last of an epoch counts
)
BLOCK = 1024  # rows against all
ROUNDING = 1e-6  # cosines and distances closer than this are equal
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
CAPTION = (
    "Spearman's rank correlation of criterion and test mAP within a run, mean and sd over runs; pooled: over all "
    "pairs. Regret: mAP lost against the best candidate, in points, by the criterion and by taking the last "
    f"candidate. A run is left out with fewer than {FEWEST_PAIRS} pairs, or if nothing changes."
)


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 2 and one line for what the user can mend, as the commands of ``reseen``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="a run folder")
    parser.add_argument(
        "--record", nargs=argparse.REMAINDER, metavar="RUN METHOD ...", help="train a new run"
    )
    given = parser.parse_args(words)
    try:
        if given.record is not None:
            return record(given.record)
        if not given.runs:
            raise ReseenError("give the --run folders of reseen train, or --record RUN METHOD --data PATH")
        compare_criteria(given.runs)
    except (ReseenError, OSError) as error:
        print(f"criteria: {error}", file=sys.stderr)
        return 2
    return 0


# --- the table ---


def compare_criteria(runs: Sequence[Path]) -> None:
    """Print the table as Markdown. Raises ReseenError for a folder without records."""
    histories = {str(run): read_history(run) for run in runs}
    for name, history in histories.items():
        if not history:
            raise ReseenError(f"{name} has no metrics.jsonl: give the --run folder of reseen train")
    short = list(_too_short(histories))
    if len(short) == len(histories):
        raise ReseenError(f"no run can be judged: {short[0]}")
    lines = [COLUMNS, ["---"] * len(COLUMNS), *map(in_words, criterion_table(list(histories.values())))]
    print(*("| " + " | ".join(cells) + " |" for cells in lines), f"\n{CAPTION}", *short, sep="\n")


def read_history(run: Path) -> list[dict[str, Any]]:
    """The records of a run, oldest first, with the criteria that ``--record`` wrote beside them."""
    further = {
        int(line["epoch"]): line["criteria"] for line in read_lines(run / FURTHER, key="epoch").records
    }
    history = read_metrics(run)
    for line in history:
        if line["epoch"] in further:
            line["criteria"] = {**line["criteria"], **further[line["epoch"]]}
    return history


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


def in_words(row: Mapping[str, Any]) -> list[str]:
    """A row of :func:`criterion_table`; regret in points of mAP."""

    def words(value: float, form: str) -> str:
        return "–" if np.isnan(value) else format(value, form)

    return [
        str(row["criterion"]),
        *(words(row[key], ".2f") for key in ("correlation", "sd")),
        *(str(row[key]) for key in ("runs", "left_out")),
        words(row["pooled"], ".2f"),
        str(row["pairs"]),
        *(words(100 * row[key], ".1f") for key in ("regret", "regret_last")),
    ]


# --- the five that training does not record ---


def record(words: Sequence[str]) -> int:
    """``reseen train`` of a run whose every epoch also writes :func:`further_criteria`. Returns its exit code."""
    from reseen import cli
    from reseen.methods import METHODS

    if len(words) < 2:
        raise ReseenError("--record needs a new run folder, a method and what else reseen train takes")
    for name, method in METHODS.items():
        METHODS[name] = replace(method, assign=_recorded(method.assign, Path(words[0]) / FURTHER))
    return cli.main(["train", *words[1:], "--run", words[0]])


def _recorded(assign: Callable[..., PseudoLabels], path: Path) -> Callable[..., PseudoLabels]:
    def assign_and_record(run: Any, features: Tensor, cameras: Any) -> PseudoLabels:
        pseudo = assign(run, features, cameras)
        found = further_criteria(features, pseudo.labels, cameras)
        known = {name: None if math.isnan(value) else value for name, value in found.items()}
        with path.open("a") as file:
            file.write(json.dumps({"epoch": run.epoch + 1, "criteria": known}) + "\n")
        return pseudo

    return assign_and_record


@torch.no_grad()
def further_criteria(features: Tensor, labels: Any, cameras: Any) -> dict[str, float]:
    """By name, larger is better, nan where one is not defined; docs/results.md says what each is.

    Args:
        features: what was clustered, ``[M, D]``; M^2 D multiplications, in blocks of 1024 rows.
        labels: pseudo labels ``[M]``; an outlier has a negative label, or one that no other image has.
        cameras: ``[M]``, -1 where the camera is not known.
    """
    seen = to_labels(cameras, "cameras", len(features))
    together = PseudoLabels.of(to_labels(labels, "pseudo labels", len(features))).drop_singletons()
    x = F.normalize(features if features.dtype == torch.float64 else features.float(), dim=1)
    names = torch.from_numpy(together.labels).to(x.device)  # 0..K-1, -1: outlier
    with full_precision():
        means = cluster_means(x, names, together.num_clusters)
        return {
            "silhouette": silhouette(x, names, means),
            "davies_bouldin": davies_bouldin(x, names, means),
            **nearest_images(x, names, torch.from_numpy(seen).to(x.device)),
            "cross_camera_share": cross_camera_share(labels, seen),
        }


def silhouette(x: Tensor, names: Tensor, means: Tensor) -> float:
    r"""Mean silhouette of the clustered images under the cosine distance (Rousseeuw 1987). In -1..1.

    .. math:: s_i = \frac{b_i - a_i}{\max(a_i, b_i)}

    a: mean distance of image i to the other images of its cluster; b: mean distance to the images of the nearest
    other cluster; s = 0 where both are 0. -1 with fewer than two clusters. The mean cosine distance to a cluster is
    1 - x_i . mean(cluster), so all pairs cost M K D multiplications.
    """
    if len(means) < 2:
        return -1.0
    sizes, scores = torch.bincount(names[names >= 0]), []
    for part in torch.split(torch.nonzero(names >= 0).squeeze(1), BLOCK):
        own = names[part]
        similarity = x[part] @ means.T
        inside = similarity.gather(1, own[:, None]).squeeze(1)
        others = (sizes[own] * inside - (x[part] * x[part]).sum(1)) / (
            sizes[own] - 1
        )  # without the image itself
        a = (1 - others).clamp(min=0)
        b = (1 - similarity.scatter(1, own[:, None], -math.inf).amax(1)).clamp(min=0)
        longest = torch.maximum(a, b)
        scores.append(torch.where(longest > ROUNDING, (b - a) / longest, 0.0))
    return float(torch.cat(scores).cpu().double().mean())


def davies_bouldin(x: Tensor, names: Tensor, means: Tensor) -> float:
    r"""The Davies-Bouldin index (1979) of the unit rows, negated. At most 0; no lower bound.

    .. math:: -\frac{1}{K} \sum_k \max_{j \ne k} \frac{S_k + S_j}{|u_k - u_j|}

    u: mean of the rows of a cluster; S: mean Euclidean distance of its images to u. Two clusters on the same spot are
    left out as a pair, as scikit-learn does. nan with fewer than two clusters, or if all lie on one spot (there
    scikit-learn gives 0, which would make a collapsed network the best).
    """
    own = names[names >= 0].cpu()
    lengths = (x[names >= 0] - means[names[names >= 0]]).norm(dim=1).cpu().double()
    scatter = torch.bincount(own, lengths, minlength=len(means)) / torch.bincount(own, minlength=len(means))
    spots = means.cpu().double()  # few rows, and not every accelerator has float64
    distance = torch.cdist(spots, spots, compute_mode="donot_use_mm_for_euclid_dist")
    apart = distance > ROUNDING
    if not apart.any():
        return math.nan
    return 0.0 - float(torch.where(apart, (scatter[:, None] + scatter) / distance, 0.0).amax(1).mean())


def nearest_images(x: Tensor, names: Tensor, cameras: Tensor) -> dict[str, float]:
    """Of the clustered images: does the nearest image belong to the cluster, and by how much across cameras?

    ``neighbour_agreement``, in 0..1: share whose nearest other image of all is in the same cluster; a tie with an
    image elsewhere counts. ``cross_camera_margin``, in -2..2: mean of (best cosine to the own cluster - to all other
    images), among images of another known camera only; images without one on either side are left out.
    """
    agree, margins = [], []
    for part in torch.split(torch.nonzero(names >= 0).squeeze(1), BLOCK):
        cosine = (x[part] @ x.T).scatter(1, part[:, None], -math.inf)  # an image and itself
        alike = names[part, None] == names
        own, other = _best(cosine, alike)
        agree.append(own >= other - ROUNDING)
        across = (cameras[part, None] >= 0) & (cameras >= 0) & (cameras[part, None] != cameras)
        own, other = _best(cosine.masked_fill(~across, -math.inf), alike)
        margins.append((own - other)[own.isfinite() & other.isfinite()])
    return {
        "neighbour_agreement": float(torch.cat(agree).cpu().double().mean()),
        "cross_camera_margin": float(torch.cat(margins).cpu().double().mean()),
    }


def _best(cosine: Tensor, alike: Tensor) -> tuple[Tensor, Tensor]:
    """Highest cosine ``[B]`` of each row among images that are alike, and among the rest; -inf: there is none."""
    return cosine.masked_fill(~alike, -math.inf).amax(1), cosine.masked_fill(alike, -math.inf).amax(1)


if __name__ == "__main__":
    sys.exit(main())
