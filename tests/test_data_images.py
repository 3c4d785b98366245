from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from reseen.data import fingerprint, read_image, scan_images
from reseen.data.images import decode_image
from reseen.errors import ReseenError
from reseen.pixels import MAX_PIXELS
from reseen.records import Crop

RNG = np.random.default_rng(0)
# smooth, so that JPEG keeps it
PIXELS = np.array(Image.fromarray(RNG.integers(0, 256, (4, 3, 3), dtype=np.uint8)).resize((24, 40)))
DEEP = RNG.integers(0, 1 << 16, (40, 24), dtype=np.uint16)


def rgb() -> Image.Image:
    return Image.fromarray(PIXELS)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int, colour: int, raw: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    )


def pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def turned(kind: str) -> bytes:
    image = rgb()
    exif = image.getexif()
    exif[0x112] = 6
    return encoded(image, kind, exif=exif)


ORDINARY: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded(rgb(), "JPEG"),
    "progressive jpeg": lambda: encoded(rgb(), "JPEG", progressive=True),
    "grey jpeg": lambda: encoded(rgb().convert("L"), "JPEG"),
    "cmyk jpeg": lambda: encoded(rgb().convert("CMYK"), "JPEG"),
    "turned jpeg": lambda: turned("JPEG"),
    "turned png": lambda: turned("PNG"),
    "png": lambda: encoded(rgb(), "PNG"),
    "palette png": lambda: encoded(rgb().quantize(16), "PNG"),
    "black and white png": lambda: encoded(rgb().convert("1"), "PNG"),
    "transparent png": lambda: encoded(rgb().convert("RGBA"), "PNG"),
    "webp": lambda: encoded(rgb(), "WEBP"),
    "gif": lambda: encoded(rgb(), "GIF"),
    "bmp": lambda: encoded(rgb(), "BMP"),
    "cmyk tiff": lambda: encoded(rgb().convert("CMYK"), "TIFF"),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_pixels_are_pillows(kind: str, tmp_path: Path) -> None:
    data = ORDINARY[kind]()
    (tmp_path / "x").write_bytes(data)
    image = read_image(tmp_path / "x")
    assert image.dtype == torch.uint8
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), pillow(data))
    if kind.startswith("turned"):
        assert image.shape == (3, 24, 40)


@pytest.mark.parametrize("kind", [kind for kind in ORDINARY if "jpeg" in kind])
def test_without_torchcodec_the_pixels_are_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ORDINARY[kind]()
    expected = decode_image(data)
    monkeypatch.setattr("reseen.data.images.decode_jpeg", None)
    again = decode_image(data)
    assert torch.equal(again, expected)
    if not kind.startswith("turned"):
        assert again.stride() == expected.stride()  # or resizing could round differently


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_the_high_byte(kind: str) -> None:
    image = decode_image(encoded(Image.fromarray(DEEP), kind))
    np.testing.assert_array_equal(image.numpy(), np.broadcast_to(DEEP >> 8, (3, 40, 24)))


def test_sixteen_bit_colour_keeps_the_high_byte() -> None:
    colours = RNG.integers(0, 1 << 16, (40, 24, 3), dtype=np.uint16)
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    image = decode_image(png(24, 40, 16, 2, raw))
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), colours >> 8)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame(kind: str) -> None:
    options = {} if kind == "GIF" else {"lossless": True}
    base = rgb().quantize(16).convert("RGB")
    data = encoded(base, kind, save_all=True, append_images=[ImageOps.invert(base)], **options)
    np.testing.assert_array_equal(decode_image(data).permute(1, 2, 0).numpy(), np.asarray(base))


def bomb_jpeg() -> bytes:
    data = bytearray(encoded(rgb(), "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", 60_000, 60_000)
    return bytes(data)


def damaged_png() -> bytes:
    data = bytearray(encoded(rgb(), "PNG"))
    data[data.index(b"IDAT") + 20] ^= 0xFF
    return bytes(data)


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is empty"),
    "text": (lambda: b"no picture at all", "is not an image"),
    "zeros": (lambda: b"\0" * 4096, "is not an image"),
    "jpeg cut in half": (lambda: encoded(rgb(), "JPEG")[: len(encoded(rgb(), "JPEG")) // 2], "truncated"),
    "jpeg header only": (lambda: encoded(rgb(), "JPEG")[:20], "truncated"),
    "jpeg without its end": (lambda: encoded(rgb(), "JPEG")[:-8], "truncated"),
    "png cut in half": (lambda: encoded(rgb(), "PNG")[:200], "truncated"),
    "png with damaged data": (damaged_png, "damaged"),  # ends the process in torchvision 0.29
    "webp cut in half": (lambda: encoded(rgb(), "WEBP", lossless=True)[:100], "damaged|not an image"),
    "jpeg bomb": (bomb_jpeg, "60000 x 60000 pixels"),
    "png bomb": (lambda: png(50_000, 50_000, 8, 2, b""), "50000 x 50000|larger than"),
    "smaller png bomb": (lambda: png(10_001, 10_000, 8, 2, b""), "10001 x 10000"),
    "bmp bomb": (
        lambda: encoded(rgb(), "BMP")[:18] + struct.pack("<ii", 15_000, 10_000) + encoded(rgb(), "BMP")[26:],
        "15000 x",
    ),
    "no pixels": (lambda: png(0, 5, 8, 2, b""), "no pixels|damaged|not an image"),
    "32 bit": (lambda: encoded(Image.fromarray(DEEP.astype(np.float32)), "TIFF"), "32-bit"),
    "postscript": (
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "not an image",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_is_named_in_one_line(kind: str, tmp_path: Path) -> None:
    make, message = BAD[kind]
    path = tmp_path / "odd\nname.jpg"
    path.write_bytes(make())
    with pytest.raises(ReseenError, match=message) as caught:
        read_image(path)
    assert "odd?name.jpg" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ReseenError, match=r"ghost\.jpg cannot be read"):
        read_image(tmp_path / "ghost.jpg")
    with pytest.raises(ReseenError, match="is not a file"):
        read_image(tmp_path)


def test_nothing_large_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is taken from the header, before a decoder sees the data."""
    monkeypatch.setattr("reseen.data.images.decode_jpeg", lambda *a, **k: pytest.fail("decoded"))
    assert MAX_PIXELS < 60_000**2
    with pytest.raises(ReseenError, match="60000"):
        decode_image(bomb_jpeg(), "upload")


def test_random_damage_never_escapes() -> None:
    """Cut, flipped, deleted bytes: an image or a ReseenError, nothing else."""
    rng = np.random.default_rng(1)
    sources = [ORDINARY[kind]() for kind in ORDINARY]
    outcomes = set()
    for trial in range(300):
        data = bytearray(sources[trial % len(sources)])
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(len(data))] = rng.integers(256)
        if trial % 3 == 0:
            data = data[: rng.integers(len(data))]
        try:
            image = decode_image(bytes(data))
            assert image.dtype == torch.uint8
            assert image.shape[0] == 3
            outcomes.add("image")
        except ReseenError:
            outcomes.add("error")
    assert outcomes == {"image", "error"}


def folder(root: Path, good: int, bad: int) -> tuple[Crop, ...]:
    crops = []
    for number in range(good + bad):
        path = root / f"{number:03}.jpg"
        path.write_bytes(b"" if number % 3 == 1 and number // 3 < bad else encoded(rgb(), "JPEG"))
        crops.append(Crop(path, number % 4))
    return tuple(crops)


def test_scan_leaves_out_what_is_bad_and_keeps_rows(tmp_path: Path) -> None:
    crops = folder(tmp_path, 8, 2)
    calls: list[tuple[int, int]] = []
    good, rows, problems = scan_images(
        crops, max_bad_share=0.2, progress=lambda done, total: calls.append((done, total))
    )
    assert rows.tolist() == [0, 2, 3, 5, 6, 7, 8, 9]
    assert rows.dtype == np.int64
    assert good == tuple(crops[row] for row in rows)
    assert [Path(problem.split(" is ")[0]).name for problem in problems] == ["001.jpg", "004.jpg"]
    assert calls[-1] == (10, 10)


def test_scan_stops_beyond_the_share(tmp_path: Path) -> None:
    crops = folder(tmp_path, 8, 2)
    with pytest.raises(ReseenError, match=r"2 of 10 images.*max_bad_share=0\.19.*001\.jpg is empty"):
        scan_images(crops, max_bad_share=0.19)
    with pytest.raises(ReseenError, match="no image"):
        scan_images((), max_bad_share=1.0)
    nothing, rows, problems = scan_images(crops[1:2], max_bad_share=1.0)
    assert nothing == ()
    assert rows.shape == (0,)
    assert len(problems) == 1


def test_fingerprint_reads_names_sizes_cameras_and_order_only(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    for root in (first, second):
        root.mkdir()
    crops = folder(first, 3, 0)
    moved = folder(second, 3, 0)
    base = fingerprint(crops, first)
    assert base == fingerprint(moved, second)  # the folder may move
    assert base != fingerprint(crops[::-1], first)
    assert base != fingerprint((Crop(crops[0].path, 3), *crops[1:]), first)
    assert base != fingerprint(crops[:2], first)
    crops[0].path.write_bytes(b"x")
    assert base != fingerprint(crops, first)
    crops[0].path.unlink()
    with pytest.raises(ReseenError, match=r"000\.jpg"):
        fingerprint(crops, first)
