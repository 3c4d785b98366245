"""reseen finds the same person again, across cameras and scenes, without labels."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reseen.inference import PersonSearcher as PersonSearcher

__version__ = "0.1.0"

ROOMS = (
    "clustering",
    "config",
    "data",
    "evaluation",
    "losses",
    "memory",
    "metrics",
    "models",
    "records",
    "training",
)
CLASSES = {"PersonSearcher": "inference"}  # and the module it is in


def __getattr__(name: str) -> Any:
    """Rooms as ``reseen.losses``, and ``reseen.PersonSearcher``: loaded when first named, torch takes seconds."""
    if name in ROOMS:
        return import_module(f"reseen.{name}")
    if name in CLASSES:
        return getattr(import_module(f"reseen.{CLASSES[name]}"), name)
    raise AttributeError(f"module 'reseen' has no attribute {name!r}")
