"""Crops for some methods, scenes with boxes for others: what was given for the wrong one is said in one line."""

from __future__ import annotations

import os
from pathlib import Path

from reseen.data import fraction, join, open_data, open_search_data
from reseen.data.paths import shown
from reseen.data.scenes import search_layout
from reseen.errors import ReseenError
from reseen.records import ReidData, SearchData
from reseen.street import update_scenes
from reseen.tasks.task import USUAL, Reading


def open_crops(data: Path, wanted_by: str, how: Reading = USUAL) -> ReidData:
    """:func:`reseen.data.open_data`, but not the frames of a data set with scenes as if they were crops.

    Args:
        wanted_by: method or run, named in the error.

    Raises:
        ReseenError: as there, or ``data`` holds scenes.
    """
    scenes = _holds_scenes(data)
    try:
        images = open_data(data, camera_pattern=how.camera_pattern)
    except ReseenError:
        if not scenes:
            raise
    else:
        if not scenes or images.query is not None:  # a benchmark of crops beside one of scenes
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
    return scenes if how.share == 1 else fraction(scenes, how.share, seed=0)


def _holds_scenes(data: Path) -> bool:
    place = Path(os.path.expanduser(data))
    update_scenes(place)  # those that an earlier version drew
    try:
        return search_layout(place) is not None
    except ReseenError:  # several such sets
        return True
