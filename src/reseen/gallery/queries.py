"""What a gallery asks of a model: who it is, and the feature of the person whom an image shows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reseen.errors import ReseenError
from reseen.gallery.files import is_remote
from reseen.gallery.places import only_model
from reseen.gallery.store import About

if TYPE_CHECKING:
    from reseen.inference import Embedder, PersonSearcher

    Model = Embedder | PersonSearcher


def about_of(model: Model, place: str, run: str | Path | None) -> About:
    """What a table says about its model; ``run`` relative to the gallery, for both may be moved together."""
    name = f"{model.config.method}, {model.config.model.backbone}"
    where = "" if run is None or is_remote(place) else os.path.relpath(run, place)
    return About(model.fingerprint, name, model.dim, where)


def model_of(place: str, run: Path | None) -> Model:
    """The model at ``run``, or where it was when the gallery was indexed.

    Raises:
        ReseenError: no gallery, rows of several models, or no model there.
    """
    from reseen.inference import load_model

    if run is None:
        about = only_model(place)
        run = Path(os.path.normpath(os.path.join(place, about.run)))
        if not about.run or not run.exists():
            raise ReseenError(
                f"the model that indexed {place}, {about}, is not where it was: name it with --run RUN"
            )
    return load_model(run)


def feature_of(model: Model, image: Any, box: Sequence[float] | None = None) -> NDArray[np.float32]:
    """The feature ``[D]`` of the person in an image: in the box (xyxy, pixels), or the surest one that is found in a
    scene. For a model of crops the whole image, or the box, is the person.

    Raises:
        ReseenError: the image cannot be read, shows nobody, or has no such box.
    """
    # Here: the model zoo takes seconds, and most of a gallery needs none.
    from reseen.data.boxes import cut_to_image
    from reseen.data.images import image_pixels
    from reseen.evaluation.two_steps import cut_out
    from reseen.inference import PersonSearcher

    scene = np.ascontiguousarray(image_pixels(image).permute(1, 2, 0).numpy())
    if isinstance(model, PersonSearcher):
        features = model.embed(scene, [box]) if box is not None else np.asarray(model(scene).features)
        if not len(features):
            raise ReseenError("nobody is found in the image: give the box of the person (x1, y1, x2, y2)")
    elif box is None:
        features = model(scene)
    else:
        inside, _ = cut_to_image(np.asarray([box], dtype=np.float32), *scene.shape[:2])
        if not len(inside):
            raise ReseenError(f"the box {box} shows nobody: it lies outside of the image")
        features = model.of_pixels(cut_out(image_pixels(scene), inside)).numpy()
    feature: NDArray[np.float32] = features[0]
    return feature
