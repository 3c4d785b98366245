"""A small grammar of spellings: a table, COCO file or folder in any of them is read as its plain form, or refused."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reseen.data import open_data, open_search_data
from reseen.errors import ReseenError
from test_data_spelling import told

EXAMPLES = 200
FILES = ("a/1.jpg", "a/2.jpg", "b/3.jpg", "4.png", "f\u00fcr.jpg")
WORDS = {
    "path": ("path", "file", "File Name", "image_path", "IMG", "filename"),
    "identity": ("identity", "pid", "Person ID", "person_id", "id", "label"),
    "camera": ("camera", "cam", "camID", "camera-id", "cam_id"),
    "split": ("split", "part", "Set", "subset"),
}
PART_WORDS = {
    "train": ("train", "Training", "train_set", "bounding_box_train"),
    "validation": ("validation", "val", "Valid"),
    "query": ("query", "probe", "Queries"),
    "gallery": ("gallery", "Gallery", "gallery_images"),
    "test": ("test", "Testing", "bounding_box_test"),
}
IDENTITIES = st.sampled_from((None, -1, 0, 1, 2, 3, "ann", "bob", "junk", "distractor"))
CAMERAS = st.sampled_from((None, -1, 0, 1, 2, "door", "yard"))


@st.composite
def spelt(draw: Callable[..., Any], plain: object) -> str:
    """A value of a table in one of its spellings."""
    if plain is None:
        return draw(st.sampled_from(("", "nan", "None", " ")))
    if isinstance(plain, int):
        return draw(st.sampled_from((str(plain), f"{plain}.0", f" {plain} ", f"{plain:03d}")))
    return draw(st.sampled_from((str(plain), f" {plain}")))


@st.composite
def path(draw: Callable[..., Any], plain: str) -> str:
    return draw(
        st.sampled_from(
            (
                plain,
                f"./{plain}",
                plain.replace("/", "\\"),
                f".\\{plain}",
                f"a/../{plain}",
                plain.replace("\u00fc", "u\u0308"),
            )
        )
    )


Rows = list[tuple[str, Any, Any, str]]
TABLES = st.lists(
    st.tuples(st.sampled_from(FILES), IDENTITIES, CAMERAS, st.sampled_from(sorted(PART_WORDS))),
    min_size=1,
    max_size=5,
    unique_by=lambda row: (row[0], row[3]),
)


def table(header: list[str], rows: list[list[str]], separator: str = ",", end: str = "\n") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=end).writerows([header, *rows])
    return text.getvalue()


@st.composite
def tables(draw: Callable[..., Any]) -> tuple[str, str]:
    """A table in plain words, and the same in others."""
    rows: Rows = draw(TABLES)
    meanings = ["path", "identity", "camera", "split"]
    text = [["" if field is None else str(field) for field in row] for row in rows]
    plain = table(meanings, text)
    order = draw(st.permutations(range(4)))
    fields = [
        [draw(path(name)), draw(spelt(who)), draw(spelt(camera)), draw(st.sampled_from(PART_WORDS[part]))]
        for name, who, camera, part in rows
    ]
    header = [draw(st.sampled_from(WORDS[meaning])) for meaning in meanings]
    more = draw(st.sampled_from(("", "age", "note")))
    columns = [header[place] for place in order] + ([more] if more else [])
    written = [[row[place] for place in order] + (["x"] if more else []) for row in fields]
    other = table(columns, written, draw(st.sampled_from(",;\t")), draw(st.sampled_from(("\n", "\r\n"))))
    return plain, draw(st.sampled_from(("", "\ufeff"))) + other


def outcome(read: Callable[[], Any]) -> Any:
    """What is read, or None where it is refused, in one line."""
    try:
        return read()
    except ReseenError as error:
        refusal = str(error)
    assert "\n" not in refusal
    return None


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("grammar")
    for name in FILES:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(name.encode())  # readers look at names only
    return root


@settings(max_examples=EXAMPLES)
@given(both=tables())
def test_tables(images: Path, both: tuple[str, str]) -> None:
    found = []
    for text in both:
        (images / "list.csv").write_text(text, encoding="utf-8", newline="")
        found.append(outcome(lambda: told(open_data(images / "list.csv"))))
    assert found[1] in (None, found[0])


# --- COCO

CATEGORIES = st.sampled_from(("person", "Pedestrian", "human", "people"))
BOXES = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from((None, -1, 0, 1, 7, "ann")), st.sampled_from(("person", "car"))
    ),
    max_size=6,
)


@st.composite
def cocos(draw: Callable[..., Any]) -> tuple[str, str]:
    """A COCO file in plain words, and the same in others."""
    cameras = draw(st.lists(CAMERAS, min_size=3, max_size=3))
    boxes = draw(BOXES)
    person, key, camera_key = (
        draw(CATEGORIES),
        draw(st.sampled_from(("person_id", "pid", "identity", "PersonID"))),
        draw(st.sampled_from(("camera", "cam", "camera_id"))),
    )

    def number(plain: object) -> Any:
        forms = (plain, float(plain), str(plain)) if isinstance(plain, int) else (plain,)
        return draw(st.sampled_from(forms))

    def written(other: bool) -> str:
        name = draw if other else (lambda strategy: None)
        images = [
            {
                "id": number(row) if other else row,
                "file_name": (name(path(FILES[row])) or FILES[row]),
                (camera_key if other else "camera"): number(camera) if other else camera,
            }
            for row, camera in enumerate(cameras)
        ]
        annotations = [
            {
                "image_id": number(image) if other else image,
                "bbox": [10 * place, 1, 5, 9],
                "category_id": number(int(what == "car")) if other else int(what == "car"),
                (key if other else "person_id"): number(who) if other else who,
            }
            for place, (image, who, what) in enumerate(boxes)
        ]
        categories = [{"id": 0, "name": person if other else "person"}, {"id": 1, "name": "car"}]
        return json.dumps({"images": images, "annotations": annotations, "categories": categories})

    return written(False), written(True)


def told_of_scenes(file: Path) -> list[Any]:
    data = open_search_data(file)
    labels = data.train_identities or [None] * len(data.train)
    return [
        (name, scene.camera, scene.boxes.tolist(), None if who is None else who.tolist())
        for name, scene, who in zip(data.train_names, data.train, labels, strict=True)
    ]


@settings(max_examples=EXAMPLES)
@given(both=cocos())
def test_coco_files(images: Path, both: tuple[str, str]) -> None:
    found = []
    for text in both:
        (images / "mine.json").write_text(text, encoding="utf-8")
        found.append(outcome(lambda: told_of_scenes(images / "mine.json")))
    assert found[1] in (None, found[0])


# --- folders


@st.composite
def folders(draw: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """Names of images in plain parts, and the same under other words for the parts, or one folder further down."""
    parts = draw(st.lists(st.sampled_from(sorted(PART_WORDS)), min_size=1, max_size=4, unique=True))
    within = draw(st.sampled_from(("", "images/", "set/")))
    plain, other = [], []
    for part in parts:
        word = draw(st.sampled_from(PART_WORDS[part]))
        persons = draw(st.lists(st.sampled_from(("1", "02", "ann", "-1", "0")), min_size=1, max_size=3))
        flat = draw(st.sampled_from((False, False, True)))
        for number, person in enumerate(persons):
            name = f"x{number}.jpg" if flat else f"{person}/{person}_c{number % 2 + 1}_{number}.jpg"
            plain.append(f"{part}/{name}")
            other.append(f"{within}{word}/{name}")
    return plain, other


def told_of_folder(names: list[str], words: dict[str, str]) -> Any:
    with tempfile.TemporaryDirectory() as root:
        for name in names:
            place = Path(root) / "data" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(name.encode())

        def read() -> Any:
            data = open_data(Path(root) / "data")
            names = [str((data.root / row[3]).relative_to(Path(root) / "data")) for row in told(data)]
            return sorted((*row[:3], words[name]) for row, name in zip(told(data), names, strict=True))

        return outcome(read)


@settings(max_examples=EXAMPLES)
@given(both=folders())
def test_folders(both: tuple[list[str], list[str]]) -> None:
    plain, other = both
    expected = told_of_folder(plain, dict(zip(plain, plain, strict=True)))
    assert told_of_folder(other, dict(zip(other, plain, strict=True))) in (None, expected)
