"""Runs of R-SiamNet: settings count, identities cannot leak, a run goes on, and odd data are met."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import processes
from reseen.config import Config, SearchConfig
from reseen.distributed import ALONE, Ranks
from reseen.errors import ReseenError
from reseen.inference import load_searcher
from reseen.methods.r_siamnet import METHOD
from reseen.records import Scene, SearchData
from reseen.tasks.scenes import train
from reseen.training import LAST, Run, new_run, read_checkpoint
from search_runs import DETECTION, begun, blocks, curve, first_batch, quiet_fit, same, terms_of, weights
from worlds import TINY_SEARCH, tiny, tiny_search

# Every setting counts

SEARCH_OPTIONS = (
    *("detector=reppoints", "detector=faster-rcnn", "channels=24", "dim=16", "freeze=true"),
    *("long_side=160", "short_side=64", "self_instance=false", "inter_instance=false"),
    *("int_reduction=mean", "cluster=false", "scale=8", "margin=0.3", "momentum=0.5", "memory=dual"),
    *("cluster_first=true", "crop_level=P3half"),
)
OTHER_OPTIONS = (
    *(
        "train.optimizer=adam",
        "train.warmup=3",
        "train.clip_norm=0.5",
        "train.iterations=1",
        "train.epochs=3",
    ),
    *(
        "train.batch_size=3",
        "train.lr=0.01",
        "train.weight_decay=0.1",
        "train.lr_steps=[]",
        "train.precision=bf16",
    ),
    *(
        "data.flip=0",
        "data.height=64",
        "data.width=48",
        "seed=2",
        "model.backbone=test_efficientnet.r160_in1k",
    ),
)
ELSEWHERE = {
    "image_filter",
    "paths_at_test",
}  # tests/test_methods_r_siamnet.py, tests/test_evaluation_search.py


def test_the_list_of_options_is_complete() -> None:
    assert {option.partition("=")[0] for option in SEARCH_OPTIONS} | ELSEWHERE == set(vars(SearchConfig()))


def outcome(scenes: tuple[Scene, ...], folder: Path, *settings: str) -> tuple[Any, ...]:
    """Losses of both epochs, and what the weights are in the end."""
    run = quiet_fit(folder, scenes[:4], "train.batch_size=2", *settings)
    return curve(run), [float(tensor.double().sum()) for tensor in weights(run).values()]


@pytest.fixture(scope="module")
def usual(street: SearchData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    return outcome(street.train, tmp_path_factory.mktemp("usual") / "run")


@pytest.mark.parametrize("option", [*(f"search.{option}" for option in SEARCH_OPTIONS), *OTHER_OPTIONS])
def test_every_option_changes_a_number(
    option: str, usual: tuple[Any, ...], street: SearchData, tmp_path: Path
) -> None:
    losses, end = outcome(street.train, tmp_path / "run", option)
    assert (losses, end) != usual
    assert all(math.isfinite(value) for record in losses for value in record.values())


def test_gradients_are_cut_to_their_largest_norm(street: SearchData, tmp_path: Path) -> None:
    """The weights of a plain step go as far as lr times the norm, and no farther."""
    far = {}
    for norm in ("0", "0.25"):
        run = new_run(tiny_search(), METHOD, weights="none", say=lambda line: None)
        before = {name: p.detach().clone() for name, p in run.networks.named_parameters()}
        one_step = ("train.epochs=1", "train.iterations=1", "train.weight_decay=0", f"train.clip_norm={norm}")
        after = quiet_fit(tmp_path / norm, street.train, *one_step)
        steps = [p.detach() - before[name] for name, p in after.networks.named_parameters()]
        far[norm] = math.sqrt(sum(float(step.double().square().sum()) for step in steps)) / 0.001
    assert far["0.25"] == pytest.approx(0.25, rel=0.01)
    assert far["0"] > 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: tiny("cacl", "search.dim=64"), r"search\.\* is for r-siamnet, not for cacl"),
        (lambda: tiny_search("cluster.k1=20"), r"cluster\.\* and loss\.\* are for crops"),
        (lambda: tiny_search("loss.temperature=0.1"), r"cluster\.\* and loss\.\* are for crops"),
        (lambda: tiny_search("model.bn_group_size=4"), r"model\.bn_group_size is for crops"),
        (lambda: tiny_search("data.erase=0.1"), r"data\.erase is for crops; .*data\.flip"),
        (lambda: tiny_search("data.width=40"), r"data\.width is 40: it must be a multiple of 16"),
        (lambda: tiny_search("search.channels=12"), r"search\.channels is 12: it must be a multiple of 8"),
        (lambda: tiny_search("search.dim=0"), r"search\.dim"),
        (
            lambda: tiny_search("search.short_side=200"),
            r"search\.short_side is 200: .* search\.long_side = 192",
        ),
        (lambda: tiny_search("search.scale=0"), r"search\.scale"),
        (lambda: tiny_search("search.scale=inf"), r"search\.scale"),
        (lambda: tiny_search("search.margin=nan"), r"search\.margin"),
        (lambda: tiny_search("search.momentum=1"), r"search\.momentum is 1\.0: .* old value's weight"),
        (lambda: tiny_search("search.detector=yolo"), r"expected one of reppoints, retinanet, faster-rcnn"),
        (lambda: tiny_search("search.image_filter=links"), r"expected one of none, link, next, strict"),
        (lambda: tiny_search("search.crop_level=P5"), r"expected one of P4, P3half"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(make: Callable[[], Config], says: str) -> None:
    with pytest.raises(ReseenError, match=says) as error:
        make()
    assert "\n" not in str(error.value)


# Identities


def test_identities_change_no_weight(street: SearchData, tmp_path: Path) -> None:
    """Permuted or deleted, in training and in test: not a bit of weights and memory depends on them."""
    assert street.train_identities is not None
    order = np.random.default_rng(0).permutation(np.concatenate(street.train_identities))
    ends = street.train_offsets[1:-1]
    found = []
    for name, data in (
        ("true", street),
        ("permuted", replace(street, train_identities=tuple(np.split(order, ends)))),
        (
            "deleted",
            replace(street, train_identities=None, test_identities=None, probes=(), read_gallery=None),
        ),
    ):
        config = replace(tiny_search("train.evaluate_every=1"), weights="none")
        run = train(config, data, tmp_path / name, resume=False)
        assert ("diagnostics" in run.history[-1]) == (name != "deleted")
        assert ("test" in run.history[0]) == (name != "deleted")
        found.append((weights(run), run.memory, curve(run), run.history[-1].get("diagnostics")))
    for state, memory, losses, _ in found[1:]:
        assert same(found[0][0], state)
        assert same(found[0][1], memory)
        assert found[0][2] == losses
    assert found[0][3] != found[1][3]  # the diagnostics did read them


def test_a_run_ships_a_network_that_searches(street: SearchData, tmp_path: Path) -> None:
    run = quiet_fit(tmp_path / "run", street.train, "train.epochs=1")
    network, checkpoint = load_searcher(tmp_path / "run")
    assert same(network.state_dict(), run.networks.network.state_dict())
    assert not network.training
    assert checkpoint.config == run.config


# To be continued


class StopError(Exception):
    pass


def stop_in_the_second(run: Run, method: Any) -> dict[str, Any]:
    if run.epoch == 2:
        raise StopError
    return {}


@pytest.mark.parametrize(
    "settings",
    [
        ("search.memory=dual", "search.cluster_first=true"),
        ("search.detector=faster-rcnn", "train.optimizer=adam"),  # draws random numbers
        ("search.detector=reppoints", "search.freeze=true", "train.warmup=5"),
    ],
    ids=["retinanet", "faster-rcnn", "reppoints"],
)
def test_resume_equals_an_uninterrupted_run_bit_for_bit(
    settings: tuple[str, ...], street: SearchData, tmp_path: Path
) -> None:
    scenes = street.train[:5]  # the last scene of each epoch fills no batch
    settings = (*settings, "train.batch_size=2")
    whole = quiet_fit(tmp_path / "whole", scenes, *settings)
    with pytest.raises(StopError):
        quiet_fit(tmp_path / "parts", scenes, *settings, watch=stop_in_the_second)
    assert read_checkpoint(tmp_path / "parts" / "checkpoint" / LAST).state["epoch"] == 1
    parts = quiet_fit(tmp_path / "parts", scenes, *settings, resume=True)
    assert same(weights(whole), weights(parts))
    assert same(whole.memory, parts.memory)
    assert whole.labels.tolist() == parts.labels.tolist()
    assert curve(whole) == curve(parts)
    assert len(curve(whole)) == 2


def test_kill_minus_nine_loses_at_most_the_running_epoch(street: SearchData, tmp_path: Path) -> None:
    torch.set_num_threads(1)  # as in the process that is killed
    settings = ("train.epochs=6", "train.iterations=4")
    command = ["train", "r-siamnet", "--data", str(street.root)]
    command += ["--weights", "none", "--run", str(tmp_path / "run")]
    for setting in (*TINY_SEARCH, *settings):
        command += ["--set", setting]
    process = processes.reseen(*command)
    last = tmp_path / "run" / "checkpoint" / LAST
    process.until(last)
    process.kill()
    assert 1 <= read_checkpoint(last).state["epoch"] < 6
    whole = quiet_fit(tmp_path / "whole", street.train, *settings)
    config = replace(tiny_search(*settings), weights="none")
    resumed = train(config, street, tmp_path / "run", resume=True)
    assert resumed.epoch == len(resumed.history) == 6
    assert same(weights(whole), weights(resumed))
    assert same(whole.memory, resumed.memory)


# Odd data


@pytest.mark.parametrize("detector", DETECTION)
def test_scenes_without_persons_are_trained_on_too(detector: str, tmp_path: Path) -> None:
    """Whole batches of them as well; every step has the same terms, so that several processes can add them up."""
    scenes = blocks(tmp_path, 0, 2, 0, 1, 0, 0, 3)
    settings = (f"search.detector={detector}", "train.batch_size=1")
    run = quiet_fit(tmp_path / "run", scenes, *settings)
    assert [record["images"] for record in run.history] == [6, 6]
    expected = [*DETECTION[detector], "self_instance", "inter_instance", "cluster", "total"]
    assert [list(record) for record in curve(run)] == [expected] * 2
    assert all(math.isfinite(value) for record in curve(run) for value in record.values())
    fresh = begun(tiny_search(*settings), scenes)
    for rows in ([0], [1], [0, 2], [2, 6]):
        terms, keys = terms_of(fresh, first_batch(fresh, scenes, rows))
        assert list(terms) == expected[:-1]
        assert list(keys) == ["persons"]
        torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None for p in fresh.networks.parameters())


@pytest.mark.parametrize("term", ["self_instance", "inter_instance", "cluster"])
def test_a_loss_that_is_off_is_off_in_empty_scenes_too(term: str, tmp_path: Path) -> None:
    scenes = blocks(tmp_path, 0, 2)
    run = begun(tiny_search(f"search.{term}=false"), scenes)
    (empty, none), (full, some) = (terms_of(run, first_batch(run, scenes, [row])) for row in (0, 1))
    assert list(empty) == list(full)
    assert list(none) == list(some)
    assert term not in full


def test_one_scene_is_enough_and_one_person_is_not(tmp_path: Path) -> None:
    run = quiet_fit(tmp_path / "run", blocks(tmp_path, 3))
    assert [record["clusters"] for record in run.history] == [0, 0]  # nobody is twice in a scene
    assert run.history[-1]["outliers"] == 3
    for counts in ((1,), (0, 1, 0), (0,)):
        scenes = blocks(tmp_path, *counts, first=10)
        data = SearchData("one", tmp_path, scenes, tuple(one.path.name for one in scenes))
        with pytest.raises(ReseenError, match=rf"{sum(counts)} persons to train on: give scenes") as error:
            train(replace(tiny_search(), weights="none"), data, tmp_path / "one", resume=False)
        assert "\n" not in str(error.value)


def test_five_hundred_persons_in_one_scene(tmp_path: Path) -> None:
    scenes = blocks(tmp_path, 500, 2)
    run = quiet_fit(
        tmp_path / "run", scenes, "train.batch_size=2", "train.epochs=1", "data.height=48", "data.width=16"
    )
    assert run.history[0]["images"] == 502
    assert run.memory["persons"].shape == (502, 64)


@pytest.mark.parametrize("box", [(200, 3, 10, 20), (5, 5, 0, 7), (float("nan"), 5, 5, 5)])
def test_a_box_that_shows_nobody_is_named(box: tuple[float, ...], tmp_path: Path) -> None:
    """Readers and the check before training drop them; who builds scenes by hand is told."""
    good, bad = blocks(tmp_path, 2, 1)
    bad = replace(
        bad, boxes=np.concatenate([bad.boxes, np.array([[*box[:2], box[0] + box[2], box[1] + box[3]]])])
    )
    with pytest.raises(ReseenError, match=r"1\.png has a box that shows nobody .* one of 1:") as error:
        quiet_fit(tmp_path / "run", (good, bad))
    assert "\n" not in str(error.value)


def test_scenes_are_drawn_once_an_epoch_and_shared_equally(tmp_path: Path) -> None:
    scenes = blocks(tmp_path, *[1] * 7)
    for settings, ranks, sizes in (
        (("train.batch_size=4",), ALONE, [4]),
        (("train.batch_size=2",), ALONE, [2, 2, 2]),
        (("train.batch_size=9",), ALONE, [7]),
        (("train.batch_size=8",), Ranks(rank=1, ranks=2), [6]),
        (("train.batch_size=4", "train.iterations=3"), ALONE, [4, 4, 4]),
    ):
        run = new_run(tiny_search(*settings), METHOD, weights="none", say=lambda line: None)
        run.ranks = ranks
        seen = []
        for epoch in range(4):
            run.epoch = epoch
            batches = METHOD.choose(run, None, scenes)  # type: ignore[arg-type]
            assert [len(batch) for batch in batches] == sizes
            assert all(len(set(batch.tolist())) == len(batch) for batch in batches[:1])
            rows = np.concatenate(batches).tolist()
            assert len(set(rows)) == min(len(rows), 7)
            seen.append(tuple(rows))
        assert len(set(seen)) > 1
    run.ranks = Ranks(rank=1, ranks=2)
    with pytest.raises(ReseenError, match="1 scenes cannot be shared by 2 processes"):
        METHOD.choose(run, None, scenes[:1])  # type: ignore[arg-type]
