"""Tiny person search data sets in the layouts of CUHK-SYSU, PRW and COCO: noise with a coloured block per person."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from reseen.records import Scene

Box = Sequence[float]  # x, y, width, height
WIDTH, HEIGHT = 60, 40  # pixels of a scene


def picture(
    path: Path, boxes: Iterable[Box] = (), size: tuple[int, int] = (WIDTH, HEIGHT), seed: int = 0
) -> Path:
    """A noisy image of ``size`` (width, height) with a bright block in each box."""
    rng = np.random.default_rng([seed, *path.name.encode()])
    levels = rng.integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    for x, y, w, h in boxes:
        levels[max(0, int(y)) : int(y + h), max(0, int(x)) : int(x + w)] = rng.integers(150, 255, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path, quality=95)
    return path


def scene(path: Path, boxes: Sequence[Box], size: tuple[int, int] = (WIDTH, HEIGHT)) -> Scene:
    """The picture at ``path`` and its record."""
    corners = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return Scene(picture(path, boxes, size), corners)


def structs(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> np.ndarray:
    """A MATLAB struct array, 1 x n."""
    result = np.zeros((1, len(rows)), dtype=[(name, object) for name in fields])
    for place, row in enumerate(rows):
        for name in fields:
            result[0, place][name] = row[name]
    return result


def cells(values: Sequence[Any]) -> np.ndarray:
    """A MATLAB cell array, n x 1."""
    result = np.empty((len(values), 1), dtype=object)
    for place, value in enumerate(values):
        result[place, 0] = value
    return result


# CUHK-SYSU. Images s1..s3 are for training, s4..s8 the pool. Persons p1 and p2 in training, two queries.
CUHK_BOXES: dict[str, list[Box]] = {
    "s1.jpg": [(2, 3, 10, 20), (30, 5, 8, 16), (5, 5, 0, 7)],  # the last one has no area
    "s2.jpg": [(12, 4, 10, 20)],
    "s3.jpg": [],
    "s4.jpg": [(1, 2, 10, 20), (40, 10, 10, 20)],
    "s5.jpg": [(11, 12, 9, 18)],
    "s6.jpg": [(3, 4, 10, 20), (20, 4, 10, 20)],
    "s7.jpg": [(33, 4, 10, 20)],
    "s8.jpg": [],
}
CUHK_TRAIN = {
    "p1": [("s1.jpg", (2, 3, 10, 20)), ("s2.jpg", (12, 4, 10, 20))],
    "p2": [("s1.jpg", (30, 5, 8, 16))],
}
CUHK_QUERIES: list[tuple[str, Box, list[tuple[str, Box | None]]]] = [
    ("s4.jpg", (1, 2, 10, 20), [("s6.jpg", (20, 4, 10, 20)), ("s5.jpg", None), ("s7.jpg", None)]),
    ("s5.jpg", (11, 12, 9, 18), [("s7.jpg", (33, 4, 10, 20)), ("s6.jpg", (3, 4, 10, 20)), ("s8.jpg", None)]),
]


def cuhk_sysu(root: Path, *, sizes: Sequence[int] = (50, 100), compressed: bool = True) -> Path:
    """A tiny CUHK-SYSU; ``TestG100`` searches in s4 or s5 as well, last."""
    annotation, protocols = root / "annotation", root / "annotation" / "test" / "train_test"
    protocols.mkdir(parents=True)
    for name, boxes in CUHK_BOXES.items():
        picture(root / "Image" / "SSM" / name, boxes)
    images = [
        {
            "imname": name,
            "nAppear": len(boxes),
            "box": structs(
                [{"idlocate": np.array([box], dtype=np.int32), "ishard": 0} for box in boxes],
                ("idlocate", "ishard"),
            ),
        }
        for name, boxes in CUHK_BOXES.items()
    ]
    save = {"do_compression": compressed}
    savemat(annotation / "Images.mat", {"Img": structs(images, ("imname", "nAppear", "box"))}, **save)
    savemat(annotation / "pool.mat", {"pool": cells([f"s{number}.jpg" for number in range(4, 9)])}, **save)
    place = ("imname", "idlocate", "ishard")
    persons = [
        structs(
            [
                {
                    "idname": person,
                    "nAppear": len(seen),
                    "scene": structs([_place(name, box) for name, box in seen], place),
                }
            ],
            ("idname", "nAppear", "scene"),
        )
        for person, seen in CUHK_TRAIN.items()
    ]
    savemat(protocols / "Train.mat", {"Train": cells(persons)}, **save)
    for size in sizes:
        rows = []
        for (name, box, gallery), more in zip(CUHK_QUERIES, ("s5.jpg", "s4.jpg"), strict=True):
            listed = gallery if size == 50 else [*gallery, (more, None)]
            rows.append(
                {
                    "Query": structs([{**_place(name, box), "idname": "p"}], (*place, "idname")),
                    "Gallery": structs([_place(image, where) for image, where in listed], place),
                }
            )
        savemat(protocols / f"TestG{size}.mat", {f"TestG{size}": structs(rows, ("Query", "Gallery"))}, **save)
    return root


def _place(name: str, box: Box | None) -> dict[str, Any]:
    located = np.zeros((0, 0)) if box is None else np.array([box], dtype=np.int32)
    return {"imname": name, "idlocate": located, "ishard": 0}


# PRW. Person 0 is a person; -2 was not named.
PRW_ROWS: dict[str, list[tuple[float, float, float, float, float]]] = {
    "c1s1_000001": [(1, 2, 3, 10, 20), (-2, 30, 3, 10, 20)],
    "c2s1_000002": [(1, 2.6, 3.2, 10.5, 20.9)],
    "c1s1_000011": [(0, -3, 3, 10, 20), (7, 20, 3, 10, 20)],
    "c2s1_000012": [(7, 20, 3, 0, 20), (0, 4, 4, 10, 20)],
    "c3s1_000013": [(0, 5, 5, 10, 20), (0, 30, 5, 10, 20), (7, 15, 15, 10, 20)],
    "c3s1_000014": [],
}
PRW_TRAIN, PRW_TEST = ("c1s1_000001", "c2s1_000002"), tuple(PRW_ROWS)[2:]
PRW_QUERIES = ("0 4 4 10 20 c2s1_000012", "7 20 3 10 20 c1s1_000011.jpg")


def prw(
    root: Path, *, variable: str = "box_new", queries: str = "query_info.txt", ending: str = "\n"
) -> Path:
    for name, rows in PRW_ROWS.items():
        picture(root / "frames" / f"{name}.jpg", [row[1:] for row in rows])
        (root / "annotations").mkdir(exist_ok=True)
        table = np.array(rows, dtype=np.float64).reshape(-1, 5)
        savemat(root / "annotations" / f"{name}.jpg.mat", {variable: table})
    savemat(root / "frame_train.mat", {"img_index_train": cells(PRW_TRAIN)})
    savemat(root / "frame_test.mat", {"img_index_test": cells(PRW_TEST)})
    (root / queries).write_text("".join(line + ending for line in PRW_QUERIES), newline="")
    return root


def coco(
    path: Path,
    scenes: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    cameras: Mapping[str, Any] | None = None,
    categories: Sequence[Mapping[str, Any]] = (),
    images: str = "images",
) -> Path:
    """``scenes``: file name -> annotations, which get an id and the id of their image."""
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": list(categories)}
    for number, (name, boxes) in enumerate(scenes.items()):
        image = {"id": number, "file_name": name}
        content["images"].append({**image, "camera": cameras[name]} if cameras else image)
        content["annotations"] += [{"image_id": number, **box} for box in boxes]
        picture(path.parent / images / name)
    path.write_text(json.dumps(content))
    return path


def corners(box: Any) -> list[float]:
    x, y, w, h = box
    return [x, y, x + w, y + h]


def as_dict(targets: Any) -> dict[str, list[float] | None]:
    return {name: None if box is None else box.tolist() for name, box in targets.items()}
