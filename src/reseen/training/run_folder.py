"""What a run folder holds in words and numbers: epochs, evaluations, settings, each query's score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from reseen.errors import ReseenError
from reseen.files import from_json, write_file
from reseen.models.checkpoint import LAST
from reseen.training.fit import BEST, LABEL_FREE

FILES = {"last": LAST, "best-on-test": BEST, "label-free": LABEL_FREE}
SHIPPED = "model.safetensors"  # of a folder that `reseen export --format hub` wrote
METRICS, EVALUATIONS = "metrics.jsonl", "evaluations.jsonl"
PER_QUERY = "average-precision.npy"  # float64 [Q] of the epoch that was scored last; nan: no valid match


class Lines(NamedTuple):
    """What a file of JSON lines holds, and a line about each that was left out."""

    records: list[dict[str, Any]]
    left_out: tuple[str, ...]


def chosen_file(run_dir: Path, epoch: str) -> Path:
    """The checkpoint of a run folder that ``epoch`` (a key of :data:`FILES`) takes; a file is taken as it is.

    Raises:
        ReseenError: the run has none of that kind.
    """
    if not run_dir.is_dir():
        return run_dir
    if (run_dir / SHIPPED).is_file():  # a folder for a hub, which holds one network
        return run_dir / SHIPPED
    path = run_dir / "checkpoint" / FILES[epoch]
    if not path.is_file() and (run_dir / "checkpoint" / LAST).is_file():
        raise ReseenError(f"{run_dir} chose no {epoch} network: take --epoch last")
    return path


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The epochs of ``run_dir/metrics.jsonl``, in order; an empty list where there is no such file.

    Lines that cannot be read are left out (see :func:`read_lines`). Of an epoch that was written twice the later line
    counts.
    """
    lines = read_lines(run_dir / METRICS, key="epoch").records
    epochs = {int(line["epoch"]): line for line in lines}
    return [epochs[number] for number in sorted(epochs)]


def read_lines(path: Path, *, key: str) -> Lines:
    """One JSON object a line, each with a number under ``key``; a NaN in it is None.

    No line stops the others: what is torn, no JSON or without that number is left out, and said.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return Lines([], ())
    except OSError as error:
        raise ReseenError(f"cannot read {path} ({error.strerror})") from error
    records: list[dict[str, Any]] = []
    left_out: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = from_json(line)
        except ValueError:
            left_out.append(f"{path.name}, line {number}: not JSON")
            continue
        if isinstance(record, dict) and _is_number(record.get(key)):
            records.append(record)
        else:
            left_out.append(f"{path.name}, line {number}: no number {key!r}")
    return Lines(records, tuple(left_out))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def write_array(path: Path, values: NDArray[Any]) -> None:
    """Write a ``.npy`` file, see :func:`reseen.files.write_file`."""
    buffer = BytesIO()
    np.save(buffer, values)
    write_file(path, buffer.getvalue())


def keep_per_query(run_dir: Path) -> Callable[[NDArray[np.float64]], None]:
    """What writes each query's average precision into a run folder, for paired comparisons."""
    return partial(write_array, run_dir / PER_QUERY)


def read_config(run_dir: Path) -> Mapping[str, Any]:
    try:
        config = yaml.safe_load((run_dir / "config.yaml").read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def at(record: Mapping[str, Any], *keys: str) -> Any:
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
