"""Who walks on the drawn street: the looks of an identity, as a function of (seed, identity).

A few outfits (colour triples) are shared by all identities, so that colour alone says little. Within an
outfit the identities differ by the texture of the top, and by bag, hat, hair, build and lower garment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]

OUTFITS = 8  # colour triples in use at once; 140 identities on 8 outfits is about 17 per outfit

# Purposes keep the random streams of one seed apart; they are part of what a seed means: never renumber.
PEOPLE, TEXTURE_ORDER, OUTFIT_ORDER, CAMERA, BACKGROUND, PRESENCE, TRACK, FRAME, SCENE, DECK, WALK = range(11)

# (top, accent of the texture, lower garment)
_OUTFIT_COLOURS: tuple[tuple[Colour, Colour, Colour], ...] = (
    ((178, 52, 48), (240, 228, 206), (44, 50, 74)),
    ((46, 84, 148), (232, 234, 238), (58, 56, 60)),
    ((58, 116, 78), (236, 222, 160), (92, 78, 62)),
    ((222, 184, 66), (60, 56, 84), (62, 84, 124)),
    ((226, 224, 216), (52, 60, 88), (40, 42, 48)),
    ((54, 54, 62), (206, 202, 196), (118, 112, 104)),
    ((134, 76, 132), (238, 204, 212), (52, 54, 70)),
    ((206, 120, 62), (56, 70, 76), (70, 92, 88)),
    ((122, 164, 190), (248, 248, 240), (84, 66, 60)),
    ((160, 148, 120), (84, 44, 46), (50, 62, 92)),
    ((88, 44, 56), (222, 188, 130), (96, 100, 112)),
    ((60, 130, 136), (244, 214, 190), (46, 46, 58)),
)
_SKIN: tuple[Colour, ...] = ((241, 205, 178), (224, 176, 140), (188, 134, 98), (138, 92, 66), (96, 64, 48))
_HAIR: tuple[Colour, ...] = ((32, 26, 24), (78, 52, 36), (146, 100, 56), (206, 172, 110), (150, 148, 146))
_DETAIL: tuple[Colour, ...] = ((36, 36, 40), (120, 78, 50), (176, 44, 48), (214, 206, 190), (48, 82, 130))

# (pattern, period in body heights). Sixty pixels of height make 0.08 about five pixels.
TEXTURES: tuple[tuple[str, float], ...] = (
    ("plain", 1.0),
    ("rings", 0.075),
    ("rings", 0.15),
    ("bars", 0.08),
    ("bars", 0.15),
    ("diagonal", 0.09),
    ("diagonal", 0.17),
    ("checks", 0.09),
    ("checks", 0.17),
    ("dots", 0.085),
    ("dots", 0.15),
    ("grid", 0.11),
    ("zigzag", 0.11),
    ("diamonds", 0.15),
    ("band", 0.1),
    ("halves", 1.0),
    ("disc", 0.16),
    ("cross", 0.18),
    ("triangle", 0.2),
    ("jacket", 0.11),
)


@dataclass(frozen=True)
class Person:
    """Looks of one identity. Lengths are in body heights, colours RGB."""

    top: Colour
    accent: Colour
    bottom: Colour
    texture: str
    period: float
    garment: str  # trousers, shorts, skirt, coat or dress
    sleeves: str  # long, short or raglan (long, in the accent colour)
    bag: str  # none, backpack, satchel or tote
    bag_side: int  # -1 or 1
    bag_colour: Colour
    hat: str  # none, cap, beanie or brim
    hat_colour: Colour
    hair: str  # short, long, bun or bald
    hair_colour: Colour
    skin: Colour
    shoes: Colour
    build: float  # width, 1 = average
    stature: float  # height, 1 = average (matters in scenes only)


def stream(seed: int, purpose: int, *keys: int) -> np.random.Generator:
    """The random stream of (seed, purpose, keys): the same in every process and in any order of drawing."""
    return np.random.default_rng(np.random.SeedSequence((seed, purpose, *keys)))


def person_of(seed: int, identity: int) -> Person:
    """Looks of ``identity`` (1, 2, ...). Outfit and texture repeat together only after 160 identities."""
    outfit = (identity - 1) % OUTFITS
    top, accent, bottom = _OUTFIT_COLOURS[
        int(stream(seed, OUTFIT_ORDER).permutation(len(_OUTFIT_COLOURS))[outfit])
    ]
    order = stream(seed, TEXTURE_ORDER, outfit).permutation(len(TEXTURES))
    texture, period = TEXTURES[int(order[((identity - 1) // OUTFITS) % len(TEXTURES)])]
    rng = stream(seed, PEOPLE, identity)

    def pick(options: tuple[Any, ...], weights: tuple[float, ...] | None = None) -> Any:
        return options[int(rng.choice(len(options), p=weights))]

    return Person(
        top=top,
        accent=accent,
        bottom=bottom,
        texture=texture,
        period=period,
        garment=pick(("trousers", "shorts", "skirt", "coat", "dress"), (0.44, 0.14, 0.16, 0.14, 0.12)),
        sleeves=pick(("long", "short", "raglan"), (0.45, 0.35, 0.2)),
        bag=pick(("none", "backpack", "satchel", "tote"), (0.28, 0.26, 0.24, 0.22)),
        bag_side=pick((-1, 1)),
        bag_colour=pick(_DETAIL),
        hat=pick(("none", "cap", "beanie", "brim"), (0.55, 0.16, 0.16, 0.13)),
        hat_colour=pick(_DETAIL),
        hair=pick(("short", "long", "bun", "bald"), (0.44, 0.32, 0.14, 0.1)),
        hair_colour=pick(_HAIR),
        skin=pick(_SKIN),
        shoes=pick(_DETAIL),
        build=float(rng.uniform(0.86, 1.22)),
        stature=float(rng.uniform(0.9, 1.08)),
    )


def accent_mask(texture: str, period: float, u: NDArray[Any], v: NDArray[Any]) -> NDArray[np.bool_]:
    """Where the top shows its accent colour.

    ``u`` is the way around the body from the middle of the chest, ``v`` the way down from the shoulders,
    both in body heights. Prints (disc, cross, triangle) are on the chest and on the back.
    """
    p = period
    print_u = np.minimum(np.abs(u), np.abs(np.abs(u) - 0.34))  # the back is half a girth from the chest
    print_v = v - 0.15
    match texture:
        case "rings":
            mask = v % p < p / 2
        case "bars":
            mask = u % p < p / 2
        case "diagonal":
            mask = (u + v) % p < p / 2
        case "checks":
            mask = (u % p < p / 2) ^ (v % p < p / 2)
        case "dots":
            shifted = u + np.where(v % (2 * p) < p, 0.0, p / 2)
            mask = np.hypot(shifted % p - p / 2, v % p - p / 2) < 0.32 * p
        case "grid":
            mask = (u % p < 0.28 * p) | (v % p < 0.28 * p)
        case "zigzag":
            mask = (v + np.abs(u % p - p / 2)) % p < p / 2
        case "diamonds":
            mask = np.abs(u % p - p / 2) + np.abs(v % p - p / 2) < 0.36 * p
        case "band":
            mask = np.abs(print_v) < p / 2
        case "halves":
            mask = v > 0.18
        case "disc":
            mask = np.hypot(print_u, print_v) < p / 2
        case "cross":
            mask = (np.minimum(print_u, np.abs(print_v)) < p / 6) & (
                np.maximum(print_u, np.abs(print_v)) < p / 2
            )
        case "triangle":
            mask = (print_v < p / 2) & (print_u < (print_v + p / 2) / 2)
        case "jacket":
            mask = np.abs(u) < p / 2
        case _:
            mask = np.zeros(np.broadcast_shapes(u.shape, v.shape), dtype=bool)
    return np.broadcast_to(mask, np.broadcast_shapes(u.shape, v.shape))
