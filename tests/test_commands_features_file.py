"""Another model's features get the same scores as ours, in any order, and what does not fit is said in one line."""

import numpy as np
import pytest

from reseen import cli
from reseen.commands.features_file import evaluate_file
from reseen.errors import ReseenError
from reseen.evaluation import evaluate_features
from reseen.street import draw_crops


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    return draw_crops(
        tmp_path_factory.mktemp("features") / "street",
        seed=2,
        train_identities=2,
        test_identities=6,
        cameras=2,
        frames=2,
    )


@pytest.fixture
def arrays(street):
    draw = np.random.default_rng(0)
    return {
        "query": draw.normal(size=(len(street.query), 8)) * 5,
        "gallery": draw.normal(size=(len(street.gallery), 8)),
    }


def names(street):
    return {
        "query_names": [str(crop.path) for crop in street.query.crops],
        "gallery_names": [crop.path.name for crop in street.gallery.crops],
    }


def test_rows_in_any_order_score_as_in_ours(street, arrays, tmp_path, capsys):
    unit = {part: rows / np.linalg.norm(rows, axis=1, keepdims=True) for part, rows in arrays.items()}
    expected = evaluate_features(unit["query"], unit["gallery"], street.query, street.gallery)
    np.savez(tmp_path / "plain.npz", **arrays)
    assert evaluate_file(tmp_path / "plain.npz", data=street.root).mean_ap == expected.mean_ap
    order = np.random.default_rng(1).permutation(len(arrays["gallery"]))
    given = names(street)
    mixed = arrays | {
        "gallery": np.concatenate([arrays["gallery"][order], np.ones((1, 8))]),
        "gallery_names": [*(given["gallery_names"][i] for i in order), "somebody_else.jpg"],
    }
    np.savez(tmp_path / "mixed.npz", **mixed)
    assert evaluate_file(tmp_path / "mixed.npz", data=street.root).mean_ap == expected.mean_ap
    shuffled = arrays | {"gallery": arrays["gallery"][order]}
    np.savez(tmp_path / "wrong.npz", **shuffled)  # without names the order is believed
    assert evaluate_file(tmp_path / "wrong.npz", data=street.root).mean_ap != expected.mean_ap
    capsys.readouterr()
    words = ["evaluate", "--features", str(tmp_path / "mixed.npz"), "--data", str(street.root), "--rerank"]
    assert cli.main(words) == 0
    assert f"mAP {expected.mean_ap:.1%}" in (told := capsys.readouterr().out)
    assert "re-ranked" in told
    counts = (
        f"{len(street.train)} training images, {len(street.query)} queries, {len(street.gallery)} gallery"
    )
    assert told.startswith(
        f"read street (the folders of Market-1501): {counts} images; nothing is left out\n"
    )
    notes = street.root / "query" / "notes.txt"
    notes.write_text("not an image")
    assert cli.main(words) == 0
    notes.unlink()
    skipped, read, *_ = capsys.readouterr().out.splitlines()
    assert "notes.txt" in skipped
    assert read.endswith("; 1 thing is left out, named above")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"gallery": None}, "no array 'gallery'"),
        ({"query": np.ones((3, 8))}, "give query_names too"),
        ({"query": np.full((1, 8), np.nan), "query_names": ["a.jpg"]}, "NaN"),
        ({"query_names": ["a.jpg"]}, "1 query_names for"),
    ],
)
def test_what_does_not_fit_is_one_line(street, arrays, tmp_path, change, expected):
    given = {key: value for key, value in (arrays | change).items() if value is not None}
    np.savez(tmp_path / "f.npz", **given)
    with pytest.raises(ReseenError, match=expected) as error:
        evaluate_file(tmp_path / "f.npz", data=street.root)
    assert "\n" not in str(error.value)


def test_files_and_options_that_cannot_be_used(street, arrays, tmp_path, capsys):
    (tmp_path / "text.npz").write_text("no numbers")
    given = arrays | names(street)
    given["query_names"][0] = "another.jpg"
    np.savez(tmp_path / "lost.npz", **given)
    data = ["--data", str(street.root)]
    for words, expected in (
        (["--features", str(tmp_path / "text.npz"), *data], "numpy.savez"),
        (["--features", str(tmp_path / "none.npz"), *data], "numpy.savez"),
        (["--features", str(tmp_path / "lost.npz"), *data], "no row for 1 query images"),
        (["--features", str(tmp_path / "lost.npz"), "--branch", "second", *data], "--branch is for a RUN"),
        (data, "give one of them"),
    ):
        assert cli.main(["evaluate", *words]) == 2
        assert expected in (error := capsys.readouterr().err)
        assert error.count("\n") == 1


def test_images_of_the_same_name_are_told_apart_by_their_folders(tmp_path):
    """Person by person folders: every one has an a.jpg."""
    (tmp_path / "m.csv").write_text(
        "path,camera,identity,split\n"
        + "".join(
            f"{split}/{person}/a.jpg,{1 + (split == 'gallery')},{person},{split}\n"
            for split in ("query", "gallery")
            for person in (1, 2, 3)
        )
        + "train/1/a.jpg,1,9,train\n"
    )
    for split in ("query", "gallery"):
        for person in (1, 2, 3):
            (tmp_path / split / str(person)).mkdir(parents=True)
    given = {
        "query": np.eye(3),
        "gallery": np.eye(3)[::-1],
        "query_names": [f"/x/query/{n}/a.jpg" for n in (1, 2, 3)],
        "gallery_names": [f"/x/gallery/{n}/a.jpg" for n in (3, 2, 1)],
    }
    from PIL import Image

    paths = ("train/1/a.jpg", *(f"{s}/{n}/a.jpg" for s in ("query", "gallery") for n in (1, 2, 3)))
    for shade, path in enumerate(paths):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 32), (20 * shade, 0, 0)).save(tmp_path / path)
    np.savez(tmp_path / "f.npz", **given)
    assert evaluate_file(tmp_path / "f.npz", data=tmp_path / "m.csv").mean_ap == 1
    np.savez(tmp_path / "f.npz", **(given | {"gallery_names": ["a.jpg"] * 3}))
    with pytest.raises(ReseenError, match="two rows of gallery"):
        evaluate_file(tmp_path / "f.npz", data=tmp_path / "m.csv")
