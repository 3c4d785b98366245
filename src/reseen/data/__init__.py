"""From files to batches: readers, decoding, augmentation, sampling."""

from reseen.data.doctor import Report, examine
from reseen.data.images import decode_image, fingerprint, read_image, scan_images
from reseen.data.loaders import TrainBatch, clean_batches, resolve_workers, train_batches
from reseen.data.readers import open_data
from reseen.data.samplers import balanced_batches, uniform_batches
from reseen.data.transforms import clean_transform, grey_transform, training_transform

__all__ = [
    "Report",
    "TrainBatch",
    "balanced_batches",
    "clean_batches",
    "clean_transform",
    "decode_image",
    "examine",
    "fingerprint",
    "grey_transform",
    "open_data",
    "read_image",
    "resolve_workers",
    "scan_images",
    "train_batches",
    "training_transform",
    "uniform_batches",
]
