"""benchmarks/criteria.py: pairs, correlations and regret of hand-made runs; the five criteria that it records."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import criteria as module
from benchmarks.criteria import compare_criteria, criterion_table, further_criteria, in_words, main
from sklearn.metrics import davies_bouldin_score, silhouette_score

from command_runs import ONE_EPOCH, market
from reseen.errors import ReseenError
from reseen.methods import METHODS
from reseen.metrics import cross_camera_share
from test_metrics_label_free import check, clusters_of, unit, world

SCORES = [0.1, 0.2, 0.3, 0.5, 0.4]  # after epochs 1 to 5; nothing is recorded of the network after 6
RISING = [1, 2, 3, 5, 4]


def history(scores: list[float | None], **criteria: list[float | None]) -> list[dict[str, Any]]:
    """Records 1..n + 1: value k of a criterion is that of the network after epoch k, so it stands in record k + 1."""
    records: list[dict[str, Any]] = [
        {"epoch": 1, "label_free": 99.0, "criteria": dict.fromkeys(criteria, 99.0)}
    ]
    records += [{"epoch": k + 2, "criteria": {}} for k in range(len(scores))]
    for k, score in enumerate(scores):
        if score is not None:
            records[k]["test"] = {"mean_ap": score}
        records[k + 1]["criteria"] = {name: values[k] for name, values in criteria.items()}
    records[-1]["test"] = {"mean_ap": 0.9}  # of the last network, which no criterion describes
    return records


def only(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = rows
    return row


def test_a_criterion_is_paired_with_the_network_before_its_epoch() -> None:
    row = only(criterion_table([history(SCORES, good=RISING)]))
    assert row["criterion"] == "good"
    assert row["correlation"] == row["pooled"] == pytest.approx(1.0)
    assert (row["runs"], row["left_out"], row["pairs"]) == (1, 0, 5)
    assert row["regret"] == 0.0  # chose epoch 4, not the one whose own record has the highest value
    assert row["regret_last"] == pytest.approx(0.1)  # the best candidate, not the .9 of the last network
    assert math.isnan(row["sd"])


def test_rows_come_by_correlation_over_runs() -> None:
    second = [0.5, 0.4, 0.2, 0.3]
    runs = [
        history(SCORES, bad=[5, 4, 3, 1, 2], mixed=[2, 1, 3, 5, 4]),
        history(second, bad=[1, 2, 4, 3], mixed=[1, 2, 3, 4]),
    ]
    mixed, bad = criterion_table(runs)
    assert (mixed["criterion"], bad["criterion"]) == ("mixed", "bad")
    within = 0.9, -0.8  # 1 - 6 sum(d^2) / (n (n^2 - 1)), sum(d^2) = 2 of 5 and 18 of 4
    assert mixed["correlation"] == pytest.approx(sum(within) / 2)
    assert mixed["sd"] == pytest.approx((within[0] - within[1]) / math.sqrt(2))
    assert bad["correlation"] == pytest.approx(-1.0)
    assert mixed["regret"] == pytest.approx((0.0 + 0.2) / 2)
    assert bad["regret"] == pytest.approx((0.4 + 0.3) / 2)
    assert mixed["regret_last"] == bad["regret_last"] == pytest.approx((0.1 + 0.2) / 2)
    assert mixed["pairs"] == 9


def test_pooled_pairs_ignore_which_run_they_are_of() -> None:
    low, high = [0.1, 0.2, 0.3, 0.4], [0.6, 0.7, 0.8, 0.9]
    row = only(criterion_table([history(low, level=[4, 3, 2, 1]), history(high, level=[8, 7, 6, 5])]))
    assert row["correlation"] == pytest.approx(-1.0)
    assert row["pooled"] == pytest.approx(1 - 6 * 40 / (8 * 63))


def test_ties_go_to_the_later_epoch() -> None:
    row = only(criterion_table([history([0.4, 0.1, 0.2, 0.3], level=[7, 1, 2, 7])]))
    assert row["regret"] == pytest.approx(0.1)


def test_unknown_values_and_epochs_without_a_score_make_no_pair() -> None:
    scores = [0.1, None, 0.3, 0.5, 0.4, 0.2]
    row = only(criterion_table([history(scores, some=[1, 9, None, 5, 4, 3])]))
    assert row["pairs"] == 4
    assert row["correlation"] == pytest.approx(1.0)
    assert row["regret"] == 0.0
    row = only(criterion_table([history(scores, some=[1, 9, 5, None, 4, 3])]))
    assert row["regret"] == pytest.approx(
        0.2
    )  # the best candidate stays the best where a criterion is silent


def test_short_and_constant_runs_are_left_out_and_counted() -> None:
    runs = [
        history(SCORES, level=RISING, flat=[0] * 5),
        history([0.1, 0.2, 0.3], level=[3, 2, 1], flat=[0] * 3),
        history([0.1] * 4, level=[1, 2, 3, 4], flat=[0] * 4),
    ]
    level, flat = criterion_table(runs)
    assert (level["runs"], level["left_out"], level["pairs"]) == (1, 2, 5)
    assert level["correlation"] == pytest.approx(1.0)
    assert (flat["runs"], flat["left_out"], flat["pairs"]) == (0, 3, 0)
    assert all(math.isnan(flat[key]) for key in ("correlation", "sd", "pooled", "regret", "regret_last"))
    assert in_words(flat) == ["flat", "–", "–", "0", "3", "–", "0", "–", "–"]
    assert criterion_table([]) == []


def test_a_run_that_recorded_one_criterion_only_is_read() -> None:
    records = [{"epoch": 1, "label_free": 9.0, "test": {"mean_ap": SCORES[0]}}]
    for k in range(1, 6):
        records.append({"epoch": k + 1, "label_free": RISING[k - 1], "test": {"mean_ap": [*SCORES, 0.9][k]}})
    row = only(criterion_table([records]))
    assert (row["criterion"], row["pairs"]) == ("centroid_margin", 5)
    assert row["correlation"] == pytest.approx(1.0)


def written(folder: Path, records: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_the_command_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = written(tmp_path / "long", history(SCORES, good=RISING))
    short = written(tmp_path / "short", history(SCORES[:2], good=[1, 2]))
    assert main([str(long), str(short)]) == 0
    out = capsys.readouterr().out
    assert "| good | 1.00 | – | 1 | 1 | 1.00 | 5 | 0.0 | 10.0 |" in out
    assert f"{short} is left out" in out
    assert f"{long} is left out" not in out
    for wrong, words in (
        ([str(tmp_path / "none")], "no metrics.jsonl"),
        ([], "--run"),
        (["--record"], "--record"),
    ):
        assert main(wrong) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        assert words in said


def test_where_no_run_can_be_judged_the_knob_is_named(tmp_path: Path) -> None:
    short = written(tmp_path / "short", history(SCORES[:2], good=[1, 2]))
    with pytest.raises(ReseenError, match=r"no run can be judged: .*train\.evaluate_every=1"):
        compare_criteria([short])


# --- the five that training does not record ---


def slow(features: Any, labels: Any, cameras: Any) -> dict[str, float]:
    """Those of the nearest images, image by image."""
    x, groups = unit(features), clusters_of(labels)
    agree, crossing = [], []
    for group in groups:
        for i in group:
            own = [j for j in group if j != i]
            rest = [j for j in range(len(x)) if j not in group]
            agree.append(max(x[i] @ x[j] for j in own) >= max((x[i] @ x[j] for j in rest), default=-1) - 1e-6)
            own, rest = ([j for j in side if -1 not in (cameras[i], cameras[j])] for side in (own, rest))
            own, rest = ([j for j in side if cameras[j] != cameras[i]] for side in (own, rest))
            if own and rest:
                crossing.append(max(x[i] @ x[j] for j in own) - max(x[i] @ x[j] for j in rest))
    return {"neighbour_agreement": float(np.mean(agree)), "cross_camera_margin": float(np.mean(crossing))}


@pytest.mark.parametrize("size", [7, 1024])
@pytest.mark.parametrize("seed", range(3))
def test_the_five_are_scikit_learns_and_the_loops(
    size: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", size)
    features, labels, _ = world(seed)
    cameras = np.random.default_rng(seed).integers(-1, 4, len(labels))
    kept = np.concatenate(clusters_of(labels))
    x, names = unit(features)[kept], labels[kept]
    expected = {
        "silhouette": silhouette_score(x, names, metric="cosine"),
        "davies_bouldin": -davies_bouldin_score(x, names),
        "cross_camera_share": cross_camera_share(labels, cameras),
        **slow(features, labels, cameras),
    }
    found = further_criteria(torch.from_numpy(features), labels, cameras)
    assert found.keys() == expected.keys()
    check(found, expected, 1e-9)
    check(further_criteria(torch.from_numpy(features).float(), labels, cameras), expected, 1e-5)


def test_nothing_one_cluster_and_collapse_have_defined_values() -> None:
    features, nan = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), math.nan
    nothing = {
        "silhouette": -1.0,
        "davies_bouldin": nan,
        "neighbour_agreement": nan,
        "cross_camera_margin": nan,
    }
    for labels in ([-1] * 6, range(6)):
        check(further_criteria(features, labels, [1, 2] * 3), nothing, 0)
    one = nothing | {"neighbour_agreement": 1.0, "cross_camera_share": 1.0}
    check(further_criteria(features, [3] * 6, [1, 2] * 3), one, 0)
    flat = {"silhouette": 0.0, "davies_bouldin": nan, "neighbour_agreement": 1.0, "cross_camera_share": nan}
    check(further_criteria(torch.ones(6, 4), [0, 0, 0, 1, 1, 1], [-1] * 6), flat, 1e-6)


def test_a_recorded_run_has_all_eight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, method in METHODS.items():
        monkeypatch.setitem(METHODS, name, method)  # put back afterwards
    run = tmp_path / "run"
    assert main(["--record", str(run), "spcl", "--data", str(market(tmp_path)), *ONE_EPOCH]) == 0
    (line,) = module.read_history(run)
    assert len(line["criteria"]) == 8
    assert line["criteria"]["cross_camera_share"] == line["cross_camera_share"]
    assert -1 < line["criteria"]["silhouette"] < 1
