"""``reseen.Embedder``, ``reseen.train`` and ``reseen.evaluate``: what a program calls, and what is in sight of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import reseen
from reseen.config import from_yaml, resolve
from reseen.data import open_data, read_image
from reseen.errors import ReseenError
from reseen.evaluation import embed_crops
from reseen.inference import load_encoder
from reseen.methods.cacl import METHOD
from reseen.metrics import reid_scores
from reseen.records import SearchData
from reseen.street import draw_crops
from reseen.training import fit
from worlds import TINY, TINY_SEARCH


def as_keywords(settings: list[str]) -> dict[str, Any]:
    """``train.epochs=2`` as a program writes it: ``train__epochs=2``."""
    return {key.replace(".", "__"): value for key, value in (setting.split("=") for setting in settings)}


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops") / "street"
    draw_crops(folder, train_identities=6, test_identities=4, cameras=2, frames=2)
    return folder


@pytest.fixture(scope="module")
def run(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained by ``reseen.train``, in a folder of our choice."""
    run_dir = tmp_path_factory.mktemp("runs") / "cacl"
    given = as_keywords(TINY) | {
        "train__epochs": 1,
        "data__mean": (0.5, 0.4, 0.3),
        "data__std": [0.5, 0.25, 0.2],
    }
    assert reseen.train("cacl", crops, run_dir, weights="none", **given) == run_dir
    return run_dir


@pytest.fixture(scope="module")
def scenes_run(street: SearchData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained by ``reseen.train`` on scenes."""
    run_dir = tmp_path_factory.mktemp("runs") / "scenes"
    given = as_keywords(TINY_SEARCH) | {"train__epochs": 1}
    return reseen.train("r-siamnet", str(street.root), str(run_dir), weights="none", **given)


@pytest.fixture(scope="module")
def embedder(run: Path) -> Any:
    return reseen.Embedder.load(run)


# --- Embedder: what is computed ---


def test_features_are_those_that_evaluate_scores(run: Path, crops: Path, embedder: Any) -> None:
    images = open_data(crops)
    assert images.query is not None
    assert images.gallery is not None
    query, gallery = (embedder([crop.path for crop in part.crops]) for part in (images.query, images.gallery))
    ours = reid_scores(
        query,
        gallery,
        images.query.identities,
        images.gallery.identities,
        images.query.cameras,
        images.gallery.cameras,
    )
    theirs = reseen.evaluate(run, crops)
    assert ours.mean_ap == theirs.mean_ap
    np.testing.assert_array_equal(ours.average_precision, theirs.average_precision)
    assert query.dtype == np.float32
    assert query.shape == (len(images.query), embedder.dim)
    np.testing.assert_allclose(np.linalg.norm(query, axis=1), 1, atol=1e-5)


def test_the_second_branch_sees_grey_images(run: Path, crops: Path) -> None:
    paths = [crop.path for crop in open_data(crops).train[:6]]
    second = reseen.Embedder.load(run, branch="second")
    encoder, checkpoint = load_encoder(run, branch="second")
    some = open_data(crops).train[:6]
    grey = embed_crops(encoder, some, checkpoint.config, grey=True).numpy()
    colour = embed_crops(encoder, some, checkpoint.config).numpy()
    np.testing.assert_array_equal(second(paths), grey)
    assert not np.allclose(grey, colour, atol=1e-4)
    pixels = [read_image(path).permute(1, 2, 0).numpy() for path in paths]
    np.testing.assert_allclose(second(pixels), grey, atol=1e-6)
    drained = [np.array(Image.fromarray(image).convert("L")) for image in pixels]
    np.testing.assert_allclose(second(drained), grey, atol=0.02)  # its colours are not looked at


def test_from_a_checkpoint_file_on_a_device(run: Path, crops: Path, embedder: Any) -> None:
    path = open_data(crops).train[0].path
    last = reseen.Embedder.load(str(run / "checkpoint" / "last.safetensors"), device="cpu")
    np.testing.assert_array_equal(last(path), embedder(path))
    start = reseen.Embedder.load(run / "checkpoint" / "start.safetensors")
    assert not np.allclose(start(path), embedder(path), atol=1e-4)


def test_a_model_by_a_method_of_ones_own(crops: Path, tmp_path: Path) -> None:
    images = open_data(crops)
    config = resolve("cacl", None, [*TINY, "method=mine", "train.epochs=1"])
    run = fit(
        config, images.train, METHOD, folder=tmp_path / "run", root=images.root, weights="none", say=str
    )
    with pytest.raises(ReseenError, match=r"no method 'mine'.*method="):
        reseen.Embedder.load(tmp_path / "run")
    ours = reseen.Embedder.load(tmp_path / "run", method=METHOD)
    expected = reseen.Embedder(METHOD.deployed(run.networks).eval(), run.config)
    np.testing.assert_array_equal(ours(images.train[0].path), expected(images.train[0].path))


# --- Embedder: what it is given ---


def test_one_image_or_many(crops: Path, embedder: Any) -> None:
    paths = [crop.path for crop in open_data(crops).train[:3]]
    expected = embedder(paths)
    pixels = [read_image(path).permute(1, 2, 0).numpy() for path in paths]
    for many in (tuple(map(str, paths)), iter(paths), pixels, np.stack(pixels), map(Image.fromarray, pixels)):
        np.testing.assert_allclose(embedder(many), expected, atol=1e-6)
    with Image.open(paths[1]) as opened:
        mixed = embedder([paths[0], opened, pixels[2]])
    np.testing.assert_allclose(mixed, expected, atol=1e-6)
    for one in (paths[1], str(paths[1]), pixels[1], Image.fromarray(pixels[1])):
        found = embedder(one)
        assert found.shape == (1, embedder.dim)
        np.testing.assert_allclose(found[0], expected[1], atol=1e-6)


def test_no_image_gives_no_row(embedder: Any) -> None:
    for nothing in ([], (), iter(())):
        assert embedder(nothing).shape == (0, embedder.dim)


def odd_images(folder: Path) -> dict[str, Path]:
    """One person in the ways in which images are stored: turned, printed, grey, transparent, deep, with a palette."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 4, 3)).repeat(8, axis=0).repeat(8, axis=1)
    person = Image.fromarray(pixels.astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter to the right to see it upright
    turned = person.rotate(90, expand=True)
    clear = person.convert("RGBA")
    clear.putalpha(100)
    deep = Image.fromarray((np.array(person.convert("L")).astype(np.uint16) << 8) + 77)
    made = {
        "plain.png": lambda path: person.save(path),
        "turned.png": lambda path: turned.save(path, exif=exif),
        "turned.jpg": lambda path: turned.save(path, exif=exif, quality=95),
        "cmyk.jpg": lambda path: person.convert("CMYK").save(path, quality=95),
        "grey.jpg": lambda path: person.convert("L").save(path, quality=95),
        "grey.png": lambda path: person.convert("L").save(path),
        "deep.png": lambda path: deep.save(path),
        "clear.png": lambda path: clear.save(path),
        "palette.png": lambda path: person.quantize(16).save(path),
    }
    for name, save in made.items():
        save(folder / name)
    return {name: folder / name for name in made}


def test_a_file_and_what_pillow_opens_are_the_same_image(embedder: Any, tmp_path: Path) -> None:
    files = odd_images(tmp_path)
    features = {}
    for name, path in files.items():
        features[name] = embedder(path)[0]
        with Image.open(path) as opened:
            np.testing.assert_allclose(embedder(opened)[0], features[name], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(features["turned.png"], features["plain.png"], atol=1e-6)
    np.testing.assert_allclose(features["clear.png"], features["plain.png"], atol=1e-6)
    np.testing.assert_allclose(features["deep.png"], features["grey.png"], atol=1e-6)
    assert not np.allclose(features["grey.png"], features["plain.png"], atol=1e-3)


@pytest.mark.parametrize("content", [None, b"", b"not an image", b"\xff\xd8\xff\xe0 torn"], ids=str)
def test_an_unreadable_file_is_named_in_one_line(
    content: bytes | None, embedder: Any, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    if content is not None:
        bad.write_bytes(content)
    for images in (bad, [bad], [np.zeros((8, 8, 3), np.uint8), bad]):
        with pytest.raises(ReseenError, match=r"^[^\n]*bad\.jpg[^\n]*$"):
            embedder(images)


def test_a_torn_image_that_pillow_opened_is_named(embedder: Any, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        tmp_path / "a.png"
    )
    (tmp_path / "torn.png").write_bytes((tmp_path / "a.png").read_bytes()[:4000])
    with (
        Image.open(tmp_path / "torn.png") as opened,
        pytest.raises(ReseenError, match=r"torn\.png cannot be decoded"),
    ):
        embedder(opened)


@pytest.mark.parametrize(
    "wrong",
    [None, 5, np.zeros((4, 5, 3)), np.zeros((2, 3, 4, 5, 3), np.uint8), [None], b"abc", [[]]],
    ids=repr,
)
def test_what_is_no_image_is_one_line(wrong: Any, embedder: Any) -> None:
    with pytest.raises(ReseenError, match=r"^an image is a path, a PIL image, or an array uint8 \[H, W, 3\]"):
        embedder(wrong)


def test_a_run_of_the_other_kind_is_one_line(run: Path, scenes_run: Path) -> None:
    with pytest.raises(ReseenError, match=r"^[^\n]*searches scenes \(r-siamnet\): give a model for crops$"):
        reseen.Embedder.load(scenes_run)
    with pytest.raises(
        ReseenError, match=r"^[^\n]*a model for crops \(cacl\): give one that searches scenes$"
    ):
        reseen.PersonSearcher.load(run)
    for wrong in (run.parent / "none", run / "report"):
        with pytest.raises(ReseenError, match=r"^[^\n]+$"):
            reseen.Embedder.load(wrong)
    with pytest.raises(ReseenError, match="no branch 'third'"):
        reseen.Embedder.load(run, branch="third")


# --- train and evaluate ---


def test_settings_are_written_with_two_underscores(run: Path) -> None:
    config = from_yaml((run / "config.yaml").read_text())
    assert (config.train.epochs, config.cluster.k1, config.weights) == (1, 6, "none")
    assert (config.data.mean, config.data.std) == ((0.5, 0.4, 0.3), (0.5, 0.25, 0.2))


def test_values_of_numpy_and_paths_are_taken(crops: Path, tmp_path: Path) -> None:
    with pytest.raises(ReseenError, match=r"cluster\.k2 is 9"):
        reseen.train("cacl", crops, tmp_path / "run", cluster__k1=np.int64(6), cluster__k2=np.int64(9))
    given = as_keywords(TINY) | {"weights": tmp_path / "none.pt"}
    with pytest.raises(ReseenError, match=r"none\.pt"):
        reseen.train("cacl", crops, tmp_path / "run", **given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"train__epoch": 3}, r"unknown key 'train\.epoch'; did you mean train\.epochs\?"),
        ({"epochs": 3}, r"unknown key 'epochs'; did you mean train\.epochs\?"),
        ({"train__epochs": "many"}, r"train\.epochs is 'many'"),
        ({"train__epochs": 0}, r"train\.epochs is 0"),
        ({"recipe": "caml"}, r"did you mean cacl"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_named_with_a_dot(
    given: dict[str, Any], said: str, crops: Path, tmp_path: Path
) -> None:
    with pytest.raises(ReseenError, match=said):
        reseen.train("cacl", crops, tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_there_is_continued_only_when_asked(run: Path, crops: Path) -> None:
    with pytest.raises(ReseenError, match="already holds a run"):
        reseen.train("cacl", crops, run, weights="none", **as_keywords(TINY))
    before = (run / "checkpoint" / "last.safetensors").read_bytes()
    assert reseen.train("cacl", crops, run, resume=True) == run
    assert (run / "checkpoint" / "last.safetensors").read_bytes() == before


def test_evaluate_takes_the_options_of_the_command(
    run: Path, crops: Path, scenes_run: Path, street: SearchData
) -> None:
    logged = run / "evaluations.jsonl"
    before = logged.read_text().count("\n") if logged.exists() else 0
    scores = reseen.evaluate(str(run), str(crops), branch="second", view="colour", epoch="last")
    record = json.loads(logged.read_text().splitlines()[-1])
    assert logged.read_text().count("\n") == before + 1
    assert (record["branch"], record["view"]) == ("second", "colour")
    assert record["mean_ap"] == pytest.approx(scores.mean_ap)
    found = reseen.evaluate(scenes_run, street.root)
    assert {"mean_ap", "top1"} <= found.keys()
    with pytest.raises(ReseenError, match="works on crops"):
        reseen.evaluate(run, street.root)
    with pytest.raises(ReseenError, match="searches in scenes"):
        reseen.evaluate(scenes_run, crops)
    with pytest.raises(ReseenError, match="--rerank is not for"):
        reseen.evaluate(scenes_run, street.root, rerank=True)


# --- what is in sight ---


def test_dir_shows_what_there_is() -> None:
    assert {"Embedder", "PersonSearcher", "train", "evaluate", "losses", "clustering"} <= set(dir(reseen))
    assert set(reseen.__all__) <= set(dir(reseen))
    assert [name for name in dir(reseen) if not hasattr(reseen, name)] == []
    assert [name for name in reseen.__all__ if name.startswith("_")] == []
    with pytest.raises(AttributeError, match="no attribute 'Embeder'"):
        _ = reseen.Embeder


def test_everything_can_be_imported_with_a_star() -> None:
    names: dict[str, Any] = {}
    exec("from reseen import *", names)
    assert set(reseen.__all__) <= names.keys()
    assert names["Embedder"] is reseen.Embedder


def test_torch_waits_for_its_first_use() -> None:
    code = """
import sys, reseen
dir(reseen), reseen.__all__, reseen.__version__, reseen.train, reseen.evaluate, reseen.__doc__
heavy = {"torch", "numpy", "torchvision", "timm", "scipy", "PIL"} & set(sys.modules)
assert not heavy, heavy
sys.modules["torch"] = None  # importing it is an error now
try:
    reseen.Embedder
except ImportError as error:
    assert error.name == "torch", error
else:
    raise AssertionError("it needs no torch")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
