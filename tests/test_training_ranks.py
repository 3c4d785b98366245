"""Several processes train as one would: real processes over gloo, on one machine."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from processes import RESEEN, start_two, together
from ranks_job import train
from reseen.cli import main
from reseen.distributed import ALONE, Ranks, join
from reseen.errors import ReseenError
from reseen.training import LAST, read_checkpoint
from reseen.training.parallel import check_batch
from worlds import TINY, people, tiny

SETTINGS = ["model.bn_group_size=4", "train.iterations=4"]  # two groups of batch norm, one on each process
RECIPES = ("cacl", "spcl", "cluster-contrast", "cacl-literal", "cacl-no-clustering")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """What one process and what each of two processes saw of the same trainings: one start serves all tests."""
    torch.set_num_threads(1)  # as in the processes
    folder = tmp_path_factory.mktemp("job")
    crops, _ = people(
        folder / "people", identities=12, per_camera=6
    )  # 144: more than a batch of the embedding
    works = {recipe: {"recipe": recipe, "settings": SETTINGS} for recipe in RECIPES}
    one = {name: train(crops, folder / "one" / name, **work) for name, work in works.items()}
    stopped = {**works["cacl"], "stop_in": 2}
    train(crops, folder / "two" / "from one to two", **stopped)
    works["from one to two"] = {**works["cacl"], "resume": True}
    works["from two to one"] = stopped
    works["drift"] = {"recipe": "cacl", "settings": [*SETTINGS, "train.epochs=1"], "drift": 1e-3}
    for name, work in works.items():
        work["folder"] = str(folder / "two" / name)
    plan = {
        "crops": [(str(crop.path), crop.camera) for crop in crops],
        "out": str(folder / "seen"),
        "trainings": works,
        "mistake": [*SETTINGS, "train.batch_size=6"],
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    ended = together(Path(__file__).with_name("ranks_job.py").read_text(), folder / "plan.json")
    two = [json.loads((folder / f"seen.{rank}.json").read_text()) for rank in (0, 1)]
    again = train(crops, folder / "two" / "from two to one", "cacl", SETTINGS, resume=True)
    return one, two, again, ended


def close(one: list[dict[str, float]], other: list[dict[str, float]], tolerance: float = 1e-4) -> bool:
    return all(pytest.approx(a, rel=tolerance, abs=tolerance) == b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_processes_follow_one(recipe, job):
    one, two, *_ = job
    whole, shared = one[recipe], two[0][recipe]
    assert whole["labels"][0] == shared["labels"][0]
    assert len(whole["loss"]) == 2
    assert close(whole["loss"], shared["loss"])
    for alone, averaged in zip(whole["statistics"], shared["statistics"], strict=True):
        assert averaged == pytest.approx(alone, rel=1e-4, abs=1e-5)
    # Until gradients are summed in another order, not a bit differs.
    assert whole["steps"][:1] == shared["steps"][:1]


@pytest.mark.parametrize("recipe", RECIPES)
def test_both_processes_have_the_same_after_every_step(recipe, job):
    first, second = (seen[recipe] for seen in job[1])
    for what in ("steps", "weights", "labels", "memory", "networks", "loss"):
        assert first[what] == second[what], what
    assert len(first["steps"]) == len(set(first["weights"])) == 8  # they did move


def test_each_process_embeds_its_share(job):
    one, two, *_ = job
    assert one["cacl"]["embedded"] == 144
    assert [seen["cacl"]["embedded"] for seen in two] == [128, 16]


def test_a_process_that_drifts_is_brought_back(job):
    first, second = (seen["drift"] for seen in job[1])
    assert first["steps"] != second["steps"]
    assert first["memory"] == second["memory"]


def test_a_run_goes_on_with_another_number_of_processes(job):
    one, two, again, _ = job
    for resumed in (two[0]["from one to two"], two[1]["from one to two"], again):
        assert len(resumed["labels"]) == 1  # only the second epoch was trained
        assert close(one["cacl"]["loss"], resumed["loss"])


def test_what_processes_tell_each_other(job):
    for seen in job[1]:
        assert seen["collectives"] == {
            "rows in blocks of 1": np.arange(14.0).reshape(7, 2).tolist(),
            "rows in blocks of 8": np.arange(14.0).reshape(7, 2).tolist(),
            "sent": [0.0, 0.0],
            "told": [[[0.0, 2.5]], 7.0, [], "no.1 Straße", 0.1, 3, True, None],
            "mean": [0.5, 1.0],
        }


def test_a_process_that_is_killed_ends_the_job_and_the_run_goes_on(tmp_path, capsys):
    data, run = tmp_path / "market", tmp_path / "run"
    people(data / "bounding_box_train", identities=8)
    people(data / "query", identities=5, per_camera=1, seed=1)
    people(data / "bounding_box_test", identities=5, per_camera=2, seed=1)
    long = ["train.iterations=20", "train.epochs=3", "train.evaluate_every=1"]
    words = ["train", "cacl", "--data", str(data), "--weights", "none", "--run", str(run)]
    words += [word for setting in [*TINY, *SETTINGS, *long] for word in ("--set", setting)]
    # Found by each other and not by torchrun, whose part in this test_distributed.py has: no ten seconds of imports.
    ranks = start_two(RESEEN, *words)
    ranks[0].until(run / "checkpoint" / LAST)
    ranks[1].kill()
    killed = time.monotonic()
    status, said = ranks[0].wait(120)
    assert status == 2
    assert time.monotonic() - killed < 30  # it did not wait for a process that will never answer
    ours = [line for line in said.splitlines() if "reseen: " in line]
    assert ours == [
        "reseen: process 2 of 2 ended early, so process 1 stops too: see what it said, if anything, "
        "and continue with --resume"
    ]
    assert "Traceback" not in said
    assert said.count("epoch 1/3") == 1
    assert read_checkpoint(run / "checkpoint" / LAST).state["epoch"] < 3

    torch.set_num_threads(1)
    assert main([*words, "--resume"]) == 0
    assert "epoch 3/3" in capsys.readouterr().out
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert all(0 <= record["test"]["mean_ap"] <= 1 for record in records)  # the first by two processes


def test_a_mistake_that_all_make_is_said_once_and_nothing_else(job):
    _, _, _, ended = job
    assert [code for code, _ in ended] == [2, 2]
    said = "".join(err for _, err in ended)
    assert said.count("\n") == 1, said
    assert said.startswith("reseen: each of 2 processes gets 3 of train.batch_size=6")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["train.batch_size=8"], r"train\.batch_size is 8, which 3 .* multiple of 3"),
        (["train.batch_size=24", "model.bn_group_size=16"], r"train\.batch_size to a multiple of 48"),
        (["train.batch_size=24", "model.bn_group_size=0"], r"model\.bn_group_size=8"),
    ],
)
def test_a_batch_that_cannot_be_shared_names_the_setting(settings, words):
    with pytest.raises(ReseenError, match=words) as error:
        check_batch(tiny("cacl", *settings), Ranks(rank=1, ranks=3))
    assert "\n" not in str(error.value)
    check_batch(tiny("cacl", *settings), ALONE)
    check_batch(tiny("cacl", "train.batch_size=24", "model.bn_group_size=4"), Ranks(rank=1, ranks=3))


@given(count=st.integers(0, 500), ranks=st.integers(1, 9), block=st.integers(1, 130))
def test_shares_are_all_rows_in_order_in_whole_blocks(count, ranks, block):
    shares = Ranks(ranks=ranks).shares(count, block)
    assert [row for share in shares for row in range(count)[share]] == list(range(count))
    assert len(shares) == ranks
    assert all(share.start % block == 0 or share.start == count for share in shares)
    sizes = Ranks(ranks=ranks).sizes(count, block)
    assert sum(sizes) == count
    assert max(sizes) - min(sizes) <= 2 * block - 1


def test_without_torchrun_nothing_is_joined(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    with join() as ranks:
        assert ranks is ALONE
        assert not torch.distributed.is_initialized()
        assert signal.getsignal(signal.SIGTERM) is before


def test_a_process_has_a_card_of_its_own_or_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ReseenError, match="set auto or cpu"):
        Ranks(ranks=2).on("cuda:0")
    with pytest.raises(ReseenError, match=r"process 2 has no card of its own \(1 here\)"):
        Ranks(rank=1, ranks=2, local=1).on("auto")
    assert ALONE.on("cuda:0").device == torch.device("cuda:0")


def test_only_training_is_for_several_processes(monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "reseen: reseen doctor runs in one process: start it without torchrun\n"
