"""From files to batches: readers, decoding, augmentation, sampling."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from reseen.data.doctor import Report, examine
from reseen.data.galleries import Galleries, Targets, open_galleries
from reseen.data.images import fingerprint, read_image, scan_images
from reseen.data.readers import open_data
from reseen.data.samplers import balanced_batches, uniform_batches
from reseen.data.scenes import fraction, join, open_search_data, scan_scenes

if TYPE_CHECKING:
    from reseen.data.loaders import TrainBatch, clean_batches, train_batches
    from reseen.data.scene_loaders import SceneBatch, clean_scene_batches, scene_batches
    from reseen.data.scene_transforms import SceneView, in_file_pixels
    from reseen.data.transforms import clean_transform, grey_transform, training_transform

# Loaded when first named: they need torchvision, which takes two seconds, and a search in a gallery reads no image.
LATER = {
    "loaders": ("TrainBatch", "clean_batches", "train_batches"),
    "scene_loaders": ("SceneBatch", "clean_scene_batches", "scene_batches"),
    "scene_transforms": ("SceneView", "in_file_pixels"),
    "transforms": ("clean_transform", "grey_transform", "training_transform"),
}

__all__ = [
    "Galleries",
    "Report",
    "SceneBatch",
    "SceneView",
    "Targets",
    "TrainBatch",
    "balanced_batches",
    "clean_batches",
    "clean_scene_batches",
    "clean_transform",
    "examine",
    "fingerprint",
    "fraction",
    "grey_transform",
    "in_file_pixels",
    "join",
    "open_data",
    "open_galleries",
    "open_search_data",
    "read_image",
    "scan_images",
    "scan_scenes",
    "scene_batches",
    "train_batches",
    "training_transform",
    "uniform_batches",
]


def __getattr__(name: str) -> Any:
    for module, names in LATER.items():
        if name in names:
            return getattr(import_module(f"reseen.data.{module}"), name)
    raise AttributeError(f"module 'reseen.data' has no attribute {name!r}")
