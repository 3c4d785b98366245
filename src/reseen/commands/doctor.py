"""``reseen doctor``: what this machine has, and what a data folder holds or lacks."""

from __future__ import annotations

from pathlib import Path

from reseen.data import examine
from reseen.models import resolve_device, resolve_precision
from reseen.progress import Progress
from reseen.training.environment import environment


def doctor(
    path: Path | None = None, *, camera_pattern: str | None = None, identity_pattern: str | None = None
) -> None:
    """Print the machine, then the data folder at ``path`` if one is given."""
    device = resolve_device("auto")
    found = environment(device, resolve_precision(device, "auto"))
    print(f"python {found['python']} on {found['system']} {found['machine']}, {found['cores']} cores")
    print(f"device {found['device']}, precision {found['precision']} (train.precision=auto)")
    print(", ".join(f"{name} {version}" for name, version in found["packages"].items()))
    if path is not None:
        with Progress() as progress:
            found_there = examine(
                path,
                camera_pattern=camera_pattern,
                identity_pattern=identity_pattern,
                progress=progress.counter("check images"),
            )
        for line in found_there.lines():
            print(line)
