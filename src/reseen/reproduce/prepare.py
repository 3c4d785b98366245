"""What a row trains on and begins with: a data set that was given, or a street that is drawn for each seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from reseen.commands.demo import WARM_UP_EPOCHS
from reseen.commands.demo_search import STREET as SEARCH_STREET
from reseen.config import Config, DataConfig
from reseen.data import fingerprint, fraction
from reseen.errors import ReseenError
from reseen.progress import Progress
from reseen.records import ReidData, SearchData
from reseen.reproduce.results import SHORT, claimed
from reseen.reproduce.scales import STREET, Scale
from reseen.reproduce.tables import Kind
from reseen.street import draw_crops, draw_scenes
from reseen.tasks.opening import open_crops, open_scenes
from reseen.tasks.two_step.config import TwoStepConfig
from reseen.tasks.usable import usable, usable_scenes
from reseen.training import warm_up

FIRST_STREET = 100  # seed k is drawn as street 100 + k: the recipes were made looking at streets 0 to 5


@dataclass(frozen=True)
class Streets:
    """Sizes of what is drawn, and the length of the warm-up: those of the demos. Smaller ones make tests quick."""

    crops: Mapping[str, Any] = field(default_factory=dict)
    scenes: Mapping[str, Any] = field(default_factory=lambda: dict(SEARCH_STREET))
    warm_up_epochs: int = WARM_UP_EPOCHS


@dataclass(frozen=True)
class Source:
    """Where the data of a table is; ``path`` None: the drawn street. ``name``: what tables call it, "" = as read."""

    path: Path | None
    name: str = ""

    @property
    def drawn(self) -> bool:
        return self.path is None


def parse_source(words: str) -> Source:
    """``PATH``, ``NAME=PATH`` or ``street``. Raises ReseenError where nothing is said."""
    if words == STREET:
        return Source(None, STREET)
    name, found, path = words.partition("=")
    if not found or Path(words).expanduser().exists():
        name, path = "", words
    if not path or "/" in name:
        raise ReseenError(f"--data {words}: give PATH, NAME=PATH (a NAME without /) or street")
    return Source(Path(path), name)


def open_source(
    source: Source, kind: Kind, out: Path, seed: int, wanted_by: str, streets: Streets, max_bad_share: float
) -> ReidData | SearchData:
    """The data of one seed, without what cannot be read; a given data set is the same for each seed.

    Raises:
        ReseenError: no such data, of the other kind, or without a test part.
    """
    data: ReidData | SearchData
    with Progress() as progress:
        if source.path is None:
            folder = out / STREET / f"{kind}-{seed}"
            draw: Any = draw_crops if kind == "crops" else draw_scenes
            sizes = streets.crops if kind == "crops" else streets.scenes
            with claimed(folder.with_suffix(".lock"), wait=True):
                drawn = progress.counter(f"draw street {seed}")
                data = draw(folder, seed=FIRST_STREET + seed, progress=drawn, **sizes)
        elif kind == "crops":
            data = usable(open_crops(source.path, wanted_by), max_bad_share=max_bad_share, progress=progress)
        else:
            data = usable_scenes(
                open_scenes(source.path, wanted_by), max_bad_share=max_bad_share, progress=progress
            )
    tested = data.test and data.probes if isinstance(data, SearchData) else data.query and data.gallery
    if not tested:
        raise ReseenError(
            f"{source.path} has no test part to score on: {wanted_by} needs a benchmark's layout (docs/data.md)"
        )
    return data


def part_of(data: ReidData | SearchData, share: float, seed: int) -> ReidData | SearchData:
    """``data`` with a share of its training scenes (R-SiamNet, Fig. 5)."""
    return data if share == 1 or isinstance(data, ReidData) else fraction(data, share, seed=seed)


def weights_of(
    config: Config | TwoStepConfig,
    data: ReidData | SearchData,
    given: str | None,
    scale: Scale,
    out: Path,
    streets: Streets | None,
) -> tuple[str, ...]:
    """What a row begins with, a name or file for each of its steps.

    ``given``, or what the recipe names. At the small scale the networks for scenes begin from nothing (there are no
    weights for so small a backbone), and crops of the drawn street, where ``streets`` are drawn, from a warm-up.
    """
    if isinstance(config, TwoStepConfig):
        detector = "none" if scale == "small" else given or config.detector.weights
        return (detector, given or config.reid.weights)
    if isinstance(data, SearchData):
        return ("none" if scale == "small" else given or config.weights,)
    if given is None and scale == "small" and streets is not None:
        return (str(street_weights(config, data, out, streets)),)
    return (given or config.weights,)


# Of DataConfig, what a warm-up does not read: it sees single images in any order, and T alone.
NOT_WARMED: Mapping[str, Any] = {
    "second_view": "none",
    "camera_aware": "auto",
    "max_bad_share": DataConfig().max_bad_share,
    "workers": 0,
}


def street_weights(config: Config, data: ReidData, out: Path, streets: Streets) -> Path:
    """The warm-up that stands in for ImageNet's weights on the drawn street: one for each seed, network and T."""
    same = {
        "seed": config.seed,
        "model": asdict(config.model),
        "weight_decay": config.train.weight_decay,
        "images": fingerprint(data.train, data.root),
        "data": {
            key: value
            for key, value in asdict(replace(config.data, **NOT_WARMED)).items()
            if value != ()  # pixels as usual: a key that came later
        },
        "epochs": streets.warm_up_epochs,
    }
    name = hashlib.sha256(repr(sorted(same.items())).encode()).hexdigest()[:SHORT]
    path = out / STREET / f"warm-up-{config.seed}-{name}.safetensors"
    with claimed(path.with_suffix(".lock"), wait=True), Progress() as progress:
        if not path.exists():
            warm_up(config, data.train, path, epochs=streets.warm_up_epochs, step=progress.step)
    return path
