"""What a camera of the drawn street sees and does: its background, its views, its colours, its noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from reseen.street.figure import Pen, shade
from reseen.street.people import BACKGROUND, CAMERA, Colour, stream

SCENE_WIDTH, SCENE_HEIGHT = 640, 360  # pixels
SUPERSAMPLE = 2  # shapes are drawn this much larger and then averaged

_YAWS = (0.0, math.pi, 0.5 * math.pi, 0.25 * math.pi)  # what the first four cameras mostly see


@dataclass(frozen=True)
class Camera:
    """A fixed camera. ``tone`` holds 256 output levels for each of the three channels."""

    number: int  # 1, 2, ...
    yaw: float  # the side of people that it mostly sees, radians
    horizon: float  # y in scene pixels
    ground: tuple[float, float]  # range of y on which people walk, scene pixels
    scale: float  # body height in pixels per pixel below the horizon
    tone: tuple[int, ...]
    blur: float  # radius in scene pixels
    noise: float  # standard deviation, levels


@lru_cache(maxsize=64)
def camera_of(seed: int, number: int) -> Camera:
    """Camera ``number`` (1, 2, ...) of the street with this seed."""
    rng = stream(seed, CAMERA, number)
    # Mild on purpose: with stronger casts the features of a small network group by camera, and clustering
    # never finds a person in two of them.
    gains = rng.uniform(0.97, 1.03, 3)
    gains *= (1.0, 0.94, 1.05, 0.97)[(number - 1) % 4] * rng.uniform(0.96, 1.04) / gains.mean()
    contrast = rng.uniform(0.93, 1.03)
    lift = rng.uniform(-5.0, 5.0)
    levels = np.arange(256.0)
    tone = [np.clip((levels - 120) * contrast * gain + 120 * gain + lift, 0, 255) for gain in gains]
    return Camera(
        number=number,
        yaw=_YAWS[(number - 1) % 4],
        horizon=float(rng.uniform(60, 95)),
        ground=(215.0, 345.0),
        scale=float(rng.uniform(0.78, 0.92)),
        tone=tuple(round(float(level)) for channel in tone for level in channel),
        blur=float(rng.uniform(0.0, 0.6)),
        noise=float(rng.uniform(1.5, 3.5)),
    )


def body_height(camera: Camera, ground: float) -> float:
    """Height in scene pixels of a person of stature 1 who stands at ``ground`` (y, scene pixels)."""
    return (ground - camera.horizon) * camera.scale


@lru_cache(maxsize=64)
def background_of(seed: int, number: int) -> Image.Image:
    """The empty street of a camera, RGB, 640 x 360."""
    rng = stream(seed, BACKGROUND, number)
    image = Image.new("RGB", (SCENE_WIDTH, SCENE_HEIGHT), (190, 205, 218))
    draw = ImageDraw.Draw(image)
    (_bricks, _shops, _park, _station)[(number - 1) % 4](draw, rng)
    _pavement(draw, rng, (number - 1) % 4)
    for _ in range(18):  # stains
        x, y = rng.uniform(0, SCENE_WIDTH), rng.uniform(205, SCENE_HEIGHT)
        rx, ry = rng.uniform(6, 36), rng.uniform(2, 6)
        level = int(rng.integers(112, 140))
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=(level, level, level - 4))
    # Haze: people stand out from the street, as they do from a real one by depth and motion.
    mean = np.asarray(image, dtype=np.float64).mean(axis=(0, 1))
    grey = (int(mean[0]) // 2 + 64, int(mean[1]) // 2 + 64, int(mean[2]) // 2 + 64)
    hazy = Image.blend(image, Image.new("RGB", image.size, grey), 0.4)
    return hazy.filter(ImageFilter.GaussianBlur(0.8))


def _vary(rng: np.random.Generator, colour: Colour, share: float = 0.12) -> Colour:
    return shade(colour, float(rng.uniform(1 - share, 1 + share)))


def _pavement(draw: ImageDraw.ImageDraw, rng: np.random.Generator, ground: int) -> None:
    base = ((150, 146, 140), (128, 130, 136), (158, 150, 132), (138, 136, 140))[ground]
    draw.rectangle((0, 200, SCENE_WIDTH, SCENE_HEIGHT), fill=base)
    rows = [200 + 160 * (i / 9) ** 1.6 for i in range(10)]
    vanishing = float(rng.uniform(150, 490))
    step = int(rng.integers(60, 110))
    for top, bottom in pairwise(rows):
        for k in range(-12, 13):
            if rng.random() < 0.45:
                near = [vanishing + (k + j) * step * (bottom - 120) / 120 for j in (0, 1)]
                far = [vanishing + (k + j) * step * (top - 120) / 120 for j in (0, 1)]
                draw.polygon(
                    ((far[0], top), (far[1], top), (near[1], bottom), (near[0], bottom)),
                    fill=_vary(rng, base, 0.09),
                )
    if ground == 3:  # a crossing
        for k in range(-6, 7, 2):
            x = [vanishing + (k + j) * 58 for j in (0, 1)]
            draw.polygon(
                ((x[0], 235), (x[1], 235), (x[1] + k * 26, 330), (x[0] + k * 26, 330)), fill=(206, 206, 200)
            )
    draw.line((0, 201, SCENE_WIDTH, 201), fill=shade(base, 0.7), width=4)


def _bricks(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    base: Colour = (156, 104, 84)
    draw.rectangle((0, 0, SCENE_WIDTH, 202), fill=base)
    for row, y in enumerate(range(0, 202, 11)):
        for brick in range(-26 * (row % 2) // 2, SCENE_WIDTH, 26):
            draw.rectangle((brick + 1, y + 1, brick + 24, y + 9), fill=_vary(rng, base))
    x = float(rng.uniform(5, 40))
    while x < SCENE_WIDTH:
        wide = float(rng.uniform(55, 90))
        draw.rectangle((x - 5, 22, x + wide + 5, 128), fill=(214, 206, 194))
        draw.rectangle((x, 27, x + wide, 122), fill=_vary(rng, (74, 90, 108), 0.2))
        draw.line((x + wide / 2, 27, x + wide / 2, 122), fill=(214, 206, 194), width=4)
        x += wide + float(rng.uniform(45, 100))


def _shops(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    x = -float(rng.uniform(0, 60))
    fronts = ((70, 96, 92), (150, 138, 112), (110, 62, 60), (72, 78, 110), (196, 190, 176))
    while x < SCENE_WIDTH:
        wide = float(rng.uniform(90, 170))
        front = fronts[int(rng.integers(len(fronts)))]
        draw.rectangle((x, 0, x + wide, 202), fill=front)
        draw.rectangle((x + 10, 78, x + wide - 10, 186), fill=_vary(rng, (168, 182, 186), 0.2))
        for _ in range(5):  # goods in the window
            gx, gy = rng.uniform(x + 14, x + wide - 34), rng.uniform(90, 150)
            tint = tuple(int(c) for c in rng.integers(60, 220, 3))
            draw.rectangle((gx, gy, gx + rng.uniform(8, 22), 184), fill=(tint[0], tint[1], tint[2]))
        stripe = max(8, int(wide / 9))
        for k, sx in enumerate(range(int(x), int(x + wide), stripe)):
            colour = shade(front, 1.25) if k % 2 else (226, 222, 212)
            draw.rectangle((sx, 56, min(sx + stripe, x + wide), 80), fill=colour)
        x += wide + 4


def _park(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    draw.rectangle((0, 110, SCENE_WIDTH, 202), fill=(112, 140, 86))
    for _ in range(9):
        x, r = float(rng.uniform(0, SCENE_WIDTH)), float(rng.uniform(34, 66))
        draw.rectangle((x - 6, 80, x + 6, 200), fill=(98, 78, 60))
        for _ in range(6):
            cx, cy = x + rng.uniform(-r, r) * 0.7, 60 + rng.uniform(-r, r) * 0.6
            half = r * rng.uniform(0.4, 0.7)
            draw.ellipse((cx - half, cy - half, cx + half, cy + half), fill=_vary(rng, (84, 124, 74), 0.2))
    for _ in range(70):
        x, r = float(rng.uniform(-10, SCENE_WIDTH)), float(rng.uniform(10, 22))
        draw.ellipse((x - r, 176 - r, x + r, 200 + r * 0.3), fill=_vary(rng, (66, 100, 62), 0.22))


def _station(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    draw.rectangle((0, 0, SCENE_WIDTH, 202), fill=(146, 150, 158))
    for left in range(0, SCENE_WIDTH, 32):
        for top in range(0, 202, 32):
            if rng.random() < 0.6:
                draw.rectangle(
                    (left + 1, top + 1, left + 30, top + 30), fill=_vary(rng, (152, 156, 164), 0.1)
                )
    for _ in range(6):
        x, wide = float(rng.uniform(0, SCENE_WIDTH)), float(rng.uniform(50, 100))
        tint = [int(c) for c in rng.integers(70, 210, 3)]
        draw.rectangle((x, 50, x + wide, 150), fill=(60, 62, 70))
        draw.rectangle((x + 4, 54, x + wide - 4, 146), fill=(tint[0], tint[1], tint[2]))
        draw.ellipse((x + wide * 0.25, 75, x + wide * 0.75, 125), fill=(tint[2], tint[0], tint[1]))
    for left in range(int(rng.integers(0, 160)), SCENE_WIDTH, 210):
        draw.rectangle((left, 0, left + 26, 204), fill=(108, 112, 122))


OCCLUDERS = ("bollard", "pole", "bin", "hedge", "car")


def draw_occluder(pen: Pen, furniture: str, x: float) -> None:
    """Street furniture in front of a person whose feet are at the pen's origin; ``x`` in body heights."""
    if furniture == "bollard":
        pen.limb(((x, -0.1), (x, 0.3)), (0.09, 0.09), (70, 72, 76))
        pen.limb(((x - 0.045, 0.24), (x + 0.045, 0.24)), (0.03, 0.03), (214, 206, 190))
    elif furniture == "pole":
        pen.limb(((x, -0.1), (x, 1.3)), (0.05, 0.045), (122, 126, 130))
    elif furniture == "bin":
        pen.slab(x, (0.36, 0.11), (-0.1, 0.09), (62, 84, 70))
        pen.slab(x, (0.4, 0.12), (0.35, 0.12), (44, 60, 52))
    elif furniture == "hedge":
        for k in range(9):
            bump = (x - 0.32 + 0.08 * k, 0.13 + 0.04 * ((k * 5) % 3))
            pen.ellipse(bump, 0.09, 0.1, shade((72, 108, 64), 0.85 + 0.1 * (k % 3)))
        pen.slab(x, (0.16, 0.4), (-0.12, 0.4), (66, 98, 60))
    else:  # the bonnet of a parked car
        pen.dome((x, 0.12), 0.5, 0.22, (150, 156, 164))
        pen.slab(x, (0.13, 0.5), (-0.12, 0.5), (134, 140, 150))
        pen.ellipse((x - 0.36, 0.1), 0.05, 0.04, (236, 228, 190))


def develop(
    image: Image.Image, camera: Camera, rng: np.random.Generator, *, zoom: float = 1.0
) -> Image.Image:
    """What the camera makes of a picture: cast and contrast, blur, sensor noise, a little flicker.

    ``zoom`` is the size of a scene pixel in pixels of ``image``.
    """
    if camera.blur * zoom > 0.25:
        image = image.filter(ImageFilter.GaussianBlur(camera.blur * zoom))
    levels: NDArray[np.float32] = np.asarray(image.point(camera.tone), dtype=np.float32)
    flicker = np.float32(rng.uniform(0.97, 1.03))
    noise = rng.standard_normal(levels.shape, dtype=np.float32) * np.float32(camera.noise)
    return Image.fromarray(np.clip(levels * flicker + noise, 0, 255).astype(np.uint8))
