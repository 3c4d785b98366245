"""Numpy arrays and tensors, on any device, become numpy arrays in one place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reseen.errors import ReseenError

Floats = NDArray[Any]  # float32 or float64


def to_numpy(values: Any) -> NDArray[Any]:
    """A numpy view or copy of an array, a sequence or a tensor (bfloat16 becomes float32)."""
    if hasattr(values, "detach"):  # a tensor, recognised without importing torch
        values = values.detach().cpu()
        if "bfloat16" in str(values.dtype):
            values = values.float()
        values = values.numpy()
    return np.asarray(values)


def to_floats(values: Any, what: str, *, ndim: int = 2) -> Floats:
    """A C-contiguous float array: float64 stays, everything smaller becomes float32, integers float64."""
    array = to_numpy(values)
    if array.ndim != ndim:
        raise ReseenError(f"{what} must have {ndim} dimension(s), not the shape {array.shape}")
    single = array.dtype in (np.float16, np.float32)
    return np.ascontiguousarray(array, dtype=np.float32 if single else np.float64)


def to_features(values: Any, what: str) -> Floats:
    """:func:`to_floats` that also refuses NaN and infinity, which would rank at random."""
    array = to_floats(values, what)
    pieces = np.array_split(array, max(1, array.size >> 22))  # a mask of everything would take memory
    if not all(np.isfinite(piece).all() for piece in pieces):
        raise ReseenError(f"{what} hold NaN or infinity: the model that made them has diverged")
    return array


def to_labels(values: Any, what: str, length: int | None = None) -> NDArray[np.int64]:
    """An int64 vector, of ``length`` entries if that is given."""
    array = to_numpy(values)
    if array.ndim != 1 or (length is not None and len(array) != length):
        wanted = "one per image" if length is None else f"{length} of them"
        raise ReseenError(f"{what} must be a vector ({wanted}), not the shape {array.shape}")
    return np.ascontiguousarray(array, dtype=np.int64)
