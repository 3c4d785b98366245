"""What the rows of a table need beyond their task: a drawn street, starting weights, digests, figures.

One literal dictionary by task, looked up once for a table and once for a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from reseen.commands.demo import WARM_UP_EPOCHS
from reseen.commands.demo_search import STREET as SEARCH_STREET
from reseen.config import Config, DataConfig
from reseen.data import fingerprint, fraction, open_galleries
from reseen.files import claimed
from reseen.inference import PersonSearcher, load_encoder
from reseen.progress import Progress
from reseen.records import UNKNOWN_CAMERA, Labels, ReidData, SearchData
from reseen.reproduce.results import SHORT
from reseen.reproduce.scales import STREET, Scale
from reseen.reproduce.tables import TWO_STEP, Row, Table
from reseen.street import draw_crops, draw_scenes
from reseen.tasks import TASKS, Task
from reseen.tasks import crops as on_crops
from reseen.tasks import scenes as on_scenes
from reseen.tasks.pictures import Picture
from reseen.training import warm_up

# Of DataConfig, what a warm-up does not read: it sees single images in any order, and T alone.
NOT_WARMED: Mapping[str, Any] = {
    "second_view": "none",
    "camera_aware": "auto",
    "max_bad_share": DataConfig().max_bad_share,
    "workers": 0,
}
Count = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True)
class Streets:
    """Sizes of what is drawn, and the length of the warm-up: those of the demos. Smaller ones make tests quick."""

    crops: Mapping[str, Any] = field(default_factory=dict)
    scenes: Mapping[str, Any] = field(default_factory=lambda: dict(SEARCH_STREET))
    warm_up_epochs: int = WARM_UP_EPOCHS


@dataclass(frozen=True)
class Begin:
    """What decides the weights that a row begins with: those given (None: by the scale), where the table is made, and
    the streets, where they are drawn."""

    given: str | None
    scale: Scale
    out: Path
    streets: Streets | None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A record of functions; ``images`` is the word for what is trained on."""

    task: Task[Any, Any]
    images: str
    recipe: str  # whose defaults hold for the reading of the data
    draw: Callable[[Path, int, Count, Streets], Any]
    part: Callable[[Any, float, int], Any]  # (data, share of its training scenes, seed)
    test_digest: Callable[[Any], str]
    weights: Callable[[Any, Any, Begin], tuple[str, ...]]  # of each step
    takes_weights: bool  # at the small scale
    begins: Callable[[str, bool], str]  # (words for given weights, whether a warm-up stands in): small scale
    cameras: Callable[[Any, Labels], str]  # (configuration, cameras of the training images): who reads them
    figure: Callable[[str, Mapping[str, Path], Any], Picture | None]  # (name, run folders by label, data)


def kind_of(row: Row, table: Table) -> Kind:
    return KINDS[TWO_STEP] if row.recipe == TWO_STEP else KINDS[table.task]


# --- crops ---


def _crops_digest(data: ReidData) -> str:
    digest = hashlib.sha256()
    for part in (data.query, data.gallery):
        if part is not None:
            digest.update(fingerprint(part.crops, data.root).encode())
            digest.update(part.identities.astype("<i8").tobytes())
    return digest.hexdigest()


def _crops_weights(config: Config, data: ReidData, begin: Begin) -> tuple[str, ...]:
    """On the drawn street a warm-up stands in for ImageNet's weights, at the small scale."""
    if begin.given is None and begin.scale == "small" and begin.streets is not None:
        return (str(street_weights(config, data, begin.out, begin.streets)),)
    return (begin.given or config.weights,)


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


def cameras_read(config: Config, cameras: Labels) -> str:
    """Who reads the cameras of training images: nobody ("no"), the sampler (it prefers other cameras), the clustering,
    the loss."""
    known = np.unique(cameras[cameras != UNKNOWN_CAMERA])
    readers = {
        "sampler": config.data.camera_aware == "auto" and len(known) > 1,
        "clustering": config.cluster.camera_standardise and len(known) > 0,
        "loss": config.loss.camera_weight > 0,
    }
    return " and ".join(name for name, reads in readers.items() if reads) or "no"


def _crops_figure(name: str, runs: Mapping[str, Path], data: ReidData) -> Picture | None:
    """Fig. 2 and 4 (augmented views), Fig. 6 (t-SNE)."""
    if name == "augmentation":
        return on_crops.views(data, Config())
    models = {label: load_encoder(run)[0] for label, run in runs.items()}
    _, checkpoint = load_encoder(list(runs.values())[-1])
    return on_crops.feature_map(data, models, checkpoint.config, grey=False)


# --- scenes ---


def _scenes_digest(data: SearchData) -> str:
    digest = hashlib.sha256(fingerprint(data.test, data.root).encode())
    galleries = open_galleries(data)
    for number, targets in zip(galleries.probes.tolist(), galleries.targets, strict=True):
        probe = data.probes[number]
        digest.update(f"{probe.scene} {targets.rows.size} {int(targets.rows.sum())}".encode())
        digest.update(probe.box.astype("<f4").tobytes())
        for scene in sorted(targets.boxes):
            digest.update(f"{scene}".encode() + targets.boxes[scene].astype("<f4").tobytes())
    return digest.hexdigest()


def _scenes_weights(config: Config, data: SearchData, begin: Begin) -> tuple[str, ...]:
    """At the small scale networks for scenes begin from nothing: there are no weights for so small a backbone."""
    return ("none" if begin.scale == "small" else begin.given or config.weights,)


def _scenes_figure(name: str, runs: Mapping[str, Path], data: SearchData) -> Picture | None:
    """Fig. 6 (t-SNE)."""
    models = {label: PersonSearcher.load(run) for label, run in runs.items()}
    with Progress() as progress:
        return on_scenes.feature_map(data, models, 1, progress)


# --- two steps ---


def _steps_weights(both: Any, data: SearchData, begin: Begin) -> tuple[str, ...]:
    return (*_scenes_weights(both.detector, data, begin), begin.given or both.reid.weights)


ON_SCENES: dict[str, Any] = {
    "images": "scenes",
    "recipe": "r-siamnet",
    "draw": lambda folder, seed, count, to: draw_scenes(folder, seed=seed, progress=count, **to.scenes),
    "part": lambda data, share, seed: data if share == 1 else fraction(data, share, seed=seed),
    "test_digest": _scenes_digest,
    "figure": _scenes_figure,
}
KINDS: dict[str, Kind] = {
    "crops": Kind(
        task=TASKS["crops"],
        images="images",
        recipe="cacl",
        draw=lambda folder, seed, count, to: draw_crops(folder, seed=seed, progress=count, **to.crops),
        part=lambda data, share, seed: data,
        test_digest=_crops_digest,
        weights=_crops_weights,
        takes_weights=True,
        begins=lambda words, warmed: "begins with a warm-up" if warmed else words,
        cameras=cameras_read,
        figure=_crops_figure,
    ),
    "scenes": Kind(
        **ON_SCENES,
        task=TASKS["scenes"],
        weights=_scenes_weights,
        takes_weights=False,
        begins=lambda words, warmed: "random weights",
        cameras=lambda config, cameras: "no",
    ),
    TWO_STEP: Kind(
        **ON_SCENES,
        task=TASKS["two-step"],
        weights=_steps_weights,
        takes_weights=True,
        begins=lambda words, warmed: f"random weights (the second of two steps {words})",
        cameras=lambda both, cameras: cameras_read(both.reid, cameras),  # crops have those of their scenes
    ),
}


def kinds_in(table: Table) -> Sequence[Kind]:
    """The kinds of a table's rows, each once."""
    found = {kind.task.name: kind for kind in (kind_of(row, table) for row in table.rows.values())}
    return tuple(found.values())
