"""Going on from a trained model: a run folder or a checkpoint file of crops, scenes and two steps as `--weights`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from command_runs import CROPS, SMALL, done, words
from reseen.config import resolve
from reseen.inference import load_encoder, load_searcher
from reseen.methods import get_method
from reseen.models import build_encoder, load_weights
from reseen.training import read_checkpoint, trained_config
from test_cli import refused

NETWORK = ("model.backbone", "data.height", "data.width", "search.channels", "search.dim", "search.detector")


def without_network(settings: tuple[str, ...]) -> list[str]:
    """Settings that leave open what the network is: it comes with the weights."""
    return words(tuple(s for s in settings if s.partition("=")[0] not in NETWORK))


def shipped(file: Path) -> dict[str, Tensor]:
    return read_checkpoint(file).shipped


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", ["last", "start", "best-on-test", "label-free", ""])
def test_each_file_of_a_run_gives_its_shipped_branch(trained: tuple[Path, str], name: str) -> None:
    run = trained[0]
    file = run / "checkpoint" / f"{name or 'last'}.safetensors"
    config = trained_config(file)
    encoder = build_encoder(config.model)
    report = load_weights(encoder, file if name else run)
    assert_same(encoder.state_dict(), load_encoder(file)[0].state_dict())
    assert (report.share, report.missing, report.unexpected, report.mismatched) == (1, (), (), ())


def test_crops_go_on_from_a_run_and_are_built_like_it(
    trained: tuple[Path, str], world: Path, tmp_path: Path
) -> None:
    run, begun = tmp_path / "run", trained[0]
    said = done("train", "spcl", "--data", world, "--run", run, "--weights", begun, *without_network(CROPS))
    assert f"weights {begun}: " in said
    assert "100 % of the backbone's parameters\n" in said
    before, now = (trained_config(folder) for folder in (begun, run))
    assert now.model == before.model
    assert (now.data.height, now.data.mean) == (before.data.height, before.data.mean)
    assert_same(
        shipped(run / "checkpoint" / "start.safetensors"), shipped(begun / "checkpoint" / "last.safetensors")
    )
    assert (
        str(begun) not in (run / "environment.json").read_text()
    )  # the folders of a machine are nobody's business


def test_what_is_no_start_is_one_line(trained: tuple[Path, str], world: Path, tmp_path: Path) -> None:
    train = ("train", "cacl", "--data", world, "--run", tmp_path / "run", *without_network(CROPS))
    line = refused(*train, "--weights", trained[0], "--set", "model.backbone=resnet18")
    assert "0 of the 20 weights of the backbone fit" in line or "nothing fits" in line
    changed = tmp_path / "changed.safetensors"
    content = bytearray((trained[0] / "checkpoint" / "last.safetensors").read_bytes())
    content[-9] ^= 1
    changed.write_bytes(content)
    assert "was changed after it was written" in refused(*train, "--weights", changed)
    (tmp_path / "empty").mkdir()
    assert "give a run folder" in refused(*train, "--weights", tmp_path / "empty")
    assert "no such file" in refused(*train, "--weights", tmp_path / "absent")
    assert not (tmp_path / "run").exists()


def test_scenes_go_on_with_their_detector_too(
    searched: tuple[Path, str], scenes_folder: Path, tmp_path: Path
) -> None:
    run, begun = tmp_path / "run", searched[0]
    more = ("--weights", begun, *without_network(SMALL), "--set", "train.epochs=1")
    said = done("train", "r-siamnet", "--data", scenes_folder, "--run", run, *more)
    assert f"weights {begun}: " in said
    assert "missing" not in said
    assert_same(
        shipped(run / "checkpoint" / "start.safetensors"), shipped(begun / "checkpoint" / "last.safetensors")
    )


def test_two_steps_go_on_each_from_its_own(
    stepped: tuple[Path, str], scenes_folder: Path, tmp_path: Path
) -> None:
    run, begun = tmp_path / "run", stepped[0]
    detector = [w if w == "--set" else f"detector.{w}" for w in without_network(SMALL)]
    reid = [w if w == "--set" else f"reid.{w}" for w in without_network(CROPS)]
    steps = (*detector, *reid, "--set", "detector.train.epochs=1")
    done("train", "two-step", "--data", scenes_folder, "--run", run, "--weights", begun, *steps)
    for step in ("detector", "reid"):
        first, last = (
            run / step / "checkpoint" / "start.safetensors",
            begun / step / "checkpoint" / "last.safetensors",
        )
        assert_same(shipped(first), shipped(last))


def test_one_kind_of_network_gives_the_other_its_backbone(
    searched: tuple[Path, str], stepped: tuple[Path, str]
) -> None:
    """A run on scenes for crops, and the second of two steps for scenes."""
    network, checkpoint = load_searcher(searched[0])
    encoder = build_encoder(
        resolve("cacl", None, [f"model.backbone={checkpoint.config.model.backbone}"]).model
    )
    report = load_weights(encoder, searched[0])
    theirs = network.pyramid.backbone.state_dict()
    ours = encoder.backbone.state_dict()
    assert report.prefix == "pyramid."
    assert report.share == 1
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    detector = checkpoint.config
    pyramid = get_method(detector.method).encoder(detector)
    assert load_weights(pyramid, stepped[0]).share == 1  # its first step
    last = shutil.copy(
        stepped[0] / "detector" / "checkpoint" / "last.safetensors", stepped[0].parent / "d.safetensors"
    )
    assert load_weights(encoder, last).share == 1
