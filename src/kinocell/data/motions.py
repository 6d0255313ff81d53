"""How synthetic things move: each motion is a class.

A motion says how far a thing has come since the first frame. Where it starts, and how it looks, is
not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]
Moved = tuple[Curve | float, Curve | float, Curve | float, Curve | float]
"""Change of x, y (frame sides, rightwards and downwards), angle (turns, clockwise) and size (size
ranges)."""

Motion = Callable[[Curve, np.random.Generator], Moved]
"""(time from 0 to 1, draws of this video) -> change since time 0."""

SPEED = (0.5, 0.9)
"""Frame sides, turns or size ranges per video: slow enough that two frames of a clip, a slot or two
apart, still show which way it went."""


def _steady(x: int = 0, y: int = 0, angle: int = 0, size: int = 0) -> Motion:
    """The same speed all the time."""

    def moved(time: Curve, rng: np.random.Generator) -> Moved:
        way = rng.uniform(*SPEED) * time
        return x * way, y * way, angle * way, size * way

    return moved


def _backwards(motion: Motion) -> Motion:
    """The same as a film that is played backwards."""
    return lambda time, rng: motion(1 - time, rng)


def _anywhere(way: Curve, rng: np.random.Generator) -> Moved:
    """A way along a straight line of any direction."""
    heading = rng.uniform(0, 2 * np.pi)
    return way * np.cos(heading), way * np.sin(heading), 0, 0


def _speed_up(time: Curve, rng: np.random.Generator) -> Moved:
    """Along a line, faster and faster from a standstill."""
    return _anywhere(rng.uniform(*SPEED) * time**2, rng)


def _wait_then_go(time: Curve, rng: np.random.Generator) -> Moved:
    """Rests for more than half of the time, then goes along a line."""
    start = rng.uniform(0.5, 0.65)
    return _anywhere(rng.uniform(0.4, 0.7) * np.clip((time - start) / (1 - start), 0, 1), rng)


def _dart_and_drift(time: Curve, rng: np.random.Generator) -> Moved:
    """Away in a quarter of the time or so, and slowly back to where it was."""
    far, far_time = rng.uniform(0.3, 0.45), rng.uniform(0.2, 0.3)
    return _anywhere(far * np.interp(time, (0, far_time, 1), (0, 1, 0)), rng)


def _turn_right(time: Curve, rng: np.random.Generator) -> Moved:
    """Along a line, and at about half time a quarter turn to the right."""
    heading, corner = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.6)
    speed = rng.uniform(0.7, 1.0)
    before, after = speed * np.minimum(time, corner), speed * np.maximum(time - corner, 0)
    x = before * np.cos(heading) - after * np.sin(heading)
    y = before * np.sin(heading) + after * np.cos(heading)
    return x, y, 0, 0


def _orbit_cw(time: Curve, rng: np.random.Generator) -> Moved:
    """Round a circle, clockwise, without turning about itself."""
    radius, around = rng.uniform(0.15, 0.25), rng.uniform(0.6, 1.1)
    angle = rng.uniform(0, 2 * np.pi) + 2 * np.pi * around * time
    return radius * np.cos(angle), radius * np.sin(angle), 0, 0


def _spiral_in(time: Curve, rng: np.random.Generator) -> Moved:
    """Round and round, either way, nearer and nearer to one point."""
    radius = rng.uniform(0.25, 0.35) * (1 - 0.9 * time)
    around = rng.uniform(1.0, 1.5) * rng.choice((-1, 1))
    angle = rng.uniform(0, 2 * np.pi) + 2 * np.pi * around * time
    return radius * np.cos(angle), radius * np.sin(angle), 0, 0


MOTIONS: Mapping[str, Motion] = {
    "grow": _steady(size=1),
    "move_down": _steady(y=1),
    "move_left": _steady(x=-1),
    "move_right": _steady(x=1),
    "move_up": _steady(y=-1),
    "rotate_ccw": _steady(angle=-1),
    "rotate_cw": _steady(angle=1),
    "shrink": _steady(size=-1),
}
"""The classes of the embedded videos."""

PAIRS: Mapping[tuple[str, str], Motion] = {
    ("approach", "recede"): _steady(size=1),
    ("spin_cw", "spin_ccw"): _steady(angle=1),
    ("orbit_cw", "orbit_ccw"): _orbit_cw,
    ("turn_right", "turn_left"): _turn_right,
    ("speed_up", "slow_down"): _speed_up,
    ("wait_then_go", "go_then_wait"): _wait_then_go,
    ("dart_and_drift", "drift_and_dart"): _dart_and_drift,
    ("spiral_in", "spiral_out"): _spiral_in,
}
"""The classes of the benchmark: a motion, and the same played backwards. Only the order of the
frames tells the two of a pair."""

ORDERED: Mapping[str, Motion] = {
    name: direction
    for (forwards, backwards), motion in PAIRS.items()
    for name, direction in ((forwards, motion), (backwards, _backwards(motion)))
}
"""The same, one by one; the two of a pair are neighbours."""
