"""reseen bench: every stage is there, sizes and settings reach the work, mistakes are one line."""

from __future__ import annotations

import numpy as np
import pytest

from reseen.commands import bench as module
from reseen.commands.bench import bench
from reseen.errors import ReseenError
from test_cli import call, refused
from worlds import TINY

STAGES = {
    "clustering": ["neighbours", "Jaccard distances", "DBSCAN, twice", "refinement"],
    "evaluation": ["mAP and CMC"],
    "training": ["embedding", "clustering", "training, both branches"],
}


@pytest.mark.parametrize("what", STAGES)
def test_every_stage_is_measured_and_printed(what, capsys):
    settings = TINY if what == "training" else []
    stages = bench(what, size=60, device="cpu", settings=settings)
    assert [stage.name for stage in stages] == STAGES[what]
    assert all(stage.cpu >= 0 and stage.wall > 0 for stage in stages)
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first.startswith(what)
    assert all(line.strip().startswith(name) for line, name in zip(lines, STAGES[what], strict=True))
    assert "peak memory" in last


def test_counts_are_those_of_the_work():
    assert {stage.count for stage in bench("clustering", size=60, device="cpu")} == {60}
    assert [stage.count for stage in bench("evaluation", size=60, device="cpu")] == [10]
    settings = [*TINY, "train.iterations=3"]
    embedding, clustering, training = bench("training", size=40, device="cpu", settings=settings)
    assert (embedding.count, clustering.count) == (80, 40)
    assert training.count == 2 * 8  # the first batch of three is not timed


def test_settings_reach_the_work(monkeypatch):
    seen = {}
    search = module.nearest_neighbours
    monkeypatch.setattr(
        module,
        "nearest_neighbours",
        lambda rows, k, **more: seen.update(k=k, **more) or search(rows, k, **more),
    )
    bench("clustering", size=60, device="cpu", settings=["cluster.k1=9"])
    assert (seen["k"], str(seen["device"])) == (9, "cpu")


def test_drawn_features_are_unit_rows_of_full_rank_that_tell_people_apart():
    features, identities, cameras = module._people(340)
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    assert np.linalg.matrix_rank(features) == 340
    assert set(cameras) == set(range(1, 7))
    products = features @ features.T
    same = identities[:, None] == identities
    assert products[same].mean() > 0.3 > products[~same].mean() + 0.2


def test_the_command_measures(capsys):
    code, out, err = call("bench", "evaluation", "--size", 60, "--device", "cpu")
    assert (code, err) == (0, "")
    assert "queries/s" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("clusterin",), "did you mean clustering?"),
        ((), "WHAT"),
        (("clustering", "--size", 3), "32 or more"),
        (("clustering", "--size", "many"), "--size"),
        (("clustering", "--device", "abacus"), "--device auto"),
        (("clustering", "--device", "cuda:99"), "--device auto"),
        (("clustering", "--set", "cluster.k3=2"), "did you mean"),
        (("evaluation", "--set", "cluster.k1=2"), "no settings"),
    ],
    ids=str,
)
def test_mistakes_are_one_line(words, said):
    assert said in refused("bench", *words)


def test_an_error_is_ours():
    with pytest.raises(ReseenError, match="backbone"):
        bench("training", size=60, device="cpu", settings=["model.backbone=resnet51"])
