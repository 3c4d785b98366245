"""Fingerprints of rows: what was made before is found again, and what differs is another row."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from reseen.config import fingerprint, resolve
from reseen.config.sections import LITE
from reseen.errors import ReseenError
from reseen.reproduce.results import Digests, row_fingerprint, weights_digest
from reseen.reproduce.scales import configuration_of
from reseen.reproduce.tables import TABLES, TWO_STEP
from worlds import TINY, tiny


def test_a_row_from_before_a_key_was_added_keeps_its_name():
    """The value is that of the version before the keys `weights` and `data.mean` and the field `view`."""
    before = "71408b98284569da795eb542c7f390aa41b6f544ce444538c2783fe34eb052aa"
    data, scored = Digests("train", "test"), {"branch": None, "paths": None}
    words = [*TINY, "model.backbone=squeezenet1_1"]
    for begin in (
        "imagenet",
        "none",
    ):  # what the configuration says of weights is told apart by their content
        config = resolve("cacl", None, words, begin)
        assert row_fingerprint((config,), data, ("imagenet",), scored=scored) == before


def test_other_published_weights_and_other_pixels_are_another_row():
    data = Digests("train", "test")

    def before(config, weights):
        same = replace(
            config, data=replace(config.data, workers=-1), train=replace(config.train, device="auto")
        )
        told = {"settings": [fingerprint(same)], "data": ["train", "test"], "weights": weights, "scored": {}}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    for backbone, weights, found in (
        ("squeezenet1_1", "imagenet", True),
        ("resnet50", "none", True),
        ("resnet50", "imagenet", False),  # timm's own choice then, torchvision's now
        (LITE, "imagenet", False),  # ImageNet's pixels then, those of the weights now
        (LITE, "none", True),
    ):
        config = tiny("cacl", f"model.backbone={backbone}")
        now = row_fingerprint((config,), data, (weights,), scored={})
        assert (now == before(config, weights)) == found, (backbone, weights)
    assert weights_digest("imagenet", "resnet50") == "imagenet (resnet50.tv_in1k)"


@pytest.mark.parametrize("scale", ["full", "small"])
def test_lite_brings_its_backbone_to_the_rows(scale):
    crops, scenes = TABLES["cacl-table1"], TABLES["r-siamnet-table7"]
    config = configuration_of(crops.rows["spcl"], crops, "", scale, 1, (), "lite")
    assert (config.model.backbone, config.weights) == (LITE, "lite")
    both = configuration_of(scenes.rows[TWO_STEP], scenes, "", scale, 1, (), "lite")
    assert both.reid.model.backbone == LITE
    assert (both.detector.model.backbone == LITE) == (scale == "full")
    with pytest.raises(ReseenError, match=r"leave model\.backbone out"):
        configuration_of(crops.rows["spcl"], crops, "", scale, 1, ("model.backbone=resnet18",), "lite")
