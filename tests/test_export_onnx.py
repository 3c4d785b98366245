"""Models as ONNX: equal to PyTorch for every detector, any number of images and boxes, and read without torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from command_runs import done
from reseen.errors import ReseenError
from reseen.export import onnx_files
from reseen.export.graphs import Graph, graphs_of
from reseen.inference import Embedder, PersonSearcher
from reseen.methods import get_method
from reseen.models.detectors import build_detector
from reseen.models.detectors.grid import TOP_PER_LEVEL, best_of_levels, keep_best
from reseen.onnx import Embedder as OnnxEmbedder
from reseen.onnx import Graph as Written
from reseen.onnx import PersonSearcher as OnnxSearcher
from reseen.onnx import choose
from scene_worlds import picture
from test_cli import refused
from worlds import tiny_search

SIZE = (192, 128)  # width and height at which tiny networks see a scene: nothing is resized


@pytest.fixture(scope="module")
def crops_out(trained: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What the command wrote of a run on crops, and said."""
    out = tmp_path_factory.mktemp("onnx") / "crops"
    return out, done("export", trained[0], "--format", "onnx", "--out", out, "--licence", "apache-2.0")


class TwoMaps(nn.Module):
    """A pyramid of two maps: enough for a detector, and exported in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 9, 8, 4), nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = self.first(images)
        return [fine, self.second(fine)]


def searcher(*settings: str) -> PersonSearcher:
    """An untrained network on two maps that sees persons everywhere, some more surely than others."""
    torch.manual_seed(0)
    config = tiny_search("search.dim=16", "search.channels=8", *settings)
    method: Any = get_method("r-siamnet")
    network = method.shipped(config, method.encoder(config))
    network.pyramid, network.detector = TwoMaps(), build_detector(config.search.detector, 8, (8, 16))
    excite(network.detector)
    return PersonSearcher(network.eval(), config, device="cpu")


def excite(detector: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
            if "class_logit" in name or "cls_logits" in name or "cls_score" in name:
                parameter.mul_(4) if parameter.ndim > 1 else parameter.fill_(0.0)


@pytest.fixture(scope="module")
def scenes_out(tmp_path_factory: pytest.TempPathFactory) -> tuple[PersonSearcher, Path]:
    model, out = searcher("search.paths_at_test=both"), tmp_path_factory.mktemp("onnx") / "scenes"
    onnx_files.write_onnx(model, out, licence="none")
    return model, out


def test_the_command_says_what_it_compared(crops_out: tuple[Path, str]) -> None:
    out, said = crops_out
    assert [path.name for path in out.iterdir()] == ["embedder.onnx"]
    assert said.startswith("embedder.onnx: largest difference from PyTorch ")
    assert "smallest cosine 1.0" in said or "smallest cosine 0.99999" in said
    file = onnx.load(out / "embedder.onnx")
    onnx.checker.check_model(file)
    about = {entry.key: entry.value for entry in file.metadata_props}
    assert about["licence"] == "apache-2.0"
    seen = json.loads(about["preprocessing"])
    assert (seen["height"], seen["width"], seen["interpolation"], len(seen["mean"])) == (32, 16, "bicubic", 3)
    assert file.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    written = (out / "embedder.onnx").read_bytes()
    assert str(Path(onnx_files.__file__).parent).encode() not in written  # nothing of this machine


@pytest.mark.parametrize("count", [1, 7])
def test_features_of_files_are_pytorchs(
    crops_out: tuple[Path, str], trained: tuple[Path, str], world: Path, tmp_path: Path, count: int
) -> None:
    here, there = Embedder.load(trained[0], device="cpu"), OnnxEmbedder.load(crops_out[0])
    assert there.fingerprint == here.fingerprint
    paths = sorted((world / "bounding_box_train").iterdir())[:count]
    assert np.abs(here(paths) - there(paths)).max() < 1e-5  # of the network's size: the same pixels
    large = [picture(tmp_path / f"{row}.jpg", [(20, 10, 30, 90)], (61 + row, 149)) for row in range(count)]
    features = there(large)
    assert features.shape == (count, here.dim)
    # resized: some pixels in a thousand differ by one level of 255
    assert (here(large) * features).sum(axis=1).min() > 0.9999
    assert np.abs(features - there([Image.open(path) for path in large])).max() == 0


def test_a_scene_is_searched_as_by_pytorch(scenes_out: tuple[PersonSearcher, Path], tmp_path: Path) -> None:
    model, out = scenes_out
    there = OnnxSearcher.load(out)
    assert (there.fingerprint, there.dim) == (model.fingerprint, model.dim)
    path = picture(tmp_path / "scene.png", [(10, 10, 40, 100), (90, 20, 30, 80)], SIZE)
    expected, found = model(path), there(path)
    assert len(found.boxes) == len(expected.boxes) > 5
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.features, expected.features, atol=1e-4)
    sure = float(np.median(expected.scores))
    assert len(there(path, min_score=sure).boxes) == (found.scores >= sure).sum()
    boxes = [[10, 10, 50, 110], [-5, 0, 200, 128]]
    np.testing.assert_allclose(there.embed(path, boxes), model.embed(path, boxes), atol=1e-5)
    assert there.embed(path, []).shape == (0, model.dim)
    with pytest.raises(ReseenError, match="shows nobody"):
        there.embed(path, [[300, 0, 310, 9]])
    large = picture(tmp_path / "large.jpg", [(60, 30, 120, 300)], (500, 400))  # resized, and padded
    boxes = [[60, 30, 180, 330]]
    assert (there.embed(large, boxes) * model.embed(large, boxes)).sum() > 0.9999


def test_two_steps_are_a_detector_and_an_embedder(
    crops_out: tuple[Path, str],
    scenes_out: tuple[PersonSearcher, Path],
    trained: tuple[Path, str],
    tmp_path: Path,
) -> None:
    detector, second = scenes_out[0], Embedder.load(trained[0], device="cpu")
    model = PersonSearcher(detector.network, detector.config, device="cpu", second=second)
    assert [graph.name for graph in graphs_of(model)] == ["detector", "embedder"]
    for file in (scenes_out[1] / "detector.onnx", crops_out[0] / "embedder.onnx"):
        shutil.copy(file, tmp_path)
    there = OnnxSearcher.load(tmp_path)
    assert (there.fingerprint, there.dim) == (model.fingerprint, model.dim)
    path = picture(tmp_path / "scene.png", [(10, 10, 40, 100)], SIZE)
    boxes = [[10, 10, 50, 110], [-5, 3.5, 70.2, 128]]
    assert (there.embed(path, boxes) * model.embed(path, boxes)).sum(axis=1).min() > 0.9999
    np.testing.assert_allclose(there(path).boxes, model(path).boxes, atol=1e-2)
    shutil.copy(scenes_out[1] / "features.onnx", tmp_path)
    (tmp_path / "embedder.onnx").unlink()
    file = onnx.load(tmp_path / "detector.onnx")
    next(entry for entry in file.metadata_props if entry.key == "fingerprint").value = "another"
    onnx.save(file, tmp_path / "detector.onnx")
    with pytest.raises(ReseenError, match="of different models"):
        OnnxSearcher.load(tmp_path)


@pytest.mark.parametrize("name", ["reppoints", "faster-rcnn"])  # RetinaNet: the scene above
def test_dense_outputs_choose_what_detect_does(name: str, tmp_path: Path) -> None:
    model = searcher(f"search.detector={name}")
    network, lines = model.network, []
    for graph in graphs_of(model)[:-1]:
        path = tmp_path / f"{graph.name}.onnx"
        onnx_files._write(graph, path, "none")
        lines.append(onnx_files._checked(graph, path))
    assert len(lines) == {"reppoints": 1, "faster-rcnn": 2}[name]
    there = OnnxSearcher.__new__(OnnxSearcher)
    there._detector, there._second_look = Written.load(tmp_path / "detector.onnx"), None
    if len(lines) == 2:
        there._second_look = Written.load(tmp_path / "second_look.onnx")
    images = torch.rand(1, 3, 160, 224)
    images[:, :, 150:], images[:, :, :, 200:] = 0, 0  # padding
    with torch.no_grad():
        ((boxes, scores),) = network.detector.detect(network.pyramid(images), torch.tensor([[150, 200]]))
    found, sure = there._detect(images.numpy(), (150, 200))
    assert len(found) == len(boxes) > 5
    np.testing.assert_allclose(sure, scores.numpy(), atol=1e-5)
    np.testing.assert_allclose(found, boxes.numpy(), atol=1e-2)


def test_a_pyramid_of_a_backbone_is_exported(tmp_path: Path) -> None:
    config = tiny_search("search.dim=16", "search.channels=8")
    method: Any = get_method("r-siamnet")
    network = method.shipped(config, method.encoder(config)).eval()
    graph = graphs_of(PersonSearcher(network, config, device="cpu"))[-1]
    onnx_files._write(graph, tmp_path / "features.onnx", "none")
    assert "smallest cosine" in onnx_files._checked(graph, tmp_path / "features.onnx")


@pytest.mark.parametrize("seed", range(8))
def test_choosing_is_torchvisions(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    counts = [1500, 300, 7, 0]
    corners = torch.rand(sum(counts), 2, 2, generator=generator).sort(dim=1).values * 220 - 10
    boxes = corners.flatten(1)
    scores = torch.rand(len(boxes), generator=generator)
    expected = keep_best(*best_of_levels(boxes, scores, counts), (150, 200))
    settings = {"top": TOP_PER_LEVEL, "min_score": 0.05, "min_side": 1.0, "max_overlap": 0.5, "most": 100}
    found = choose(boxes.numpy(), scores.numpy(), (150, 200), counts=counts, by_level=False, **settings)
    for here, there in zip(expected, found, strict=True):
        np.testing.assert_array_equal(here.numpy(), there)


def test_no_torch_is_imported(
    crops_out: tuple[Path, str], scenes_out: tuple[Any, Path], tmp_path: Path
) -> None:
    path = picture(tmp_path / "scene.png", [(10, 10, 40, 100)], SIZE)
    code = (
        "import sys, reseen.onnx as o\n"
        f"assert o.Embedder.load({str(crops_out[0])!r}, threads=1)([{str(path)!r}]).shape[0] == 1\n"
        f"assert len(o.PersonSearcher.load({str(scenes_out[1])!r}, threads=1)({str(path)!r}).boxes)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def graph(trained: tuple[Path, str]) -> Graph:
    return graphs_of(Embedder.load(trained[0], device="cpu"))[0]


def test_other_values_are_not_written(
    crops_out: tuple[Path, str], trained: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Embedder.load(trained[0], device="cpu")
    with torch.no_grad():
        model.encoder.neck.weight[:9] *= 1.01
    file = (crops_out[0] / "embedder.onnx").read_bytes()
    monkeypatch.setattr(onnx_files, "_write", lambda graph, path, licence: path.write_bytes(file))
    with pytest.raises(ReseenError, match=r"differs from PyTorch by \d.*more than 1e-04: not written"):
        onnx_files.write_onnx(model, tmp_path / "out", licence="none")
    with torch.no_grad():
        model.encoder.neck.weight[0] = float("nan")
    with pytest.raises(ReseenError, match="differs from PyTorch by nan"):
        onnx_files.write_onnx(model, tmp_path / "out", licence="none")
    assert list(tmp_path.iterdir()) == []


def test_a_fixed_batch_is_noticed(crops_out: tuple[Path, str], graph: Graph, tmp_path: Path) -> None:
    file = onnx.load(crops_out[0] / "embedder.onnx")
    file.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(file, tmp_path / "fixed.onnx")
    with pytest.raises(ReseenError, match="fixed batch of input images"):
        onnx_files._checked(graph, tmp_path / "fixed.onnx")


def test_mistakes_are_one_line(
    crops_out: tuple[Path, str],
    scenes_out: tuple[Any, Path],
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "did you mean onnx" in refused("export", finished, "--format", "onx")
    assert "is there already" in refused("export", finished, "--format", "onnx", "--out", crops_out[0])
    assert "no trained model" in refused("export", tmp_path, "--format", "onnx")
    (tmp_path / "other.onnx").write_bytes(b"no graph")
    for load, place, says in (
        (OnnxEmbedder.load, tmp_path / "none.onnx", "is not there"),
        (OnnxEmbedder.load, tmp_path / "other.onnx", "no ONNX model"),
        (OnnxEmbedder.load, scenes_out[1], "PersonSearcher"),
        (OnnxSearcher.load, crops_out[0], "Embedder"),
    ):
        with pytest.raises(ReseenError, match=says):
            load(place)
    (tmp_path / "full").mkdir()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(onnx_files, "_write", full)
        line = refused("export", finished, "--format", "onnx", "--out", tmp_path / "full" / "onnx")
        assert "No space left on device" in line
        assert os.listdir(tmp_path / "full") == []
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install 'reseen[export]'" in refused("export", finished, "--format", "onnx")
    with pytest.raises(ReseenError, match="pip install onnxruntime"):
        OnnxEmbedder.load(crops_out[0])
    assert not (finished / "onnx").exists()
