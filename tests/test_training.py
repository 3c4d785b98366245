"""The epoch and the run: identities cannot leak, resume equals no interruption, options change the result."""

from __future__ import annotations

import itertools
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import processes
from reseen.errors import ReseenError
from reseen.inference import load_encoder
from reseen.methods import get_method
from reseen.metrics import DEFAULT_CRITERION, cross_camera_share, label_free_criteria
from reseen.records import Crop, LabelledCrops, PseudoLabels, ReidData, Scene
from reseen.tasks.crops import train
from reseen.training import LABEL_FREE, LAST, fit, read_checkpoint
from worlds import TINY, people, tiny


def quiet_fit(
    folder: Path,
    crops: tuple[Crop, ...],
    *settings: str,
    recipe: str = "cacl",
    resume: bool = False,
    watch=None,
):
    config = tiny(recipe, *settings)
    return fit(
        config,
        crops,
        get_method(config.method),
        folder=folder,
        root=crops[0].path.parent,
        weights="none",
        resume=resume,
        watch=watch,
        say=lambda line: None,
    )


def weights(run) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.networks.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return people(tmp_path_factory.mktemp("people"))[0]


@pytest.mark.parametrize(
    "recipe",
    [
        "cacl",
        "cacl-literal",
        "cacl-official",
        "cacl-strong",
        "single-strong",
        "cscl",
        "spcl",
        "cluster-contrast",
        "cacl-single-grey",
        "cacl-no-clustering",
    ],
)
def test_every_recipe_trains_an_epoch_and_ships_an_encoder(recipe, crops, tmp_path):
    run = quiet_fit(tmp_path / "run", crops, "train.epochs=1", recipe=recipe)
    record = run.history[-1]
    assert np.isfinite(record["loss"]["total"])
    encoder, _ = load_encoder(tmp_path / "run")
    features = encoder(torch.rand(2, 3, 32, 16)).features
    assert features.shape == (2, encoder.dim)
    assert torch.allclose(features.norm(dim=1), torch.ones(2), atol=1e-5)


def test_an_epoch_records_every_criterion_and_compares_its_labels_with_the_last(crops, tmp_path):
    clustered = []
    method = get_method("cacl")

    def assign(run, features, cameras):
        clustered.append((features.clone(), method.assign(run, features, cameras).labels))
        return PseudoLabels(clustered[-1][1])

    fit(
        tiny("cacl"),
        crops,
        replace(method, assign=assign),
        folder=tmp_path / "run",
        root=crops[0].path.parent,
        weights="none",
        say=lambda line: None,
    )
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first, second = (json.loads(line) for line in lines)
    cameras = [crop.camera for crop in crops]
    expected = label_free_criteria(*clustered[1], clustered[0][1])
    assert second["criteria"] == pytest.approx(expected)
    assert second["cross_camera_share"] == cross_camera_share(clustered[1][1], cameras)
    assert first["criteria"].keys() == expected.keys()
    assert first["criteria"]["stability"] is None  # nothing to compare with yet
    for record in (first, second):
        assert record["label_free"] == record["criteria"][DEFAULT_CRITERION]


def test_training_records_have_no_identity_field():
    assert {f.name for f in fields(Crop)} == {"path", "camera"}
    assert "identit" not in " ".join(f.name for f in fields(Scene))


def test_permuting_or_deleting_identities_changes_no_weight(tmp_path):
    """Training and test identities: neither the weights nor the label-free choice may depend on them."""
    crops, identities = people(tmp_path / "people")
    shuffled = np.random.default_rng(0).permutation(identities)
    results = []
    for name, labels in (("true", identities), ("shuffled", shuffled), ("none", None)):
        split = {}
        if labels is not None:
            split = {
                "query": LabelledCrops(crops[::4], labels[::4]),
                "gallery": LabelledCrops(crops[1:], labels[1:]),
            }
        data = ReidData("test", tmp_path / "people", crops, labels, **split)
        config = replace(tiny("cacl", "train.evaluate_every=1"), weights="none")
        run = train(config, data, tmp_path / name, resume=False)
        assert ("diagnostics" in run.history[-1]) == ("test" in run.history[-1]) == (labels is not None)
        _, kept = load_encoder(tmp_path / name / "checkpoint" / LABEL_FREE)
        results.append((weights(run), kept.tensors, run.history[-1].get("diagnostics")))
    for weights_too, kept_too, _ in results[1:]:
        assert same(results[0][0], weights_too)
        assert same(results[0][1], kept_too)
    assert results[0][2] != results[1][2]  # the diagnostics did read them


def test_the_seed_decides(crops, tmp_path):
    a = weights(quiet_fit(tmp_path / "a", crops))
    assert same(a, weights(quiet_fit(tmp_path / "b", crops)))
    assert not same(a, weights(quiet_fit(tmp_path / "c", crops, "seed=2")))


class StopError(Exception):
    pass


@pytest.mark.parametrize(
    "recipe", ["cacl", "cscl", "spcl", "cluster-contrast", "cacl-literal", "cacl-strong", "single-strong"]
)
def test_resume_equals_an_uninterrupted_run_bit_for_bit(recipe, crops, tmp_path):
    whole = quiet_fit(tmp_path / "whole", crops, "train.epochs=3", recipe=recipe)

    def stop(run, method):
        if run.epoch == 2:
            raise StopError
        return {}

    with pytest.raises(StopError):
        quiet_fit(tmp_path / "parts", crops, "train.epochs=3", recipe=recipe, watch=stop)
    assert read_checkpoint(tmp_path / "parts" / "checkpoint" / LAST).state["epoch"] == 1
    parts = quiet_fit(tmp_path / "parts", crops, "train.epochs=3", recipe=recipe, resume=True)
    assert same(weights(whole), weights(parts))
    for name, memory in whole.memory.items():
        assert torch.equal(memory, parts.memory[name]), name
    recorded = [[{**r, "seconds": None} for r in run.history] for run in (whole, parts)]
    assert recorded[0] == recorded[1]
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 3


def test_kill_minus_nine_loses_at_most_the_running_epoch(crops, tmp_path):
    torch.set_num_threads(1)  # as in the process that is killed
    whole = quiet_fit(tmp_path / "whole", crops, "train.epochs=8")
    command = [
        "train",
        "cacl",
        "--data",
        str(crops[0].path.parent),
        "--camera-pattern",
        r"_c(\d)s",
        "--weights",
        "none",
        "--run",
        str(tmp_path / "run"),
    ]
    for setting in [*TINY, "train.epochs=8"]:
        command += ["--set", setting]
    process = processes.reseen(*command)
    last = tmp_path / "run" / "checkpoint" / LAST
    process.until(last)
    process.kill()
    epoch = read_checkpoint(last).state["epoch"]
    assert epoch >= 1
    resumed = quiet_fit(tmp_path / "run", crops, "train.epochs=8", resume=True)
    assert resumed.epoch == len(resumed.history) == 8
    assert same(weights(whole), weights(resumed))


def test_resume_of_a_finished_run_and_of_none(crops, tmp_path):
    first = quiet_fit(tmp_path / "run", crops, resume=True)  # nothing there: starts over
    again = quiet_fit(tmp_path / "run", crops, resume=True)  # finished: nothing to do
    assert same(weights(first), weights(again))
    assert again.epoch == first.epoch


def test_an_existing_run_is_not_overwritten(crops, tmp_path):
    quiet_fit(tmp_path / "run", crops, "train.epochs=1")
    with pytest.raises(ReseenError, match="--resume"):
        quiet_fit(tmp_path / "run", crops, "train.epochs=1")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[: len(data) // 2], "damaged"),
        (lambda data: b"", "damaged"),
        (lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:], "changed after"),
        (lambda data: b"\x80\x04cos\nsystem\n", "damaged"),
    ],
    ids=["truncated", "empty", "one bit", "a pickle"],
)
def test_a_damaged_checkpoint_is_refused_in_one_line(damage, words, crops, tmp_path):
    quiet_fit(tmp_path / "run", crops, "train.epochs=1")
    last = tmp_path / "run" / "checkpoint" / LAST
    last.write_bytes(damage(last.read_bytes()))
    with pytest.raises(ReseenError, match=words) as error:
        quiet_fit(tmp_path / "run", crops, "train.epochs=1", resume=True)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_other_settings_or_images_is_refused(crops, tmp_path):
    quiet_fit(tmp_path / "run", crops, "train.epochs=1")
    with pytest.raises(ReseenError, match=r"cluster\.eps"):
        quiet_fit(tmp_path / "run", crops, "train.epochs=1", "cluster.eps=0.5", resume=True)
    with pytest.raises(ReseenError, match="other images"):
        quiet_fit(tmp_path / "run", crops[:-1], "train.epochs=1", resume=True)
    quiet_fit(tmp_path / "run", crops, "train.epochs=1", "data.workers=1", resume=True)


def test_a_full_disk_leaves_the_last_good_checkpoint(crops, tmp_path, monkeypatch):
    import reseen.training.checkpoint as checkpoint

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    def fill(run, method):
        if run.epoch == 2:
            monkeypatch.setattr(checkpoint, "save_file", full)
        return {}

    with pytest.raises(ReseenError, match="No space left"):
        quiet_fit(tmp_path / "run", crops, "train.epochs=3", watch=fill)
    assert read_checkpoint(tmp_path / "run" / "checkpoint" / LAST).state["epoch"] == 1
    assert not list((tmp_path / "run" / "checkpoint").glob(".*partial"))


def test_a_clock_that_is_put_back_again_and_again_changes_no_duration(crops, tmp_path, monkeypatch):
    clock = itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr("time.time", lambda: next(clock))
    (record,) = quiet_fit(tmp_path / "run", crops, "train.epochs=1").history
    assert record["seconds"].keys() == {"embed", "cluster", "train", "epoch"}
    assert all(0 <= value < 300 for value in record["seconds"].values()), record["seconds"]


def test_workers_do_not_change_the_result(crops, tmp_path):
    assert same(
        weights(quiet_fit(tmp_path / "a", crops)), weights(quiet_fit(tmp_path / "b", crops, "data.workers=2"))
    )


def test_too_few_classes_stop_the_run_and_name_the_knob(crops, tmp_path):
    with pytest.raises(ReseenError, match=r"cluster\.eps"):
        quiet_fit(
            tmp_path / "run",
            crops,
            "cluster.eps=0.001",
            "cluster.tight_gap=0",
            "cluster.min_samples=20",
            "cluster.outliers=drop",
            "cluster.features=fresh",
        )


def test_kept_singletons_count_as_classes(crops, tmp_path):
    run = quiet_fit(
        tmp_path / "run",
        crops,
        "cluster.eps=0.001",
        "cluster.tight_gap=0",
        "cluster.min_samples=20",
        "train.epochs=1",
    )
    assert run.history[-1]["clusters"] == 0
    assert run.history[-1]["outliers"] == len(crops)
    assert any("cluster.k1" in line for line in run.history[-1]["warnings"])


def test_a_loss_that_is_not_finite_stops_the_run(crops, tmp_path):
    with pytest.raises(ReseenError, match=r"train\.lr"):
        quiet_fit(tmp_path / "run", crops, "train.lr=1e30", "train.epochs=3", "train.iterations=4")


OPTIONS = [
    "cluster.tight_gap=0.3",
    "model.bn_eps=0.1",
    "train.epochs=3",
    "data.height=48",
    "data.width=24",
    "data.pad=0",
    "data.flip=0",
    "data.erase=0",
    "data.zoom=0.3",
    "data.jitter=0.4",
    "data.second_view=none",
    "data.second_view=jitter",
    "data.camera_aware=off",
    "model.pooling=gem",
    "model.bn_group_size=4",
    "model.predictor=linear",
    "model.predictor_input=embedding",
    "cluster.features=fresh",
    "cluster.features=augmented",
    "cluster.k1=4",
    "cluster.k2=1",
    "cluster.eps=0.4",
    "cluster.min_samples=3",
    "cluster.outliers=negatives",
    "cluster.camera_standardise=true",
    "loss.temperature=0.1",
    "loss.focal_gamma=0",
    "loss.instance=false",
    "loss.inter=false",
    "loss.intra=second",
    "loss.stop_gradient=false",
    "loss.symmetric=true",
    "loss.momentum=0.5",
    "loss.centroid_update=epoch",
    "loss.centroid_update=momentum",
    "loss.second_memory_init=colour",
    "loss.camera_weight=0.5",
    "train.iterations=3",
    "train.batch_size=12",
    "train.instances=4",
    "train.lr=0.002",
    "train.weight_decay=0.1",
    "train.lr_steps=[]",
    "train.precision=bf16",
]


@pytest.fixture(scope="module")
def usual(crops, tmp_path_factory):
    return quiet_fit(tmp_path_factory.mktemp("usual") / "run", crops)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_a_number(option, crops, usual, tmp_path):
    changed = quiet_fit(tmp_path / "run", crops, option)
    assert [r["loss"] for r in changed.history] != [r["loss"] for r in usual.history]


def test_the_refinements_differ_where_clusters_split(crops, tmp_path):
    losses = []
    for option in ("refine=paper", "removed_to=singletons", "refine=official", "refine=none"):
        run = quiet_fit(tmp_path / option, crops, "cluster.tight_gap=0.3", f"cluster.{option}")
        losses.append([record["loss"]["total"] for record in run.history])
    assert all(a != b for a, b in itertools.combinations(losses, 2))
