"""A folder of features: rows in safetensors files that appear whole, one after the other, whoever writes them.

A job (:class:`Footage`) is written as ``rows-JOB-PART.safetensors``: its columns as tensors, names and problems as JSON
in the file's own metadata, beside a digest of both. Jobs do not depend on who does them, so that the files are the same
for any number of processes, and what is there needs not be done again. ``features.json`` says what they are of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from reseen.data.paths import shown
from reseen.data.video import Sampling
from reseen.errors import ReseenError
from reseen.files import to_json, write_file
from reseen.footage.embedding import Part, persons_in
from reseen.footage.finding import Finder
from reseen.footage.rows import STILL, Rows, joined
from reseen.footage.sources import Source
from reseen.models.checkpoint import digest_of
from reseen.training.checkpoint import write_tensors

FORMAT = "reseen-rows-1"
ABOUT = "features.json"
REMEDY = "free space and continue with --resume"
BATCHES = 16  # of frames that are written together: what a killed process loses at most
_COLUMNS = ("features", "frames", "seconds", "times", "cameras", "boxes", "scores", "tracks")


@dataclass(frozen=True)
class Shard:
    """What a file says of itself: ``rows`` in it, ``images`` looked at, the last ``frame``, whether it is the ``last``
    of its job, and what was wrong with its sources."""

    path: Path
    rows: int
    images: int
    frame: int
    last: bool
    problems: tuple[str, ...]


def read_about(folder: Path) -> dict[str, Any]:
    """What ``folder`` holds features of: model, its fingerprint and D, settings, whether it is ``finished``.

    Raises:
        ReseenError: no folder that `reseen embed` wrote, or a damaged one.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReseenError(
            f"{shown(folder)} holds no features: give a folder that reseen embed wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise ReseenError(f"{shown(folder / ABOUT)} cannot be read ({error}): embed again") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ReseenError(f"{shown(folder)} was written by another version of reseen: embed again")
    return about


def write_about(folder: Path, about: Mapping[str, Any]) -> None:
    write_file(folder / ABOUT, to_json({"format": FORMAT, **about}, indent=1) + "\n", REMEDY)


def read_features(folder: Path) -> Iterator[Rows]:
    """The rows of a folder that `reseen embed` finished, file by file, in their order.

    Raises:
        ReseenError: no such folder, one that is not finished, or a file of it is damaged.
    """
    if not read_about(folder).get("finished"):
        raise ReseenError(f"{shown(folder)} is not finished: continue with reseen embed ... --resume")
    for shard in shards_in(folder):
        yield _read(shard.path)


def shards_in(folder: Path, job: int | None = None) -> list[Shard]:
    """What is there, of all jobs or of one, in order; from the headers alone."""
    pattern = f"rows-{'*' if job is None else f'{job:06d}'}-*.safetensors"
    return [_header(path) for path in sorted(folder.glob(pattern))]


def embed_job(
    folder: Path, number: int, job: Sequence[Source], finder: Finder, sampling: Sampling
) -> Iterator[Part]:
    """Write the rows of a job, from where they end in ``folder``, and say what was done by the way.

    Raises:
        ReseenError: a file of the job is damaged, or the disk is full.
    """
    done = shards_in(folder, number)
    if done and done[-1].last:
        return
    before = joined([_read(shard.path) for shard in done]) if done else None
    written = len(done)
    parts: list[Part] = []
    for part in persons_in(job, finder, sampling, before=before, frame=done[-1].frame if done else STILL):
        if len(parts) == BATCHES and part.frame != STILL:
            _write(folder / f"rows-{number:06d}-{written:04d}.safetensors", parts, last=False)
            written, parts = written + 1, []
        parts.append(part)
        yield part
    _write(folder / f"rows-{number:06d}-{written:04d}.safetensors", parts, last=True)


def _write(path: Path, parts: Sequence[Part], *, last: bool) -> None:
    rows = joined([part.rows for part in parts])
    names = list(dict.fromkeys(rows.sources))
    place = {name: row for row, name in enumerate(names)}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(getattr(rows, name))) for name in _COLUMNS}
    tensors["sources"] = torch.tensor([place[name] for name in rows.sources], dtype=torch.int32)
    tensors["thumbnails"] = torch.frombuffer(bytearray(b"".join(rows.thumbnails) or b"\0"), dtype=torch.uint8)
    tensors["thumbnail_ends"] = torch.tensor([len(t) for t in rows.thumbnails], dtype=torch.int64).cumsum(0)
    state = to_json(
        {
            "rows": len(rows),
            "images": sum(part.images for part in parts),
            "frame": parts[-1].frame,
            "last": last,
            "problems": [line for part in parts for line in part.problems],
            "sources": names,
        }
    )
    # one key: safetensors writes several in any order, and equal rows should be equal files
    whole = to_json({"format": FORMAT, "digest": digest_of(tensors, state), "state": state})
    write_tensors(path, tensors, {"reseen": whole}, remedy=REMEDY)


def _header(path: Path) -> Shard:
    state = _open(path)[0]
    numbers = {key: int(state[key]) for key in ("rows", "images", "frame")}
    return Shard(path, **numbers, last=bool(state["last"]), problems=tuple(state["problems"]))


def _read(path: Path) -> Rows:
    state, tensors = _open(path, whole=True)
    names = [state["sources"][row] for row in tensors["sources"].tolist()]
    data, ends = tensors["thumbnails"].numpy().tobytes(), tensors["thumbnail_ends"].tolist()
    thumbnails = tuple(data[begin:end] for begin, end in zip([0, *ends], ends, strict=False))
    columns = {name: tensors[name].numpy() for name in _COLUMNS}
    return Rows(**columns, sources=tuple(names), thumbnails=thumbnails)


def _open(path: Path, *, whole: bool = False) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {})["reseen"])
            tensors = {name: file.get_tensor(name) for name in file.keys()} if whole else {}  # noqa: SIM118
        state: dict[str, Any] = json.loads(told["state"])
        if told["format"] != FORMAT or (whole and told["digest"] != digest_of(tensors, told["state"])):
            raise ValueError("its digest differs")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ReseenError(
            f"{shown(path)} is damaged ({error}): delete it and continue with reseen embed ... --resume"
        ) from error
    return state, tensors
