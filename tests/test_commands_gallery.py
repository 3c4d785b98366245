"""``reseen index``, ``search``, ``forget`` and ``gallery``, as somebody types them."""

from __future__ import annotations

import csv
import io
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import reseen
from command_runs import done
from galleries import calibration
from reseen.files import to_json
from reseen.gallery import Gallery
from reseen.inference import load_model
from reseen.tasks import CALIBRATION
from test_cli import call

PATTERN = ("--camera-pattern", r"_c(\d)s")


@pytest.fixture(scope="module")
def sure_run(trained: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run with a calibration, which so few people give no report."""
    run = shutil.copytree(trained[0], tmp_path_factory.mktemp("runs") / "sure")
    tree = {**calibration().as_json(), "model": load_model(run).fingerprint}
    (run / CALIBRATION).write_text(to_json(tree))
    return run


@pytest.fixture(scope="module")
def crops(world: Path, sure_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of the training images of `world`, indexed as three folders; nobody may change it."""
    place = tmp_path_factory.mktemp("crops") / "gallery"
    said = done("index", sure_run, world / "bounding_box_train", "--gallery", place, *PATTERN)
    assert said.endswith(f"32 persons in 32 images and videos -> {place}, which holds 32\n")
    return place


@pytest.fixture
def mine(crops: Path, tmp_path: Path) -> Path:
    """A copy, to do things to; the model is still found."""
    (tmp_path / "a").mkdir()
    done("gallery", crops, "--copy-to", tmp_path / "a" / "gallery")
    return tmp_path / "a" / "gallery"


def refused(*words: object) -> str:
    code, out, err = call(*words)
    assert (code, err.count("\n")) == (2, 1), out + err
    return err


def test_what_is_indexed_is_found(
    crops: Path, world: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    images = sorted((world / "bounding_box_train").glob("*.png"))
    said = done("search", crops, images[5], "--top", 3, "--csv", tmp_path / "hits.csv").splitlines()
    assert len(said) == 3
    assert said[0].endswith(f"very likely             row 5, {images[5].name}, camera 1")
    assert re.match(r"   1   1\.000  9\d % \(9\d to >?99\) ", said[0])
    with open(tmp_path / "hits.csv") as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == [line.split("row ")[1].split(",")[0] for line in said]
    assert lines[0]["source"] == images[5].name
    formula = shutil.copy(images[5], tmp_path / "=1+1.png")  # a name that a spreadsheet would compute
    done("index", trained[0], tmp_path, "--gallery", tmp_path / "g")
    assert 0.9 < float(lines[0]["probability_low"]) <= float(lines[0]["probability"]) < 1
    said = done("search", tmp_path / "g", formula, "--top", 1, "--csv", tmp_path / "hits.csv")
    assert "no probability: the gallery has no calibration of its model: reseen report RUN" in said
    assert "no probability" in refused("forget", tmp_path / "g", "--like", formula, "--above", 0.9)
    with open(tmp_path / "hits.csv") as file:
        assert [line["source"] for line in csv.DictReader(file)] == ["./=1+1.png"]
    assert float(lines[0]["similarity"]) == pytest.approx(1, abs=1e-3)
    assert (lines[0]["box"], lines[0]["frame"], lines[0]["track"]) == ("0 0 16 32", "", "")
    model = reseen.Embedder.load(trained[0])
    features = model(images)
    hits = reseen.Gallery.open(crops, model).search(images[5], 32)
    order = np.argsort(-(features @ features[5]), kind="stable")
    assert [hit.row for hit in hits][:5] == order[:5].tolist()
    others = done("search", crops, images[5], "--not-cameras", 1, "--top", 40).splitlines()
    assert len(others) == 16
    assert all("camera 2" in line for line in others)
    reranked = done("search", crops, images[5], "--rerank", "--cameras", 1, 7, "--top", 2)
    assert "row 5, " in reranked.splitlines()[0]
    assert "no probability: re-ranked" in reranked
    assert "nothing in" in done("search", crops, images[5], "--after", "2026-01-01")


def test_indexing_again_goes_on_where_it_was(mine: Path, world: Path, trained: tuple[Path, str]) -> None:
    words = ("index", trained[0], world / "bounding_box_train", "--gallery", mine)
    assert "holds rows of 32 of these sources" in refused(*words)
    assert "0 persons in 0 images" in done(*words, "--resume")
    done("forget", mine, "--source", "0001_c1s1_000000_00.png", "--yes")
    assert "1 persons in 1 images" in done(*words, "--resume")
    assert len(Gallery.open(mine)) == 32
    done(*words, "--prefix", "again/", "--expires", 7)
    gallery = Gallery.open(mine)
    assert {name.split("/")[0] for name in gallery.sources() if "/" in name} == {"again"}
    assert np.isfinite(gallery.held.column("expiry")).sum() == 32


def test_forgetting_asks_shows_and_proves(mine: Path, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = sorted((world / "bounding_box_train").glob("*.png"))[5]
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert "nothing was erased" in refused("forget", mine, "--row", 5)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert "say --yes" in refused("forget", mine, "--row", 5)
    twice = done("forget", mine, "--row", 1, "--row", 2, 3, "--dry-run")
    assert twice.splitlines()[-1].startswith("3 of 32 rows of")
    for sure in (("--above", 0.9), ("--above-similarity", 0.999)):
        assert "row 5, " in done("forget", mine, "--like", image, *sure, "--dry-run")
    said = done("forget", mine, "--like", image, "--above-similarity", 0.999, "--dry-run")
    assert "row 5, " in said
    assert said.splitlines()[-1].startswith("1 of 32 rows of")
    assert len(Gallery.open(mine)) == 32
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    said = done("forget", mine, "--like", image, "--above-similarity", 0.999)
    assert "1 rows are erased: " in said
    assert "and not found" in said
    assert image.name not in (mine / "audit.jsonl").read_text()
    assert len(Gallery.open(mine)) == 31
    assert "nobody is found" in done("forget", mine, "--expired", "--yes")
    assert "row 5," not in done("search", mine, image, "--top", 40)


def test_persons_in_scenes(scenes_folder: Path, searched: tuple[Path, str], tmp_path: Path) -> None:
    place = tmp_path / "gallery"
    done("index", searched[0], scenes_folder, "--gallery", place, "--min-score", 0.2)
    gallery = Gallery.open(place)
    assert len(gallery) > 3
    model = load_model(searched[0])
    hit = gallery.search(gallery.held.vectors(np.array([2]))[0], 1)[0]
    scene = scenes_folder / hit.source
    box = [f"{side:.3f}" for side in hit.box]
    assert f"row {hit.row}, {hit.source}" in done("search", place, scene, "--box", *box, "--top", 1)
    surest = model(scene).features[0]
    assert gallery.search(surest, 1)[0].row == reseen.Gallery.open(place, model).search(scene, 1)[0].row
    assert "shows nobody" in refused("search", place, scene, "--box", 5000, 5000, 5001, 5001)
    picture = gallery.thumbnails([hit.row])[hit.row]
    assert picture[:2] == b"\xff\xd8"
    said = done("gallery", place)
    assert "rows of r-siamnet" in said
    assert "matches have no probability: the gallery has no calibration" in said


def test_every_command_of_the_page_about_galleries_runs(
    world: Path, sure_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "gallery.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", page, re.M | re.S)
    commands = [shlex.split(line)[1:] for block in blocks for line in block.splitlines()]
    assert {words[0] for words in commands} == {"index", "search", "forget", "gallery"}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(world / "bounding_box_train")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "photos").symlink_to(sure_run)
    here = [words for words in commands if "qdrant://" not in " ".join(words)]  # they need a server
    said = {" ".join(words): done(*words) for words in here}
    assert sum("row" in text for text in said.values()) >= 8
    assert len(Gallery.open("archive")) < 32


def test_mistakes_are_one_line(
    mine: Path, world: Path, trained: tuple[Path, str], searched: tuple[Path, str], tmp_path: Path
) -> None:
    image = next((world / "bounding_box_train").glob("*.png"))
    for words, said in (
        (("search", tmp_path / "none", image), "is no gallery yet"),
        (("search", mine, tmp_path / "none.png"), "none.png"),
        (("search", mine, image, "--run", searched[0]), "and none of r-siamnet"),
        (("search", mine, image, "--run", tmp_path / "none"), "is not a checkpoint"),
        (("search", mine, image, "--top", 0), "--top 0 finds nothing"),
        (("search", mine, image, "--after", "noon"), "'noon' is no time"),
        (("search", mine, image, "--csv", tmp_path), "choose another --csv"),
        (("forget", mine), "say who is to be erased"),
        (("forget", mine, "--row", 99, "--yes"), "has no row 99"),
        (("forget", mine, "--like", image, "--yes"), "and the probability above which"),
        (("forget", mine, "--track", "a.mp4", "--yes"), "names no track"),
        (("gallery", tmp_path / "none"), "is no gallery yet"),
        (("gallery", mine, "--copy-to", mine), "copy into another gallery"),
        (("index", trained[0], world, "--gallery", tmp_path / "g", "--expires", -1), "--expires -1"),
        (("index", trained[0], tmp_path / "none", "--gallery", tmp_path / "g"), "check the path"),
        (("index", trained[0], world, "--gallery", tmp_path), "holds other files and no gallery"),
    ):
        assert said in refused(*words)
    assert not (tmp_path / "g").exists()
    assert len(Gallery.open(mine)) == 32
    shutil.move(mine, tmp_path / "elsewhere")
    assert "name it with --run RUN" in refused("search", tmp_path / "elsewhere", image)
    done("search", tmp_path / "elsewhere", image, "--run", trained[0])


def test_without_the_extra_a_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = (
        "reseen.gallery",
        *(f"reseen.commands.{name}" for name in ("search", "forget", "gallery", "index")),
    )
    for name in [name for name in sys.modules if name.startswith(ours)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lancedb", None)
    image, run = tmp_path / "a.png", tmp_path / "run"
    for words in (
        ("search", "g", image),
        ("forget", "g"),
        ("gallery", "g"),
        ("index", run, "p", "--gallery", "g"),
    ):
        assert refused(*words).endswith("pip install 'reseen[gallery]'\n")
