"""Crops for some methods, scenes with boxes for others: what was given for the wrong one is said in one line."""

from __future__ import annotations

import os
from pathlib import Path

from reseen.data import fraction, join, open_data, open_search_data
from reseen.data.benchmarks import as_published
from reseen.data.paths import shown
from reseen.data.same import refuse_tested
from reseen.data.scene_doctor import KNOWN as KNOWN_SCENES
from reseen.data.scenes import search_layout
from reseen.errors import ReseenError
from reseen.records import ReidData, SearchData
from reseen.street.scenes import update_scenes
from reseen.tasks.task import USUAL, Reading


def open_crops(data: Path, wanted_by: str, how: Reading = USUAL) -> ReidData:
    """:func:`reseen.data.open_data`, but not the frames of a data set with scenes as if they were crops.

    Args:
        wanted_by: method or run, named in the error.

    Raises:
        ReseenError: as there, ``data`` holds scenes, or pictures to train on are those to be tested on.
    """
    scenes = _holds_scenes(data)
    try:
        images = open_data(
            data,
            camera_pattern=how.camera_pattern,
            identity_pattern=how.identity_pattern,
            test_on=how.test_on,
        )
    except ReseenError:
        if not scenes:
            raise
    else:
        if not scenes or images.query is not None:  # a benchmark of crops beside one of scenes
            if how.train_on_test is False and not as_published(images.name, images):
                _refuse_tested_crops(images)
            return images
    raise ReseenError(
        f"{wanted_by} works on crops of persons and {shown(data)} holds scenes: "
        "give crops, or take r-siamnet or two-step"
    )


def open_scenes(data: Path, wanted_by: str, how: Reading = USUAL) -> SearchData:
    """:func:`reseen.data.open_search_data`; where there are no scenes, the error names who wanted them.

    Further sets for training are joined (:func:`reseen.data.join`); a share of all training scenes is the same each
    time (:func:`reseen.data.fraction`, seed 0).
    """
    if os.path.exists(os.path.expanduser(data)) and not _holds_scenes(data):
        raise ReseenError(
            f"{wanted_by} searches in scenes and {shown(data)} holds none with person boxes: give the folder of "
            "CUHK-SYSU or PRW or a COCO .json (docs/data.md), or take a method for crops"
        )
    scenes = join([open_search_data(data), *(open_scenes(path, wanted_by) for path in how.also)])
    if how.train_on_test is False and scenes.name not in KNOWN_SCENES:
        refuse_tested(
            [scene.path for scene in scenes.train], [scene.path for scene in scenes.test], scenes.root
        )
    return scenes if how.share == 1 else fraction(scenes, how.share, seed=0)


def _refuse_tested_crops(images: ReidData) -> None:
    tested = [part.crops for part in (images.query, images.gallery) if part is not None]
    refuse_tested(
        [crop.path for crop in images.train], [crop.path for crops in tested for crop in crops], images.root
    )


def _holds_scenes(data: Path) -> bool:
    place = Path(os.path.expanduser(data))
    update_scenes(place)  # those that an earlier version drew
    try:
        return search_layout(place) is not None
    except ReseenError:  # several such sets
        return True
