"""One synthetic video: a textured thing that moves over a background, from a seed to a file.

No single frame tells the motion. Everything wraps around: a thing that leaves on the right comes
back on the left, one that has grown to the largest size starts again at the smallest. So place,
size and angle are equally likely to be anything at any time, in every class; only their change
over time differs. Which videos a data set has is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinocell.data import textures
from kinocell.data.motions import MOTIONS, ORDERED, Curve, Motion
from kinocell.data.video_writer import write_frames

HEIGHT_PX, WIDTH_PX = 72, 76
FRAMES_PER_SECOND = 24
NUM_FRAMES = (24, 61)
RADIUS_PX = (13.5, 28.5)
SHAKE_PX = 2
KNOWN: Mapping[str, Motion] = {**MOTIONS, **ORDERED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Path4:
    """Where the thing is in each frame; all four wrap around at 1."""

    x: Curve
    y: Curve
    angle: Curve
    size: Curve


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One video: what its pixels depend on."""

    path: Path
    motion: str
    group: int
    split: str
    number: int
    seed: int


def write(scene: Scene) -> None:
    """Render one file under another name, then give it its own: never half a video."""
    temporary = scene.path.with_name(f".{scene.path.stem}.tmp{scene.path.suffix}")
    try:
        write_frames(temporary, iter(pixels(scene)), FRAMES_PER_SECOND)
        temporary.replace(scene.path)
    finally:
        temporary.unlink(missing_ok=True)


def pixels(scene: Scene) -> NDArray[np.uint8]:
    """The pixels of one video, uint8 `[T, H, W, 3]`."""
    family = np.random.default_rng([scene.seed, 1, scene.group])
    look = textures.family(family)
    rng, count = _begun(scene)
    path = _path(rng, KNOWN[scene.motion], count)
    still = _background(rng, look)
    shake = np.rint(SHAKE_PX * _wander(rng, count, 2)).astype(np.int64) + 2 * SHAKE_PX
    video = np.stack([still[y : y + HEIGHT_PX, x : x + WIDTH_PX] for y, x in shake])
    _draw(video, textures.thing(rng, look), path, shake)
    return _recorded(rng, video)


def num_frames(scene: Scene) -> int:
    """How many frames its video has."""
    return _begun(scene)[1]


def _begun(scene: Scene) -> tuple[np.random.Generator, int]:
    """The generator of a video behind its first draw, and this draw: the number of frames."""
    rng = np.random.default_rng([scene.seed, 2, scene.number])
    return rng, int(rng.integers(*NUM_FRAMES))


def _path(rng: np.random.Generator, motion: Motion, count: int) -> Path4:
    """A start that may be anywhere, the motion of the class, and a little wandering of all."""
    time = np.linspace(0.0, 1.0, count)
    starts = rng.random(4)
    wander = np.array([0.03, 0.03, 0.03, 0.05]) * _wander(rng, count, 4)
    moved = motion(time, rng)
    x, y, angle, size = (
        # Wandering comes after the wrap: nothing may jump from large to small because of it.
        (start + add) % 1.0 + small
        for start, add, small in zip(starts, moved, wander.T, strict=True)
    )
    return Path4(x=x, y=y, angle=angle, size=size)


def _wander(rng: np.random.Generator, count: int, columns: int) -> NDArray[np.float64]:
    """Smooth random curves `[count, columns]`, mostly within -1 and 1."""
    knots = rng.uniform(-1, 1, (8, columns))
    places = np.linspace(0, 7, count)
    return np.stack([np.interp(places, np.arange(8), column) for column in knots.T], axis=1)


def _background(rng: np.random.Generator, look: textures.Family) -> NDArray[np.float32]:
    """A cluttered texture; in half of the videos with a thing that stays where it is."""
    margin = 4 * SHAKE_PX
    still = textures.background(rng, look, HEIGHT_PX + margin, WIDTH_PX + margin)
    for _ in range(int(rng.integers(0, 2))):
        resting = Path4(**{name: rng.random(1) for name in ("x", "y", "angle", "size")})
        _draw(still[None], textures.thing(rng, look), resting, np.zeros((1, 2), np.int64))
    return still


def _draw(
    video: NDArray[np.float32], thing: NDArray[np.float32], path: Path4, shake: NDArray[np.int64]
) -> None:
    """Lay the thing over every frame of `video`, in place; it wraps around the edges.

    Args:
        video: `[T, H, W, 3]`, from 0 to 1.
        thing: `[S, S, 4]`, colour and opacity.
        path: Of T frames.
        shake: Shift of the camera per frame `[T, 2]`, in pixels; moves the thing as well.
    """
    height, width = video.shape[1:3]
    small, large = RADIUS_PX
    radius = small * (large / small) ** path.size
    turn = 2 * np.pi * path.angle
    centre_y = path.y * height - shake[:, 0]
    centre_x = path.x * width - shake[:, 1]
    reach = min(int(np.ceil(textures.REACH * radius.max())) + 1, min(height, width) // 2)
    offsets = np.arange(-reach, reach)
    rows = np.floor(centre_y).astype(np.int64)[:, None] + offsets
    columns = np.floor(centre_x).astype(np.int64)[:, None] + offsets
    scale = (textures.THING_RADIUS / radius)[:, None]
    down = (scale * (rows - centre_y[:, None])).astype(np.float32)[:, :, None]
    right = (scale * (columns - centre_x[:, None])).astype(np.float32)[:, None, :]
    cosine = np.cos(turn).astype(np.float32)[:, None, None]
    sine = np.sin(turn).astype(np.float32)[:, None, None]
    middle, last = textures.THING_PX / 2, textures.THING_PX - 1
    u = np.clip(cosine * right + sine * down + middle, 0, last).astype(np.int32)
    v = np.clip(cosine * down - sine * right + middle, 0, last).astype(np.int32)
    window = thing.reshape(-1, 4)[v * textures.THING_PX + u]
    frame = np.arange(len(video))[:, None, None]
    where = (frame, (rows % height)[:, :, None], (columns % width)[:, None, :])
    opacity = window[..., 3:]
    video[where] = video[where] * (1 - opacity) + window[..., :3] * opacity


def _recorded(rng: np.random.Generator, video: NDArray[np.float32]) -> NDArray[np.uint8]:
    """What a camera makes of it: contrast, brightness, flicker and noise."""
    contrast = rng.uniform(0.7, 1.0)
    brightness = rng.uniform(-0.1, 0.1) + rng.uniform(0, 0.02) * _wander(rng, len(video), 1)
    level = (0.5 - 0.5 * contrast + brightness).astype(np.float32)[:, :, None, None]
    grain = rng.normal(0, rng.uniform(0.005, 0.025), (2 * HEIGHT_PX, 2 * WIDTH_PX, 1))
    corners = rng.integers(0, (HEIGHT_PX, WIDTH_PX), (len(video), 2))
    noise = np.stack([grain[y : y + HEIGHT_PX, x : x + WIDTH_PX] for y, x in corners])
    seen = np.float32(contrast) * video + level + noise.astype(np.float32)
    recorded: NDArray[np.uint8] = (np.clip(seen, 0, 1) * 255).astype(np.uint8)
    return recorded
