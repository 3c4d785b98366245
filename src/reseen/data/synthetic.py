"""The drawn street: synthetic crops and scenes of people with known identities, for demo and tests.

Flat vector pedestrians before four cameras that differ in background, colours, noise and the side that they
see. Eight outfits (colours) are shared by all identities: texture, bag, hat, hair and build tell them
apart. Boxes are loose on purpose (``box_jitter``): with tight ones an untrained thumbnail recognises
people as well as a trained network, and a comparison on them would mislead.

Everything is a function of the seed. A street is drawn once: a finished folder is read, not drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from reseen.data import street_store as store
from reseen.data.street_crops import FOLDERS, Shot, draw_crop, plan_crops
from reseen.data.street_scenes import SPLITS, draw_scene, plan_scenes
from reseen.errors import ReseenError
from reseen.records import Crop, LabelledCrops, LabelledScenes, ReidData, Scene

Progress = Callable[[int, int], None]  # (images done, images in all)


def draw_crops(
    root: Path,
    *,
    seed: int = 0,
    train_identities: int = 80,
    test_identities: int = 60,
    cameras: int = 4,
    frames: int = 4,
    box_jitter: float = 0.08,
    progress: Progress | None = None,
) -> ReidData:
    """Person crops, 64 x 128 pixels, in Market-1501's layout and naming below ``root``.

    Identities 1..train are in ``bounding_box_train``, the following ones in ``query`` (one image for each
    identity and camera) and ``bounding_box_test``. Tracklets have about ``frames`` images. ``box_jitter`` is
    the standard deviation of a box's shift, as a share of its size, and of the logarithm of its size.
    The defaults give about 1,200 training, 225 query and 680 gallery crops.

    Calling again with equal parameters reads what was drawn. Raises :class:`ReseenError` where ``root``
    holds a street with other parameters, a damaged one, or files that are not ours.
    """
    root = Path(root)
    _require(seed >= 0, f"seed must be 0 or more, not {seed}")
    _require(2 <= cameras <= 9, f"cameras must be 2 to 9, not {cameras}")
    _require(
        train_identities >= 1 and test_identities >= 1,
        "the street needs a training and a test identity or more",
    )
    _require(train_identities + test_identities <= 9999, "Market-1501's names hold at most 9999 identities")
    _require(2 <= frames <= 90, f"frames must be 2 to 90, not {frames}")
    _require(0 <= box_jitter <= 0.3, f"box_jitter must be 0 to 0.3, not {box_jitter}")
    sizes = {
        "train_identities": train_identities,
        "test_identities": test_identities,
        "cameras": cameras,
        "frames": frames,
    }
    parameters = {"kind": "crops", "seed": seed, **sizes, "box_jitter": box_jitter}
    shots = plan_crops(seed, **sizes)
    names = [shot.name for shot in shots]
    if store.read_manifest(root, parameters) is None:
        store.begin(root, parameters, FOLDERS)
        store.draw_all(root, names, lambda i: draw_crop(seed, shots[i], box_jitter=box_jitter), progress)
        store.finish(root, parameters, {"images": len(names)})
    store.require_files(root, names)

    train, query, gallery = (
        _labelled(root, [shot for shot in shots if shot.folder == folder]) for folder in FOLDERS
    )
    return ReidData("street", root, train.crops, train.identities, query, gallery)


def _labelled(root: Path, shots: list[Shot]) -> LabelledCrops:
    crops = tuple(Crop(root / shot.name, shot.camera) for shot in shots)
    return LabelledCrops(crops, np.array([shot.identity for shot in shots], dtype=np.int64))


def draw_scenes(
    root: Path,
    *,
    seed: int = 0,
    split: Literal["train", "test"] = "train",
    scenes: int = 200,
    train_identities: int = 40,
    test_identities: int = 30,
    cameras: int = 4,
    persons: tuple[int, int] = (2, 6),
    progress: Progress | None = None,
) -> LabelledScenes:
    """Whole scenes, 640 x 360 pixels, with tight person boxes and identities, below ``root / split``.

    Training scenes show identities 1..train, test scenes the following ones; with equal seeds they are the
    people of :func:`draw_crops`. A scene has ``persons[0]`` to ``persons[1]`` people. Boxes are float32
    ``[n, 4]`` (xyxy, pixels), hold the whole figure even where others hide it, and end at the border.
    Everybody passes every camera if ``scenes * persons[0] >= identities * cameras``.

    Drawn once, as :func:`draw_crops`; raises :class:`ReseenError` in the same cases.
    """
    _require(split in SPLITS, f"split must be train or test, not {split}")
    _require(seed >= 0, f"seed must be 0 or more, not {seed}")
    _require(scenes >= 1, f"scenes must be 1 or more, not {scenes}")
    _require(1 <= cameras <= 9, f"cameras must be 1 to 9, not {cameras}")
    _require(1 <= persons[0] <= persons[1], f"persons must be (fewest, most), not {persons}")
    _require(min(train_identities, test_identities) >= persons[1], "fewer identities than persons in a scene")
    _require(not Path(root).is_file(), f"{root} is a file: name a folder to draw the street in")
    root = Path(root) / split
    parameters: dict[str, Any] = {
        "kind": "scenes",
        "split": split,
        "seed": seed,
        "train_identities": train_identities,
        "test_identities": test_identities,
        "cameras": cameras,
        "scenes": scenes,
        "persons": list(persons),
    }
    manifest = store.read_manifest(root, parameters)
    if manifest is None:
        last = train_identities + test_identities
        population = (
            range(1, train_identities + 1) if split == "train" else range(train_identities + 1, last + 1)
        )
        shots = plan_scenes(
            seed, split=split, scenes=scenes, identities=population, cameras=cameras, persons=persons
        )
        entries: list[dict[str, Any]] = []

        def draw(i: int) -> Image.Image:
            image, boxes = draw_scene(seed, shots[i])
            entry = {
                "file": shots[i].name,
                "camera": shots[i].camera,
                "identities": list(shots[i].identities),
            }
            entries.append({**entry, "boxes": boxes.tolist()})
            return image

        store.begin(root, parameters, ("images",))
        store.draw_all(root, [f"images/{shot.name}" for shot in shots], draw, progress)
        manifest = {"images": entries}
        store.finish(root, parameters, manifest)
    return _scenes_of(root, manifest["images"])


def _scenes_of(root: Path, entries: list[dict[str, Any]]) -> LabelledScenes:
    store.require_files(root, [f"images/{entry['file']}" for entry in entries])
    return LabelledScenes(
        tuple(
            Scene(
                root / "images" / entry["file"],
                np.asarray(entry["boxes"], dtype=np.float32).reshape(-1, 4),
                entry["camera"],
            )
            for entry in entries
        ),
        tuple(np.asarray(entry["identities"], dtype=np.int64) for entry in entries),
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ReseenError(message)
