"""Drawing one walker of the street as a flat vector figure, from any side.

The figure stands at the origin: x to the right, y up, in body heights (feet at 0, crown at 1). ``yaw`` 0
faces the camera, a quarter turn faces to the right of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from reseen.street.people import Colour, Person, accent_mask

Point = tuple[float, float]

SHOULDER, WAIST, HIP = 0.83, 0.50, 0.47  # heights above the ground
STRIDE = 0.1  # half the length of a step
# How far a figure can reach from its foot point: left, down, right, up.
REACH = (0.36, 0.05, 0.36, 1.08)


@dataclass(frozen=True)
class Pose:
    """How a person stands at one moment: both angles in radians; ``sag`` shifts the cloth (body heights)."""

    yaw: float
    phase: float
    sag: float = 0.0


class Pen:
    """Draws shapes given in figure coordinates onto an image: origin and scale in pixels."""

    def __init__(self, image: Image.Image, origin: Point, scale: Point) -> None:
        self.image = image
        self.draw = ImageDraw.Draw(image)
        self.origin = origin
        self.scale = scale

    def at(self, point: Point) -> Point:
        return self.origin[0] + point[0] * self.scale[0], self.origin[1] - point[1] * self.scale[1]

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self.draw.polygon([self.at(point) for point in points], fill=colour)

    def ellipse(self, centre: Point, rx: float, ry: float, colour: Colour) -> None:
        left, top = self.at((centre[0] - rx, centre[1] + ry))
        right, bottom = self.at((centre[0] + rx, centre[1] - ry))
        self.draw.ellipse((left, top, right, bottom), fill=colour)

    def dome(self, centre: Point, rx: float, ry: float, colour: Colour) -> None:
        """The upper half of an ellipse."""
        left, top = self.at((centre[0] - rx, centre[1] + ry))
        right, bottom = self.at((centre[0] + rx, centre[1] - ry))
        self.draw.pieslice((left, top, right, bottom), 180, 360, fill=colour)

    def slab(self, x: float, top: Point, bottom: Point, colour: Colour) -> None:
        """Four corners around the upright line at ``x``: ``top`` and ``bottom`` are height and half the width there."""
        (high, half), (low, other) = top, bottom
        self.polygon(((x - half, high), (x + half, high), (x + other, low), (x - other, low)), colour)

    def limb(self, points: Sequence[Point], widths: Sequence[float], colour: Colour) -> None:
        """A bent, tapered tube with round joints through ``points``."""
        for i, (a, b) in enumerate(pairwise(points)):
            length = math.hypot(b[0] - a[0], b[1] - a[1]) or 1.0
            nx, ny = (a[1] - b[1]) / length / 2, (b[0] - a[0]) / length / 2
            wa, wb = widths[i], widths[i + 1]
            self.polygon(
                (
                    (a[0] + nx * wa, a[1] + ny * wa),
                    (b[0] + nx * wb, b[1] + ny * wb),
                    (b[0] - nx * wb, b[1] - ny * wb),
                    (a[0] - nx * wa, a[1] - ny * wa),
                ),
                colour,
            )
        for point, width in zip(points, widths, strict=True):
            self.ellipse(point, width / 2, width / 2, colour)


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made darker (< 1) or lighter (> 1)."""
    r, g, b = (min(255, max(0, round(c * factor))) for c in colour)
    return r, g, b


@dataclass(frozen=True)
class _Body:
    """A posed person: turns body coordinates (to the side, forward, up) into the picture."""

    person: Person
    pose: Pose
    sin: float
    cos: float

    def at(self, side: float, forward: float, up: float) -> Point:
        return side * self.cos + forward * self.sin, up

    def near(self, side: float, forward: float) -> float:
        """How much nearer to the camera than the middle of the body."""
        return forward * self.cos - side * self.sin

    def half_width(self, broad: float, deep: float) -> float:
        build = self.person.build
        return math.hypot(broad * build * self.cos, deep * build * self.sin)


def draw_person(pen: Pen, person: Person, pose: Pose) -> None:
    """Draw a person at the pen's origin. Parts are drawn from far to near."""
    body = _Body(person, pose, math.sin(pose.yaw), math.cos(pose.yaw))
    seen_from_behind = body.cos < 0
    if not seen_from_behind:
        _hair_behind(pen, body)
        _backpack(pen, body)
    sides = sorted((-1, 1), key=lambda side: body.near(side, 0.0))
    far_arm_hidden = abs(body.sin) > 0.35
    if far_arm_hidden:
        _arm(pen, body, sides[0])
    for side in sides:
        _leg(pen, body, side)
    _lower_garment(pen, body)
    _torso(pen, body)
    if not far_arm_hidden:
        _arm(pen, body, sides[0])
    _satchel(pen, body)
    _head(pen, body)
    if seen_from_behind:
        _hair_behind(pen, body)
        _backpack(pen, body)
    _arm(pen, body, sides[1])
    if not seen_from_behind and person.bag == "backpack":
        _straps(pen, body)


def _leg(pen: Pen, body: _Body, side: int) -> None:
    person = body.person
    swing = math.sin(body.pose.phase) * side
    lift = max(0.0, math.cos(body.pose.phase) * side) * 0.035
    forward = STRIDE * swing
    # Seen from the front a step shows as one foot lower in the picture.
    down = -0.12 * forward * body.cos
    hip = body.at(0.048 * side * person.build, 0.0, HIP)
    knee = body.at(0.05 * side * person.build, forward * 0.55 + 0.02 + lift * 0.8, 0.25 + lift * 0.5)
    ankle = body.at(0.05 * side * person.build, forward - lift * 0.6, 0.035 + lift + down)
    dim = 1.0 if body.near(side, 0.0) > 0 or abs(body.sin) < 0.35 else 0.82
    thick = 0.085 * person.build
    cloth, skin = shade(person.bottom, dim), shade(person.skin, dim)
    if person.garment in ("trousers", "coat"):
        pen.limb((hip, knee, ankle), (thick * 1.1, thick * 0.9, thick * 0.75), cloth)
    else:
        pen.limb((hip, knee, ankle), (thick, thick * 0.62, thick * 0.48), skin)
    if person.garment == "shorts":
        hem = (hip[0] + (knee[0] - hip[0]) * 0.8, hip[1] + (knee[1] - hip[1]) * 0.8)
        pen.limb((hip, hem), (thick * 1.15, thick * 1.05), cloth)
    toe = (ankle[0] + 0.028 * body.sin, ankle[1] - 0.018)
    pen.ellipse(toe, 0.03 + 0.02 * abs(body.sin), 0.02, shade(person.shoes, dim))


def _lower_garment(pen: Pen, body: _Body) -> None:
    person = body.person
    waist = body.half_width(0.1, 0.075)
    if person.garment == "skirt":
        hem = body.half_width(0.145, 0.12)
        pen.slab(0.0, (WAIST, waist), (0.27, hem), person.bottom)
        pen.slab(0.0, (0.285, hem), (0.265, hem + 0.002), shade(person.bottom, 0.75))
    elif person.garment in ("trousers", "shorts"):
        hem = body.half_width(0.098, 0.075)
        pen.slab(0.0, (WAIST, waist), (0.42, hem), person.bottom)


def _torso(pen: Pen, body: _Body) -> None:
    """The textured top: a pattern on a cylinder, so that it turns with the body and narrows at the sides."""
    person = body.person
    shoulder = body.half_width(0.128, 0.078)
    waist = body.half_width(0.104, 0.08)
    hem_height, flare = {"coat": (0.28, 1.18), "dress": (0.29, 1.4)}.get(person.garment, (0.455, 1.0))
    hem = waist * flare
    outline = (
        (-0.035, SHOULDER + 0.022),
        (0.035, SHOULDER + 0.022),
        (shoulder * 0.86, SHOULDER),
        (shoulder, SHOULDER - 0.05),
        (waist, WAIST + 0.04),
        (hem, hem_height),
        (-hem, hem_height),
        (-waist, WAIST + 0.04),
        (-shoulder, SHOULDER - 0.05),
        (-shoulder * 0.86, SHOULDER),
    )
    reach = max(shoulder, hem)
    left, top = pen.at((-reach, SHOULDER + 0.022))
    right, bottom = pen.at((reach, hem_height))
    x0, y0, x1, y1 = math.floor(left), math.floor(top), math.ceil(right) + 1, math.ceil(bottom) + 1
    x = (np.arange(x0, x1) + 0.5 - pen.origin[0]) / pen.scale[0]
    y = (pen.origin[1] - np.arange(y0, y1) - 0.5) / pen.scale[1]
    across = np.clip(x / reach, -1.0, 1.0)
    turn = np.arcsin(across) - body.pose.yaw  # what faces us turns away as the body turns
    turn = (turn + math.pi) % (2 * math.pi) - math.pi
    u = turn * 0.108 * person.build
    v = SHOULDER - y + body.pose.sag
    mask = accent_mask(person.texture, person.period, u[None, :], v[:, None])
    colours = np.where(mask[..., None], np.array(person.accent, float), np.array(person.top, float))
    colours *= (1.06 - 0.3 * across**4)[None, :, None]
    cloth = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    stencil = Image.new("L", cloth.size, 0)
    points = [(px - x0, py - y0) for px, py in map(pen.at, outline)]
    ImageDraw.Draw(stencil).polygon(points, fill=255)
    pen.image.paste(cloth, (x0, y0), stencil)


def _arm(pen: Pen, body: _Body, side: int) -> None:
    person = body.person
    swing = -math.sin(body.pose.phase) * side * 0.1
    reach = side * (0.118 * person.build + 0.012)
    shoulder = body.at(reach * 0.97, 0.0, SHOULDER - 0.035)
    elbow = body.at(reach * 1.12, swing * 0.45 - 0.012, 0.64)
    hand = body.at(reach * 1.12, swing * 1.25, 0.47 + abs(swing) * 0.25)
    near = body.near(side, 0.0)
    dim = 0.78 if near < 0 and abs(body.sin) > 0.35 else 0.9
    cloth = shade(person.accent if person.sleeves == "raglan" else person.top, dim)
    skin = shade(person.skin, min(1.0, dim + 0.05))
    width = 0.056 * (0.7 + 0.3 * person.build)
    pen.ellipse(hand, 0.021, 0.023, skin)
    if person.sleeves == "short":
        pen.limb((shoulder, elbow, hand), (width * 0.8, width * 0.72, width * 0.6), skin)
        cuff = (shoulder[0] * 0.35 + elbow[0] * 0.65, shoulder[1] * 0.35 + elbow[1] * 0.65)
        pen.limb((shoulder, cuff), (width * 1.12, width * 1.12), cloth)
    else:
        wrist = (elbow[0] * 0.12 + hand[0] * 0.88, elbow[1] * 0.12 + hand[1] * 0.88)
        pen.limb((shoulder, elbow, wrist), (width * 1.1, width, width * 0.82), cloth)
    if person.bag == "tote" and side == person.bag_side:
        x, y = hand
        pen.limb(((x - 0.03, y - 0.07), (x, y), (x + 0.03, y - 0.07)), (0.01,) * 3, person.bag_colour)
        wide = 0.035 + 0.035 * abs(body.sin)
        pen.slab(x, (y - 0.06, wide), (y - 0.19, wide * 1.1), person.bag_colour)


def _head(pen: Pen, body: _Body) -> None:
    person = body.person
    pen.slab(0.0, (0.875, 0.026), (SHOULDER + 0.005, 0.03), shade(person.skin, 0.88))
    hair = person.skin if person.hair == "bald" else person.hair_colour
    pen.ellipse((-0.008 * body.sin, 0.928), 0.056, 0.07, hair)
    facing = body.cos + 0.35
    if facing > 0:
        width = 0.046 * min(1.0, 0.35 + facing * 0.55)
        pen.ellipse((0.03 * body.sin * min(1.0, 1.2 - 0.3 * body.cos), 0.912), width, 0.056, person.skin)
    if person.hair == "bun":
        pen.ellipse((-0.05 * body.sin, 0.985), 0.028, 0.028, hair)
    if person.hat == "none":
        return
    colour, trim = person.hat_colour, shade(person.hat_colour, 0.7)
    if person.hat == "cap":
        pen.dome((0.0, 0.945), 0.06, 0.065, colour)
        if body.cos > -0.35:
            pen.ellipse((0.055 * body.sin, 0.944), 0.045, 0.011, trim)
    elif person.hat == "beanie":
        pen.dome((0.0, 0.94), 0.061, 0.085, colour)
        pen.slab(0.0, (0.935, 0.063), (0.96, 0.063), trim)
    else:
        pen.dome((0.0, 0.95), 0.056, 0.075, colour)
        pen.ellipse((0.0, 0.952), 0.105, 0.016, trim)


def _hair_behind(pen: Pen, body: _Body) -> None:
    if body.person.hair != "long":
        return
    x = -0.022 * body.sin
    colour = shade(body.person.hair_colour, 0.92)
    pen.slab(x, (0.93, 0.055), (0.78, 0.066), colour)
    pen.ellipse((x, 0.78), 0.066, 0.022, colour)


def _backpack(pen: Pen, body: _Body) -> None:
    person = body.person
    if person.bag != "backpack":
        return
    x = -0.125 * person.build * body.sin
    wide = math.hypot(0.07 * body.cos, 0.05 * body.sin)
    colour = person.bag_colour
    pen.limb(((x, 0.755), (x, 0.625)), (2 * wide, 2.1 * wide), colour)
    pen.slab(x, (0.76, wide), (0.6, wide), colour)
    if body.cos < 0.5:
        pocket = wide * 0.7
        pen.slab(x, (0.68, pocket), (0.61, pocket), shade(colour, 0.72))


def _straps(pen: Pen, body: _Body) -> None:
    for side in (-1, 1):
        shoulder = body.at(side * 0.075 * body.person.build, 0.03, SHOULDER)
        waist = body.at(side * 0.085 * body.person.build, 0.03, 0.6)
        pen.limb((shoulder, waist), (0.022, 0.018), shade(body.person.bag_colour, 0.85))


def _satchel(pen: Pen, body: _Body) -> None:
    """A bag at one hip and its strap across the body."""
    person = body.person
    if person.bag != "satchel":
        return
    side = person.bag_side
    hip = body.at(side * 0.125 * person.build, 0.0, 0.5)
    far_shoulder = body.at(-side * 0.08 * person.build, 0.0, SHOULDER + 0.005)
    pen.limb((far_shoulder, hip), (0.02, 0.02), shade(person.bag_colour, 0.8))
    if body.near(side, 0.0) < -0.6:
        return  # behind the hip
    wide = 0.045 + 0.035 * abs(body.sin)
    x, y = hip
    pen.slab(x, (y + 0.03, wide), (y - 0.09, wide), person.bag_colour)
    pen.slab(x, (y + 0.03, wide), (y - 0.025, wide * 0.9), shade(person.bag_colour, 0.75))
