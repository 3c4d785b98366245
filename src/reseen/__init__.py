"""reseen finds the same person again, across cameras and scenes, with models trained on images nobody labelled.

    import reseen

    run_dir = reseen.train("cacl", "photos/", "runs/photos", train__epochs=20)
    features = reseen.Embedder.load(run_dir)(["a.jpg", "b.jpg"])  # [2, D]; inner products are similarities
    similarity = features @ features.T

    persons = reseen.PersonSearcher.load("runs/scenes")("scene.jpg")  # boxes, scores, features
    hits = reseen.Gallery.open("gallery/", reseen.Embedder.load(run_dir)).search("person.jpg")
    scores = reseen.evaluate(run_dir, "market1501/")

Everything else is in the rooms: ``reseen.clustering``, ``reseen.losses``, ``reseen.memory``, ``reseen.metrics``,
``reseen.models``, ``reseen.data``, ... Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reseen.gallery import Gallery as Gallery
    from reseen.inference import Embedder as Embedder
    from reseen.inference import PersonSearcher as PersonSearcher

__version__ = "0.1.0"

ROOMS = (
    "clustering",
    "config",
    "data",
    "errors",
    "evaluation",
    "losses",
    "memory",
    "methods",
    "metrics",
    "models",
    "onnx",
    "records",
    "street",
    "training",
)
CLASSES = {"Embedder": "inference", "Gallery": "gallery", "PersonSearcher": "inference"}
__all__ = ["Embedder", "Gallery", "PersonSearcher", "evaluate", "train", *ROOMS]


def train(
    method: str,
    data: str | Path,
    run_dir: str | Path | None = None,
    *,
    recipe: str | None = None,
    weights: str | Path | None = None,
    resume: bool = False,
    camera_pattern: str | None = None,
    identity_pattern: str | None = None,
    train_on_test: bool = False,
    **settings: Any,
) -> Path:
    """Train a model on images that nobody labelled, as ``reseen train`` does; returns the run folder.

    Args:
        method: cacl, cscl, spcl, cluster-contrast (crops of persons), r-siamnet or two-step (scenes with boxes).
        data: a data set folder, a folder of images, a manifest, or a COCO .json.
        run_dir: where the run is kept; None: runs/RECIPE-DATA.
        recipe: named settings; None: those of ``method``.
        weights: imagenet, lite, none, a run folder or checkpoint to go on from, or another file; None: what the recipe
            says.
        resume: continue the run folder's last checkpoint, if there is one.
        camera_pattern, identity_pattern: where file names hold the camera and the person, regular expressions (folders
            of crops).
        train_on_test: whether pictures may be trained on that are tested on.
        settings: changes to the recipe, two underscores for the dot: ``train__epochs=20``.

    Raises:
        ReseenError: what cannot be done, in one line that says what to do next.
    """
    from reseen.commands.train import train as command

    return command(
        method,
        data=Path(data),
        run=None if run_dir is None else Path(run_dir),
        recipe=recipe,
        weights=None if weights is None else str(weights),
        resume=resume,
        camera_pattern=camera_pattern,
        identity_pattern=identity_pattern,
        train_on_test=train_on_test,
        settings=[f"{key.replace('__', '.')}={_as_yaml(value)}" for key, value in settings.items()],
    )


def evaluate(run_dir: str | Path, data: str | Path, **options: Any) -> Any:
    """Score a trained model by the benchmark's own protocol, as ``reseen evaluate`` does.

    Args:
        run_dir: a run folder or a checkpoint file.
        data: crops with query and gallery, or scenes with queries.
        options: see :func:`reseen.commands.evaluate.evaluate` (``epoch``, ``branch``, ``view``, ``rerank``,
            ``protocol``, ...).

    Returns:
        :class:`reseen.metrics.ReidScores` for crops; for scenes a record with ``mean_ap``, ``top1``, ...

    Raises:
        ReseenError: no such run, or data that cannot be scored.
    """
    from reseen.commands.evaluate import evaluate as command

    return command(Path(run_dir), data=Path(data), **options)


def _as_yaml(value: Any) -> str:
    from reseen.files import to_json

    return value if isinstance(value, str) else to_json(value, default=str)


def __getattr__(name: str) -> Any:
    """Rooms as ``reseen.losses``, and the classes: loaded when first named, for torch takes seconds."""
    if name in ROOMS:
        return import_module(f"reseen.{name}")
    if name in CLASSES:
        return getattr(import_module(f"reseen.{CLASSES[name]}"), name)
    raise AttributeError(f"module 'reseen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
