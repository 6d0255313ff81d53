"""How synthetic things and backgrounds look: families of textures, drawn with numpy.

No motion here: `synthetic` moves what this file paints. Colours are floats from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THING_PX = 160
"""Side of the square that a thing is painted on, larger than it is ever shown."""

THING_RADIUS = 60.0
"""Its mean radius there."""

REACH = 1.3
"""How far bumps reach, in mean radii."""

Picture = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What the things and backgrounds of one group have in common."""

    background_colours: Picture
    """`[3, 3]`: colours that the background is mixed of."""
    thing_colours: Picture
    """`[3, 3]`: colours of the thing's patches."""
    cells: tuple[int, int, int]
    """How fine the background's layers are, in patches per side."""
    stripes: float
    """How strong the background's stripes are."""
    stripe_width_px: float
    bumps: tuple[int, int]
    """How many bumps the thing's outline has: of the strong wave, of the weak one."""
    clutter: int
    """Patches that lie about."""


def family(rng: np.random.Generator) -> Family:
    """A family, of which each video then shows another member."""
    strong, weak = rng.choice([2, 3, 4, 5], size=2, replace=False).tolist()
    return Family(
        background_colours=_colours(rng),
        thing_colours=_colours(rng),
        cells=(3, int(rng.integers(5, 9)), int(rng.integers(12, 24))),
        stripes=float(rng.choice([0.0, rng.uniform(0.1, 0.3)])),
        stripe_width_px=float(rng.uniform(6, 16)),
        bumps=(strong, weak),
        clutter=int(rng.integers(3, 9)),
    )


def background(rng: np.random.Generator, look: Family, height: int, width: int) -> Picture:
    """A texture of several scales with patches lying about, `[height, width, 3]`."""
    picture = np.zeros((height, width, 3), np.float32)
    for cells, weight in zip(look.cells, (0.5, 0.3, 0.2), strict=True):
        mixing = smooth_noise(rng, height, width, cells, 3) * 3
        shares = np.exp(mixing) / np.exp(mixing).sum(2, keepdims=True)
        picture += np.float32(weight) * (shares @ look.background_colours)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    direction = rng.uniform(0, np.pi)
    wave = np.sin(
        (rows * np.sin(direction) + columns * np.cos(direction))
        * (2 * np.pi / look.stripe_width_px)
    )
    picture += np.float32(look.stripes * 0.5) * wave[..., None].astype(np.float32)
    for _ in range(look.clutter):
        _patch(rng, look, picture, rows, columns)
    return np.clip(picture, 0, 1)


def _patch(
    rng: np.random.Generator, look: Family, picture: Picture, rows: Picture, columns: Picture
) -> None:
    """One flat rectangle or ellipse of a colour of either palette."""
    height, width = rows.shape
    down = (rows - rng.uniform(0, height)) / rng.uniform(3, 12)
    right = (columns - rng.uniform(0, width)) / rng.uniform(3, 12)
    inside = np.maximum(abs(down), abs(right)) if rng.random() < 0.5 else down**2 + right**2
    palette = look.thing_colours if rng.random() < 0.5 else look.background_colours
    colour = palette[rng.integers(3)] * np.float32(rng.uniform(0.7, 1.2))
    picture[inside < 1] = 0.3 * picture[inside < 1] + 0.7 * colour


def thing(rng: np.random.Generator, look: Family) -> Picture:
    """A patterned shape without any symmetry, `[THING_PX, THING_PX, 4]`; last is opacity."""
    axis = np.arange(THING_PX, dtype=np.float32) - (THING_PX - 1) / 2
    y, x = axis[:, None] / THING_RADIUS, axis[None, :] / THING_RADIUS
    distance, angle = np.hypot(x, y), np.arctan2(y, x)
    strong, weak = look.bumps
    outline = (
        1.0
        + rng.uniform(0.1, 0.2) * np.cos(strong * angle + rng.uniform(0, 2 * np.pi))
        + rng.uniform(0.03, 0.1) * np.cos(weak * angle + rng.uniform(0, 2 * np.pi))
    )
    opacity = np.clip((outline - distance) * 8, 0, 1)
    first, second, third = look.thing_colours[rng.permutation(3)]
    # Two halves of different colour and a spot off the centre: a turn is seen at any angle.
    tilt = rng.uniform(0, 2 * np.pi)
    side = np.clip((x * np.cos(tilt) + y * np.sin(tilt)) * 6, -0.5, 0.5)[..., None] + 0.5
    colour = first * (1 - side) + second * side
    spot_angle = rng.uniform(0, 2 * np.pi)
    spot = np.hypot(x - 0.5 * np.cos(spot_angle), y - 0.5 * np.sin(spot_angle))
    colour = np.where((spot < rng.uniform(0.2, 0.35))[..., None], third, colour)
    shade = 0.8 + 0.4 * smooth_noise(rng, THING_PX, THING_PX, int(rng.integers(4, 8)), 1)
    painted = np.clip(colour * shade, 0, 1)
    return np.concatenate([painted, opacity[..., None]], axis=2).astype(np.float32)


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, cells: int, channels: int
) -> Picture:
    """Random values from 0 to 1 on a grid of `cells`, blended in between."""
    grid = rng.random((cells + 1, cells + 1, channels)).astype(np.float32)
    down, right = _blend(height, cells), _blend(width, cells)
    noise: Picture = np.einsum("hi,ijc,wj->hwc", down, grid, right, optimize=True)
    return noise


def _blend(size: int, cells: int) -> Picture:
    """How much of each of `cells + 1` grid lines is in each pixel, `[size, cells + 1]`."""
    places = np.linspace(0, cells, size)
    shares: Picture = 1 - abs(places[:, None] - np.arange(cells + 1)).astype(np.float32)
    return shares.clip(0, 1)


def _colours(rng: np.random.Generator) -> Picture:
    """Three colours that differ clearly: dark, middle and light in random hues."""
    levels = np.array([0.2, 0.5, 0.8])[:, None] + rng.uniform(-0.08, 0.08, (3, 1))
    hues = rng.uniform(-0.3, 0.3, (3, 3))
    colours: Picture = (levels + hues - hues.mean(1, keepdims=True)).astype(np.float32)
    return colours.clip(0, 1)
