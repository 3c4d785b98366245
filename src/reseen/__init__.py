"""reseen finds the same person again, across cameras and scenes, without labels."""

from importlib import import_module
from types import ModuleType

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


def __getattr__(name: str) -> ModuleType:
    """``reseen.losses`` and the other rooms, loaded when they are first named: torch takes seconds."""
    if name in ROOMS:
        return import_module(f"reseen.{name}")
    raise AttributeError(f"module 'reseen' has no attribute {name!r}")
