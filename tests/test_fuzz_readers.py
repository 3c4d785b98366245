"""Whatever a file holds, it is read or refused in one line: bytes of valid files are changed, cut, doubled and mixed.

`RESEEN_FUZZ=20000 pytest tests/test_fuzz_readers.py` tries as many of each kind; a finding becomes a test of its own.
"""

from __future__ import annotations

import io
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from films import counting, film
from galleries import MODEL, filled
from reseen.commands.features_file import _read
from reseen.config import resolve
from reseen.data import open_data, open_search_data
from reseen.data.images import decode_image
from reseen.data.video import Sampling, read_video
from reseen.errors import ReseenError
from reseen.footage import Rows
from reseen.footage.shards import read_features
from reseen.gallery import Gallery
from reseen.models.checkpoint import read_checkpoint, stored_config
from reseen.training.checkpoint import write_checkpoint
from scene_worlds import coco, cuhk_sysu, prw
from worlds import people

INPUTS = int(os.environ.get("RESEEN_FUZZ", "60"))
SLOW = 30.0  # seconds that no input may take
WORDS = (
    b"-1",
    b"--1",
    b"nan",
    b"1e999",
    b"9" * 40,
    b"\xff",
    b"\0",
    b"..",
    b"/",
    b'"',
    b",",
    b"null",
    b"[" * 30,
)


def mutated(data: bytes, draw: random.Random) -> bytes:
    """One to four changes: a byte, a piece cut out, doubled or moved, or a word that readers trip over."""
    content = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(content) + 1)
        end = min(len(content), start + draw.choice([1, 1, 2, 4, 8, 64, 512]))
        kind = draw.randrange(5)
        if kind == 0 and start < len(content):
            content[start] = draw.randrange(256)
        elif kind == 1:
            del content[start:end]
        elif kind == 2:
            content[start:start] = content[start:end]
        elif kind == 3:
            content[start:end] = draw.choice(WORDS)
        else:
            content[start:end] = draw.randbytes(end - start)
    return bytes(content)


def outcome(read: Callable[[], object]) -> str | None:
    """The line with which it is refused; None: it is read. Everything else, panics of libraries too, is an error."""
    try:
        read()
    except ReseenError as error:
        return str(error)
    return None


def in_a_line(said: str | None) -> bool:
    """Whether it was read, or refused as a user can read it."""
    return said is None or (said.count("\n") == 0 and len(said) < 3000)


def fuzzed(kind: str, files: list[Path], read: Callable[[], object]) -> None:
    """Mutate one of ``files`` at a time, ``read``, and put it back."""
    whole = {file: file.read_bytes() for file in files}
    read()  # what is mutated can be read
    refused = 0
    for number in range(INPUTS):
        draw = random.Random(f"{kind} {number}")
        file = draw.choice(files)
        file.write_bytes(mutated(whole[file], draw))
        begun = time.monotonic()
        said = outcome(read)
        refused += said is not None
        assert in_a_line(said), f"{kind}, input {number}: {said}"
        assert time.monotonic() - begun < SLOW, f"input {number}"
        file.write_bytes(whole[file])
    print(f"\n{kind}: {INPUTS} inputs, {refused} refused in one line, the others read")


def test_manifests(tmp_path: Path) -> None:
    crops, labels = people(tmp_path / "photos", identities=3)
    rows = [f"photos/{c.path.name},{c.camera},{p},train" for c, p in zip(crops, labels, strict=True)]
    table = tmp_path / "people.csv"
    table.write_text("\n".join(["path,camera,identity,split", *rows]) + "\n")
    fuzzed("manifest", [table], lambda: open_data(table))


def test_coco(tmp_path: Path) -> None:
    person = {"bbox": [10, 10, 20, 40], "person_id": 3, "category_id": 1}
    names = {"1.jpg": [person, {**person, "person_id": "Ann"}], "2.jpg": [person], "3.jpg": []}
    cameras = {"1.jpg": 1, "2.jpg": "c2", "3.jpg": 3.0}
    file = coco(tmp_path / "a.json", names, cameras=cameras, categories=[{"id": 1, "name": "person"}])
    fuzzed("coco", [file], lambda: open_search_data(file))


@pytest.mark.parametrize("layout", [prw, cuhk_sysu])
def test_matlab_files(layout: Callable[[Path], Any], tmp_path: Path) -> None:
    layout(tmp_path)
    files = sorted(tmp_path.rglob("*.mat"))
    fuzzed(layout.__name__, files, lambda: open_search_data(tmp_path))


def test_configurations(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "recipe: cacl\ncluster:\n  eps: 0.5\n  k1: 20\ntrain.lr_steps: [0.5, 0.75]\ndata.workers: 0\n"
    )
    fuzzed("config", [file], lambda: resolve(file=file))


def test_checkpoints(tmp_path: Path) -> None:
    file = tmp_path / "last.safetensors"
    state = {"config": "model.backbone: street", "epoch": 1, "deployed": "second"}
    write_checkpoint(file, {"networks.second.x": torch.zeros(20, 3)}, state)

    def read() -> None:
        stored_config(file)
        read_checkpoint(file)

    fuzzed("checkpoint", [file], read)


def test_features(tmp_path: Path) -> None:
    file = tmp_path / "features.npz"
    rows = np.random.default_rng(0).random((5, 8), np.float32)
    np.savez_compressed(file, query=rows, gallery=rows, query_names=np.array(list("abcde")))
    fuzzed("features", [file], lambda: _read(file))


def test_embedded_features(embedded: Path) -> None:
    def read() -> list[Rows]:
        return list(read_features(embedded))

    fuzzed("embedded", sorted(embedded.iterdir()), read)


@pytest.fixture
def embedded(trained: tuple[Path, str], world: Path, tmp_path: Path) -> Path:
    from command_runs import done

    done("embed", trained[0], world / "query", "--out", tmp_path / "features")
    return tmp_path / "features"


def pictures() -> Iterator[tuple[str, bytes]]:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 16, 3), np.uint8))
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        yield kind, buffer.getvalue()


@pytest.mark.parametrize(("kind", "data"), list(pictures()), ids=[kind for kind, _ in pictures()])
def test_images(kind: str, data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(data)
    fuzzed(kind, [file], lambda: decode_image(file.read_bytes()))


def test_videos(tmp_path: Path) -> None:
    file = film(tmp_path / "walk.mp4", counting(8))
    fuzzed("video", [file], lambda: list(read_video(file, Sampling(), report=[].append)))


def test_galleries(tmp_path: Path) -> None:
    _, features = filled(tmp_path / "gallery", 12)
    files = [
        path for path in sorted((tmp_path / "gallery").rglob("*")) if path.is_file() and path.stat().st_size
    ]

    def read() -> None:
        gallery = Gallery.open(tmp_path / "gallery", MODEL)
        gallery.search(features[0], 3)
        json.dumps([str(row) for row in gallery.thumbnails([0, 1])])

    fuzzed("gallery", files, read)
