"""The scenes of the drawn street as a person search data set."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from reseen.data.galleries import galleries_by_identity, probes_by_camera
from reseen.data.paths import shown
from reseen.data.street_store import MANIFEST
from reseen.data.synthetic import Progress, draw_scenes
from reseen.errors import ReseenError
from reseen.records import LabelledScenes, SearchData

_PARAMETERS = ("seed", "scenes", "train_identities", "test_identities", "cameras", "persons")


def draw_search_street(
    root: Path,
    *,
    seed: int = 0,
    train_scenes: int = 200,
    test_scenes: int = 100,
    train_identities: int = 40,
    test_identities: int = 30,
    cameras: int = 4,
    persons: tuple[int, int] = (2, 6),
    progress: Progress | None = None,
) -> SearchData:
    """Draw training and test scenes below ``root`` (see :func:`reseen.data.synthetic.draw_scenes`).

    Test scenes show other people than training scenes. Queries are the first box of each person and camera,
    their gallery all test scenes but their own. What is drawn already is read.

    Raises:
        ReseenError: as ``draw_scenes``.
    """
    everything = train_scenes + test_scenes

    def told(before: int) -> Progress | None:
        return None if progress is None else lambda done, _: progress(before + done, everything)

    sizes: dict[str, Any] = {
        "seed": seed,
        "train_identities": train_identities,
        "test_identities": test_identities,
        "cameras": cameras,
        "persons": persons,
    }
    train = draw_scenes(root, split="train", scenes=train_scenes, progress=told(0), **sizes)
    test = draw_scenes(root, split="test", scenes=test_scenes, progress=told(train_scenes), **sizes)
    return _assemble(Path(root), train, test)


def is_search_street(folder: Path) -> bool:
    return os.path.isfile(folder / "train" / MANIFEST) and os.path.isfile(folder / "test" / MANIFEST)


def read_search_street(folder: Path) -> SearchData:
    """The street that was drawn in ``folder``, both parts of it.

    Raises:
        ReseenError: the drawing is damaged, or is one of crops.
    """
    return _assemble(folder, _part(folder, "train"), _part(folder, "test"))


def _part(folder: Path, split: Any) -> LabelledScenes:
    path = folder / split / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        given = {key: content[key] for key in _PARAMETERS}
        given["persons"] = tuple(given["persons"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReseenError(
            f"{shown(path)} is not that of drawn scenes: delete {shown(folder)} and draw it again"
        ) from error
    return draw_scenes(folder, split=split, **given)


def _assemble(root: Path, train: LabelledScenes, test: LabelledScenes) -> SearchData:
    names = tuple(scene.path.name for scene in test.scenes)
    probes = probes_by_camera(test.scenes, test.identities)
    return SearchData(
        name="street",
        root=root,
        train=train.scenes,
        train_names=tuple(scene.path.name for scene in train.scenes),
        train_identities=train.identities,
        test=test.scenes,
        test_names=names,
        test_identities=test.identities,
        probes=probes,
        read_gallery=galleries_by_identity(test.scenes, names, test.identities, probes) if probes else None,
    )
