"""One file per row and seed: what was asked, what it was made with, what came out. And who works on it now."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import reseen
from reseen.config import Config
from reseen.config import fingerprint as config_fingerprint
from reseen.data.transforms import MEAN, STD
from reseen.errors import ReseenError
from reseen.files import from_json, to_json, write_file
from reseen.models.encoders import timm_name
from reseen.models.weights import WORDS, pixel_statistics
from reseen.training.run_folder import write_array

SHORT = 10  # characters of a fingerprint that names carry
# What tables read of ``about``.
READ = ("cameras", "source", "fingerprint", "test_digest", "criterion", "machine")


@dataclass(frozen=True)
class Result:
    """A finished row. ``scores``: by the way of choosing (``last``, ``best-on-test``, ``label-free``) the epoch and
    its scores (fractions). ``average_precision`` ``[Q]``: of the last epoch, nan where a query has no valid match."""

    row: str
    seed: int
    data: str
    scores: Mapping[str, Mapping[str, Any]]
    about: Mapping[str, Any]
    average_precision: NDArray[np.float64] = field(repr=False, default_factory=lambda: np.empty(0))

    @property
    def last(self) -> Mapping[str, Any]:
        return self.scores["last"]


@dataclass(frozen=True)
class Digests:
    """SHA-256 of what is trained on (names, sizes, cameras, boxes) and of what is tested on, with its right answers."""

    train: str
    test: str


def row_fingerprint(
    steps: Sequence[Config], data: Digests, weights: Sequence[str], *, scored: Mapping[str, object]
) -> str:
    """SHA-256 of all that decides a row's scores: settings, data and weights by content, how it is scored.

    ``steps``: the configuration of each, ``weights``: what each begins with. ``scored``: branch and paths. Where it is
    computed (device, loader processes) does not count. The source is not part of it but stands in the result, and a
    table says when its rows were made by different ones.
    """
    plain, digests = [], []
    for c, begin in zip(steps, weights, strict=True):
        pixels = replace(c.data, workers=-1)
        trained_on = pixel_statistics(c.model.backbone)
        # before, all had ImageNet's
        if not pixels.mean and begin != "none" and trained_on != (MEAN, STD):
            pixels = replace(pixels, mean=trained_on[0], std=trained_on[1])
        same = replace(c, weights="imagenet", data=pixels, train=replace(c.train, device="auto"))
        plain.append(config_fingerprint(same))
        digests.append(weights_digest(begin, c.model.backbone))
    told = {
        "settings": plain,
        "data": [data.train, data.test],
        "weights": "+".join(digests),
        "scored": dict(scored),
    }
    return hashlib.sha256(to_json(told, sort_keys=True).encode()).hexdigest()


def weights_digest(weights: str | Path, backbone: str) -> str:
    """:func:`file_digest`; ``imagenet`` with its tag where that is the papers' and not timm's own choice, which a row
    without the tag began with."""
    name = timm_name(backbone)
    return f"imagenet ({name})" if str(weights) == "imagenet" and name != backbone else file_digest(weights)


@cache
def file_digest(path: str | Path) -> str:
    """SHA-256 of a file of weights, read once; what is no file stands for itself."""
    if str(path) in WORDS:
        return str(path)
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ReseenError(
            f"--weights {path}: {error.strerror}; give a file, or imagenet, lite or none"
        ) from error


def _source_digest() -> str:
    """SHA-256 over the package's Python and recipe files."""
    root = Path(reseen.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".yaml")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


# As it was when it was imported, whatever happens to the files while a row is trained.
SOURCE = _source_digest()


def write_result(path: Path, result: Result) -> None:
    """The JSON file last: where it is, the row is finished."""
    write_array(path.with_suffix(".npy"), result.average_precision)
    told = {"row": result.row, "seed": result.seed, "data": result.data, "scores": result.scores}
    write_file(path, to_json(told | dict(result.about), indent=2) + "\n")


def read_result(path: Path) -> Result | None:
    """None where the row is not finished. Raises ReseenError for a damaged file."""
    if not path.is_file():
        return None
    try:
        told = from_json(path.read_text())
        known = {key: told.pop(key) for key in ("row", "seed", "data", "scores")}
        missing = [key for key in READ if key not in told]
        if missing or "epoch" not in known["scores"]["last"]:
            raise ValueError(f"it lacks {missing or 'the last epoch'}")
        return Result(**known, about=told, average_precision=np.load(path.with_suffix(".npy")))
    except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ReseenError(f"{path} is damaged ({error}): delete it, and its row is scored again") from error
