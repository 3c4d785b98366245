"""What a run was made with: enough to judge a figure, no name of a person or a host."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

PACKAGES = ("reseen", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "numba")


def environment(device: torch.device, precision: str, processes: int = 1) -> dict[str, Any]:
    """Versions, processor, threads (of one process), device, precision and number of processes."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": precision,
        "packages": versions,
    }
