"""Two real processes train R-SiamNet over gloo: one memory, one set of labels, the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from processes import together
from search_ranks_job import train
from search_runs import blocks

WORKS = {
    # frozen batch norm: what a scene gives does not depend on whom it shares a process with
    "even": ["search.freeze=true", "train.epochs=1", "train.iterations=1"],
    "uneven": ["search.detector=reppoints", "search.memory=dual", "train.batch_size=2"],
}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What one process and what each of two saw of the same trainings."""
    torch.set_num_threads(1)  # as in the processes
    folder = tmp_path_factory.mktemp("job")
    scenes = {
        "even": blocks(folder, *[1] * 10),
        "uneven": blocks(folder, 0, 3, 0, 1, 0, 0, 2, 0, 0, 1, 0, 0, first=100),
    }
    one = {name: train(scenes[name], folder / "one" / name, settings) for name, settings in WORKS.items()}
    plan = {
        name: {
            "settings": settings,
            "scenes": [(str(scene.path), scene.boxes.tolist()) for scene in scenes[name]],
        }
        for name, settings in WORKS.items()
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    ended = together(Path(__file__).with_name("search_ranks_job.py").read_text(), folder / "plan.json")
    assert [code for code, _ in ended] == [0, 0], ended
    return one, [json.loads((folder / f"plan.{rank}.json").read_text()) for rank in (0, 1)]


def test_both_begin_with_the_memory_of_one_process(job) -> None:
    one, two = job
    for name in WORKS:
        assert two[0][name]["started"] == two[1][name]["started"] == one[name]["started"]


def test_a_step_of_two_is_the_step_of_one(job) -> None:
    """The same persons, in order, with the same features; terms that are means are the mean of both."""
    one, (first, second) = job[0]["even"], (seen["even"] for seen in job[1])
    assert first["rows"] == second["rows"] == one["rows"]
    assert first["own"] == second["own"] == [2]
    (alone,), (shared,) = one["first"].values(), first["first"].values()
    assert torch.allclose(torch.tensor(alone), torch.tensor(shared), atol=1e-5)
    for term in ("self_instance", "cluster"):
        assert first["loss"][0][term] == pytest.approx(one["loss"][0][term], rel=1e-4)


def test_both_have_the_same_after_every_step_also_where_one_sees_nobody(job) -> None:
    """The published tree kept a memory for each process and gave labels to the first alone."""
    first, second = (seen["uneven"] for seen in job[1])
    for what in ("rows", "memory", "weights", "labels", "loss"):
        assert first[what] == second[what], what
    shares = set(
        zip((count > 0 for count in first["own"]), (count > 0 for count in second["own"]), strict=True)
    )
    assert {(False, False), (True, False), (False, True)} <= shares
    assert len(set(first["weights"])) == len(first["rows"]) == 12
    assert len(first["labels"]) == 2
    assert first["labels"][0] == list(range(7))
    assert first["labels"][1] != first["labels"][0]
