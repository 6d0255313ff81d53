"""The embedded data set: real video files of textured things whose label is the motion.

No single frame tells the class. Everything wraps around: a thing that leaves on the right comes
back on the left, one that has grown to the largest size starts again at the smallest. So place,
size and angle are equally likely to be anything at any time, in every class; only their change
over time differs. Groups are families of background and thing, shared by all classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinocell import runs
from kinocell.config import SyntheticConfig
from kinocell.console import progress, say
from kinocell.data import textures
from kinocell.data.manifest import from_names
from kinocell.data.video_writer import write_frames
from kinocell.data.workers import ordered_results
from kinocell.errors import ConfigError, RunError

FORMAT = 1
HEIGHT_PX, WIDTH_PX = 72, 76
FRAMES_PER_SECOND = 24
NUM_FRAMES = (24, 61)
RADIUS_PX = (13.5, 28.5)
TEST_SHARE = 0.25
SHAKE_PX = 2

Curve = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Path4:
    """Where the thing is in each frame; all four wrap around at 1."""

    x: Curve
    y: Curve
    angle: Curve
    size: Curve


Change = Callable[[Curve, float], tuple[Curve | float, Curve | float, Curve | float, Curve | float]]
"""(time from 0 to 1, speed) -> change of (x, y, angle, size) since the first frame."""


MOTIONS: Mapping[str, Change] = {
    "grow": lambda time, speed: (0, 0, 0, speed * time),
    "move_down": lambda time, speed: (0, speed * time, 0, 0),
    "move_left": lambda time, speed: (-speed * time, 0, 0, 0),
    "move_right": lambda time, speed: (speed * time, 0, 0, 0),
    "move_up": lambda time, speed: (0, -speed * time, 0, 0),
    "rotate_ccw": lambda time, speed: (0, 0, -speed * time, 0),
    "rotate_cw": lambda time, speed: (0, 0, speed * time, 0),
    "shrink": lambda time, speed: (0, 0, 0, -speed * time),
}
"""The classes. Speed is in frame sides, turns or size ranges per video."""

SPEED = (0.5, 0.9)
"""Slow enough that two frames of a clip, a slot or two apart, still show which way it went."""


def render(folder: Path, config: SyntheticConfig) -> Path:
    """Write the video files and `manifest.csv`; goes on where it stopped.

    Args:
        folder: Made if missing.
        config: How many videos, how many groups, which seed.

    Returns:
        The csv, with path, label, split and group.

    Raises:
        ConfigError: Too few videos for the classes and groups.
        RunError: The folder holds videos of other settings; the disk is full.
    """
    if config.groups < 4 or config.videos < len(MOTIONS) * config.groups:
        raise ConfigError(
            f"{config.videos} synthetic videos in {config.groups} groups are too few: there must "
            f"be 4 groups or more, and one video of each of the {len(MOTIONS)} classes in each."
        )
    mark = folder / "synthetic.json"
    wanted = {"format": FORMAT, **asdict(config)}
    if mark.exists() and runs.read_json(mark, "the settings of synthetic videos") != wanted:
        raise RunError(
            f"{folder} holds synthetic videos of other settings. Choose another --out, or delete "
            "that folder."
        )
    manifest_path = folder / "manifest.csv"
    if manifest_path.exists():
        say(f"synthetic: already rendered: {config.videos} videos in {folder}")
        return manifest_path
    runs.write_json(mark, wanted)
    scenes = all_scenes(folder, config)
    missing = [scene for scene in scenes if not scene.path.exists()]
    say(f"synthetic: rendering {config.videos} videos of {len(MOTIONS)} motions into {folder}")
    for name in MOTIONS:
        (folder / name).mkdir(exist_ok=True)
    for _ in progress(
        ordered_results(_write, missing, 0),
        label="synthetic",
        total=len(scenes),
        unit="videos",
        done=len(scenes) - len(missing),
    ):
        pass
    from_names(
        folder,
        [scene.path.relative_to(folder).as_posix() for scene in scenes],
        [scene.motion for scene in scenes],
        splits=[scene.split for scene in scenes],
        groups=[f"family_{scene.group:02d}" for scene in scenes],
    ).save(manifest_path)
    return manifest_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One video: what its pixels depend on."""

    path: Path
    motion: str
    group: int
    split: str
    number: int
    seed: int


def all_scenes(folder: Path, config: SyntheticConfig) -> list[Scene]:
    """Every class in every group, as evenly as the numbers allow; formats take turns."""
    names = list(MOTIONS)
    num_test = max(round(TEST_SHARE * config.groups), 1)
    scenes = []
    for number in range(config.videos):
        turn, place = divmod(number, len(names))
        group = turn % config.groups
        suffix = "avi" if (turn // config.groups + group + place) % 2 else "mp4"
        scenes.append(
            Scene(
                path=folder / names[place] / f"{names[place]}_{number:05d}.{suffix}",
                motion=names[place],
                group=group,
                split="test" if group >= config.groups - num_test else "train",
                number=number,
                seed=config.seed,
            )
        )
    return scenes


def _write(scene: Scene) -> None:
    """Render one file under another name, then give it its own: never half a video."""
    temporary = scene.path.with_name(f".{scene.path.stem}.tmp{scene.path.suffix}")
    try:
        write_frames(temporary, iter(frames(scene)), FRAMES_PER_SECOND)
        temporary.replace(scene.path)
    finally:
        temporary.unlink(missing_ok=True)


def frames(scene: Scene) -> NDArray[np.uint8]:
    """The pixels of one video, uint8 `[T, H, W, 3]`."""
    family = np.random.default_rng([scene.seed, 1, scene.group])
    look = textures.family(family)
    rng = np.random.default_rng([scene.seed, 2, scene.number])
    count = int(rng.integers(*NUM_FRAMES))
    path = _path(rng, MOTIONS[scene.motion], count)
    still = _background(rng, look)
    shake = np.rint(SHAKE_PX * _wander(rng, count, 2)).astype(np.int64) + 2 * SHAKE_PX
    video = np.stack([still[y : y + HEIGHT_PX, x : x + WIDTH_PX] for y, x in shake])
    _draw(video, textures.thing(rng, look), path, shake)
    return _recorded(rng, video)


def _path(rng: np.random.Generator, change: Change, count: int) -> Path4:
    """A start that may be anywhere, the motion of the class, and a little wandering of all."""
    time = np.linspace(0.0, 1.0, count)
    starts = rng.random(4)
    wander = np.array([0.03, 0.03, 0.03, 0.05]) * _wander(rng, count, 4)
    moved = change(time, rng.uniform(*SPEED))
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
    pixels: NDArray[np.uint8] = (np.clip(seen, 0, 1) * 255).astype(np.uint8)
    return pixels
