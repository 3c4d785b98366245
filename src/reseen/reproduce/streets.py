"""The drawn streets of tables: their sizes, and the warm-up that stands in for ImageNet's weights on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from reseen.commands.demo import WARM_UP_EPOCHS
from reseen.commands.demo_search import STREET as SEARCH_STREET
from reseen.config import Config, DataConfig
from reseen.data import fingerprint
from reseen.files import claimed
from reseen.progress import Progress
from reseen.records import ReidData
from reseen.reproduce.results import SHORT
from reseen.reproduce.scales import STREET
from reseen.training import warm_up


@dataclass(frozen=True)
class Streets:
    """Sizes of what is drawn, and the length of the warm-up: those of the demos. Smaller ones make tests quick."""

    crops: Mapping[str, Any] = field(default_factory=dict)
    scenes: Mapping[str, Any] = field(default_factory=lambda: dict(SEARCH_STREET))
    warm_up_epochs: int = WARM_UP_EPOCHS


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
