"""What a user has and wants: crops or scenes, in one step or two. One literal dictionary, looked up once a command."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from reseen.errors import ReseenError
from reseen.tasks.calibrated import CALIBRATION, read_calibration
from reseen.tasks.crops import CROPS
from reseen.tasks.scenes import SCENES
from reseen.tasks.task import (
    Calibrate,
    Reading,
    Scored,
    Scoring,
    Settings,
    Task,
    announce,
    max_bad_share,
    refuse_options,
)
from reseen.tasks.two_step.run import IN_TWO_STEPS
from reseen.training import trained_config
from reseen.training.run_folder import read_config

TASKS: dict[str, Task[Any, Any]] = {task.name: task for task in (CROPS, SCENES, IN_TWO_STEPS)}


def task_of(method: str) -> Task[Any, Any]:
    """The task of a method as the command line names it. Raises ReseenError, with the nearest name, for another."""
    for task in TASKS.values():
        if method in task.methods:
            return task
    names = [name for task in TASKS.values() for name in task.methods]
    near = difflib.get_close_matches(method, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(names)}"
    raise ReseenError(f"there is no method {method!r}: {hint}")


def method_of_run(source: Path) -> str:
    """The method of a run folder or a checkpoint file. Raises ReseenError where it is neither."""
    method = read_config(source).get("method") if source.is_dir() else None
    return method if isinstance(method, str) else trained_config(source).method


__all__ = [
    "CALIBRATION",
    "TASKS",
    "Calibrate",
    "Reading",
    "Scored",
    "Scoring",
    "Settings",
    "Task",
    "announce",
    "max_bad_share",
    "method_of_run",
    "read_calibration",
    "refuse_options",
    "task_of",
]
