"""Files and words that were made to hurt: one line, soon, in little memory, and nothing executed."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from command_runs import market
from films import counting, film
from reseen import pixels
from reseen.config import from_yaml
from reseen.data.matcheck import is_whole
from reseen.data.matfiles import load_variable, stream_records
from reseen.data.video import Sampling, read_frame, read_video
from reseen.errors import ReseenError
from reseen.inference import load_model
from reseen.models.checkpoint import read_checkpoint, stored_config
from reseen.training.checkpoint import write_checkpoint
from test_cli import refused

EXAMPLES = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


# --- configurations ---


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &a [x, x]\nb: [*a, *a]", "alias"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested more than 20 deep"),
        ("train.iterations: " + "9" * 400, "train.iterations is a number of 400 digits"),
        ("train.batch_size: 3000000000", "below 2^31"),
        ("data.height: 1000000000", "8 to 4096 pixels"),
        ("cluster.eps: " + "x" * 50_000, "expected float"),
    ],
)
def test_a_configuration_is_small(text: str, why: str) -> None:
    with pytest.raises(ReseenError, match=why.replace("^", r"\^")) as found:
        from_yaml(text)
    assert len(str(found.value)) < 2100


def test_what_an_error_quotes_is_cut_in_its_middle() -> None:
    said = str(ReseenError(f"{'x' * 90_000}/end is missing: give another --data"))
    assert said.startswith("x" * 100)
    assert said.endswith("/end is missing: give another --data")
    assert "characters ..." in said
    assert len(said) < 500
    many = str(ReseenError("word " * 90_000 + "give less"))
    assert many.endswith("word give less")
    assert len(many) < 2100
    assert str(ReseenError("a short one: do this")) == "a short one: do this"


# --- features ---


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def array(shape: tuple[int, ...], data: bytes) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return market(tmp_path_factory.mktemp("market"))


@EXAMPLES
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_a_damaged_file_of_features_is_one_line(
    folder: Path, tmp_path: Path, changes: list[tuple[int, int]], cut: bool
) -> None:
    buffer = io.BytesIO()
    rows = {name: np.random.default_rng(0).random((5, 8), np.float32) for name in ("query", "gallery")}
    np.savez_compressed(buffer, **rows)
    data = bytearray(buffer.getvalue())
    for place, value in changes:
        data[place % len(data)] = value
    file = tmp_path / "features.npz"
    file.write_bytes(data[: changes[0][0] % len(data)] if cut else data)
    refused("evaluate", "--features", file, "--data", folder)  # damaged, or of too few rows


def test_features_that_would_fill_the_memory_are_not_inflated(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "zeros.npz").write_bytes(npz(query=array((5, 10**6), bytes(2 * 10**7)), gallery=b""))
    assert "bytes would take 20,0" in refused(
        "evaluate", "--features", tmp_path / "zeros.npz", "--data", folder
    )
    (tmp_path / "huge.npz").write_bytes(npz(query=array((10**6, 10**7), b""), gallery=b""))
    assert "cannot be read" in refused("evaluate", "--features", tmp_path / "huge.npz", "--data", folder)


# --- MATLAB files ---


def test_a_matlab_file_that_would_fill_the_memory_is_not_inflated(tmp_path: Path) -> None:
    inflated = struct.pack("<II", 14, 2**31) + bytes(64)
    element = zlib.compress(inflated)
    file = tmp_path / "annotations.mat"
    file.write_bytes(bytes(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(element)) + element)
    with pytest.raises(ReseenError, match="would take 2,147,483,648 in memory"):
        load_variable(file, "x")
    with pytest.raises(ReseenError, match="would take 2,147,483,648 in memory"):
        next(iter(stream_records(file, "x")))


def test_a_matlab_file_that_holds_more_than_it_says_is_not_inflated_further() -> None:
    element = zlib.compress(struct.pack("<II", 14, 64) + bytes(2**24))
    tracemalloc.start()
    assert not is_whole(bytes(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(element)) + element)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_matlab_file_whose_sizes_disagree_never_reaches_scipy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed at random, some end the interpreter inside of scipy's reader."""
    buffer = io.BytesIO()
    savemat(buffer, {"x": np.arange(6.0).reshape(2, 3)})
    data = bytearray(buffer.getvalue())
    assert is_whole(bytes(data))
    place = data.index(struct.pack("<ii", 2, 3))
    data[place : place + 8] = struct.pack("<ii", 2, 3_000_000)
    assert not is_whole(bytes(data))
    (tmp_path / "x.mat").write_bytes(data)
    monkeypatch.setattr("scipy.io.loadmat", lambda *given, **more: pytest.fail("it did"))
    with pytest.raises(ReseenError, match="is damaged, or no MATLAB file"):
        load_variable(tmp_path / "x.mat", "x")


# --- videos ---


def test_a_video_with_notes_that_are_no_text_is_read(tmp_path: Path) -> None:
    file = film(tmp_path / "walk.mp4", counting(4))
    data = file.read_bytes()
    assert b"VideoHandler" in data
    file.write_bytes(data.replace(b"VideoHandler", b"\xff" * 12))
    assert len(list(read_video(file, Sampling(), report=[].append))) >= 1
    assert read_frame(file, 0).ndim == 3


# --- checkpoints whose digest is right: of a later version, or of a program that imitates ours ---


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.integers(), max_size=2)


@EXAMPLES
@given(st.dictionaries(st.sampled_from(["config", "epoch", "deployed", "new"]), VALUES), st.booleans())
def test_a_checkpoint_of_another_version_is_said_to_be_one(
    tmp_path: Path, state: dict[str, Any], whole: bool
) -> None:
    usual: dict[str, Any] = {"config": "method: cacl", "epoch": 1, "deployed": "second"}
    file = tmp_path / "last.safetensors"
    write_checkpoint(file, {"networks.second.x": torch.zeros(2, 3)}, {**usual, **state} if whole else state)
    with contextlib.suppress(ReseenError):
        read_checkpoint(file)
    stored_config(file)


def test_weights_of_other_shapes_are_said_to_be_of_another_version(tmp_path: Path) -> None:
    state = {"config": "model.backbone: street", "epoch": 1, "deployed": "second"}
    file = tmp_path / "last.safetensors"
    write_checkpoint(file, {"networks.second.x": torch.zeros(2, 3)}, state)
    with pytest.raises(ReseenError, match="is not a checkpoint of this version of reseen"):
        load_model(file)
    write_checkpoint(file, {"networks.second.x": torch.zeros(2, 3)}, state | {"deployed": 3})
    with pytest.raises(ReseenError, match=r"of this version of reseen \(deployed is 3\)"):
        read_checkpoint(file)


# --- images ---


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "I;16", "RGBA"])
@pytest.mark.parametrize("turned", [1, 6])
def test_a_large_image_in_strips_is_the_same_image(
    mode: str, turned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = np.random.default_rng(0).integers(0, 2**16, (37, 23)).astype(np.uint16)
    image = (
        Image.fromarray(grey)
        if mode == "I;16"
        else Image.fromarray((grey >> 8).astype(np.uint8)).convert(mode)
    )
    exif = image.getexif()
    exif[0x0112] = turned
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", exif=exif)
    whole = pixels.decoded(buffer.getvalue())
    monkeypatch.setattr(pixels, "_ROWS", 8)
    monkeypatch.setattr(pixels, "LARGE", 100)
    strips = pixels.decoded(buffer.getvalue())
    assert whole.shape == ((37, 23, 3) if turned == 1 else (23, 37, 3))
    assert strips.tobytes() == whole.tobytes()
