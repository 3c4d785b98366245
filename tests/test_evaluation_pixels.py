"""Pixels are normalised as the weights were trained, wherever a model sees them; and old models as they always were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from reseen.config import Config, from_yaml
from reseen.data import SceneView
from reseen.data.scene_loaders import scene_batches
from reseen.evaluation import evaluate_encoder
from reseen.evaluation.encoders import available, embed_crops
from reseen.evaluation.search import find_persons
from reseen.evaluation.two_steps import embed_images
from reseen.inference import PersonSearcher, load_encoder
from reseen.methods import get_method
from reseen.models import build_encoder
from reseen.models.pyramid import build_pyramid
from reseen.models.search import build_search_network
from reseen.records import Crop, LabelledCrops, ReidData, Scene
from reseen.training import fit
from reseen.training.checkpoint import read_checkpoint, write_checkpoint
from worlds import people, tiny, tiny_search

OTHER = ("data.mean=[0.5,0.4,0.3]", "data.std=[0.5,0.25,0.2]")
VALUE = 128  # of every pixel
SEEN = torch.tensor([(VALUE / 255 - mean) / std for mean, std in ((0.5, 0.5), (0.4, 0.25), (0.3, 0.2))])


class Eye(nn.Module):
    """Keeps the middle pixel of all that goes into ``part``."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        part.register_forward_pre_hook(lambda _, given: self.look(given[0]))

    def look(self, images: Tensor) -> None:
        self.seen.append(images[:, :, images.shape[2] // 4, images.shape[3] // 4].detach().float())

    def saw_only(self, pixel: Tensor) -> bool:
        return bool(self.seen) and all(torch.allclose(x, pixel.expand_as(x), atol=1e-5) for x in self.seen)


@pytest.fixture
def crop(tmp_path: Path) -> Crop:
    Image.fromarray(np.full((32, 16, 3), VALUE, np.uint8)).save(tmp_path / "crop.png")
    return Crop(tmp_path / "crop.png", 1)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    Image.fromarray(np.full((128, 192, 3), VALUE, np.uint8)).save(tmp_path / "scene.png")
    return Scene(tmp_path / "scene.png", np.array([[10, 10, 60, 100]], np.float32))


def test_embedding_and_evaluation_of_crops(crop: Crop) -> None:
    config = tiny("cacl", *OTHER)
    encoder = build_encoder(config.model)
    eye = Eye(encoder)
    embed_crops(encoder, (crop, crop), config)
    embed_images(encoder, [torch.full((3, 32, 16), VALUE, dtype=torch.uint8)], config)
    other = Crop(crop.path.with_name("other.png"), 2)  # of the same pixels, and not the same picture
    with Image.open(crop.path) as image:
        image.save(other.path, compress_level=0)
    part = LabelledCrops((crop, other), np.array([1, 1]))
    evaluate_encoder(
        encoder, ReidData("one", crop.path.parent, (crop,), None, query=part, gallery=part), config
    )
    assert len(eye.seen) == 4
    assert eye.saw_only(SEEN)


def test_training_on_crops(tmp_path: Path) -> None:
    crops, _ = people(tmp_path / "people")
    for one in crops:  # every image the same: only the normalisation is left to see
        Image.fromarray(np.full((32, 16, 3), VALUE, np.uint8)).save(one.path)
    method = get_method("cacl")
    seen: list[Tensor] = []

    def losses(run: Any, batch: Any, labels: Tensor) -> Any:
        seen.extend([batch.first, batch.second])
        return method.losses(run, batch, labels)

    plain = ("data.pad=0", "data.erase=0", "data.second_view=none", "train.epochs=1", "cluster.enabled=false")
    config = tiny("cacl-no-clustering", *OTHER, *plain[:4])
    fit(
        config,
        crops,
        replace(method, losses=losses),
        folder=tmp_path / "run",
        root=tmp_path,
        weights="none",
        say=lambda line: None,
    )
    assert len(seen) == 4
    assert all(torch.allclose(x, SEEN.view(3, 1, 1).expand_as(x), atol=1e-5) for x in seen)


def test_scenes_in_training_evaluation_and_the_searcher(scene: Scene) -> None:
    config = tiny_search(*OTHER)
    network = build_search_network(
        config, build_pyramid(config.model.backbone, channels=config.search.channels, weights="none")[0]
    ).eval()
    eye = Eye(network.pyramid)
    find_persons(network, (scene,), ("scene.png",), config)
    searcher = PersonSearcher(network, config, device="cpu")
    searcher(scene.path)
    searcher.embed(scene.path, scene.boxes)
    batch = next(scene_batches((scene,), [[0]], SceneView.of_config(config), seed=1, epoch=0, flip=0.5))
    eye.look(batch.images)
    assert len(eye.seen) == 4
    assert eye.saw_only(SEEN)


def test_a_checkpoint_from_before_embeds_as_it_did(tmp_path: Path) -> None:
    """It names no pixels: they were ImageNet's for every backbone, Lite0's too."""
    crops, _ = people(tmp_path / "people")
    config = tiny("cacl", "train.epochs=1", "data.mean=[0.485,0.456,0.406]", "data.std=[0.229,0.224,0.225]")
    run = tmp_path / "run"
    method = get_method("cacl")
    fit(config, crops, method, folder=run, root=tmp_path, weights="none", say=lambda line: None)
    encoder, now = load_encoder(run)
    state = dict(now.state)
    lines = state["config"].splitlines()
    first = lines.index("  mean:")
    assert lines[first + 4] == "  std:"
    old = [line for line in [*lines[:first], *lines[first + 8 :]] if not line.startswith("weights:")]
    state["config"] = "\n".join(old)
    write_checkpoint(
        tmp_path / "old.safetensors", read_checkpoint(run / "checkpoint" / "last.safetensors").tensors, state
    )
    before, then = load_encoder(tmp_path / "old.safetensors")
    assert then.config.data.mean == ()
    assert then.config == replace(from_yaml(state["config"]), weights="imagenet")
    assert torch.equal(embed_crops(encoder, crops, now.config), embed_crops(before, crops, then.config))


def trained_in(precision: str, device: str = "cpu") -> Config:
    return tiny("cacl", f"train.precision={precision}", f"train.device={device}")


def test_bf16_without_units_for_it_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model trained in bf16 on one machine is embedded on another, where bf16 would be emulated."""
    monkeypatch.setattr("reseen.device._computes_in_bf16", lambda device: False)
    assert available(trained_in("bf16"))[1] == "none"
    config = tiny_search("train.precision=bf16")
    network = build_search_network(
        config, build_pyramid(config.model.backbone, channels=16, weights="none")[0]
    )
    assert PersonSearcher(network, config, device="cpu").precision == "none"
    monkeypatch.setattr("reseen.device._computes_in_bf16", lambda device: True)
    assert available(trained_in("bf16"))[1] == "bf16"
    assert available(trained_in("none"))[1] == "none"
    assert available(trained_in("fp16", "cpu"))[1] == "bf16"
