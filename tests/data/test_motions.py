"""Each motion goes the way that its name says, and its partner is the same film backwards."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell.data.motions import MOTIONS, ORDERED, PAIRS

TIME = np.linspace(0, 1, 101)
SEEDS = range(20)


def moved(name: str, seed: int) -> NDArray[np.float64]:
    """x, y, angle and size over 101 moments, `[4, 101]`."""
    return np.stack(
        [np.broadcast_to(c, TIME.shape) for c in ORDERED[name](TIME, np.random.default_rng(seed))]
    )


def steps(name: str, seed: int) -> NDArray[np.float64]:
    """Where the thing goes from moment to moment, x and y, `[100, 2]`."""
    way: NDArray[np.float64] = np.diff(moved(name, seed)[:2]).T
    return way


def lengths(name: str, seed: int) -> NDArray[np.float64]:
    way = steps(name, seed)
    return np.hypot(way[:, 0], way[:, 1])


def turns(name: str, seed: int) -> NDArray[np.float64]:
    """Above 0 where the way turns to the right: y points down."""
    way = steps(name, seed)
    return way[:-1, 0] * way[1:, 1] - way[:-1, 1] * way[1:, 0]


def is_straight(name: str, seed: int) -> bool:
    return bool(np.allclose(turns(name, seed), 0, atol=1e-12))


def test_there_are_sixteen_motions_of_names_that_the_embedded_videos_do_not_have() -> None:
    assert len(ORDERED) == 2 * len(PAIRS) == 16
    assert not set(ORDERED) & set(MOTIONS)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_second_of_a_pair_is_the_first_played_backwards(pair: tuple[str, str]) -> None:
    for seed in SEEDS:
        forwards, backwards = (moved(name, seed) for name in pair)
        assert np.allclose(backwards, forwards[:, ::-1])


@pytest.mark.parametrize("name", ORDERED)
def test_order_of_the_moments_matters(name: str) -> None:
    partner = next(b if a == name else a for a, b in PAIRS if name in (a, b))
    for seed in SEEDS:
        way, other = (moved(n, seed) - moved(n, seed)[:, :1] for n in (name, partner))
        assert abs(way - other).max() > 0.15  # of a frame side, a turn or a size range


@pytest.mark.parametrize("seed", SEEDS)
def test_what_approaches_grows_and_what_spins_clockwise_gains_angle(seed: int) -> None:
    for name, row in (("approach", 3), ("spin_cw", 2)):
        curves = moved(name, seed)
        assert np.all(np.diff(curves[row]) > 0)
        assert not np.delete(curves, row, 0).any()
        assert 0.5 <= curves[row, -1] <= 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_orbit_is_an_arc_of_a_circle_clockwise(seed: int) -> None:
    assert np.all(turns("orbit_cw", seed) > 0)
    assert np.all(turns("orbit_ccw", seed) < 0)
    assert np.allclose(lengths("orbit_cw", seed), lengths("orbit_cw", seed)[0])
    angles = np.unwrap(np.arctan2(*steps("orbit_cw", seed).T[::-1]))
    assert 0.59 < (angles[-1] - angles[0]) / (2 * np.pi) < 1.1


@pytest.mark.parametrize("seed", SEEDS)
def test_right_turn_is_a_quarter_turn_to_the_right_near_half_time(seed: int) -> None:
    way = steps("turn_right", seed)
    first, last = way[0], way[-1]
    assert first @ last == pytest.approx(0, abs=1e-12)
    assert first[0] * last[1] - first[1] * last[0] > 0
    corners = np.flatnonzero(abs(turns("turn_right", seed)) > 1e-12)
    assert 38 <= corners.min() <= corners.max() <= 61
    assert corners.max() - corners.min() <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_speeding_up_is_a_straight_line_with_longer_and_longer_steps(seed: int) -> None:
    assert is_straight("speed_up", seed)
    assert np.all(np.diff(lengths("speed_up", seed)) > 0)
    assert np.all(np.diff(lengths("slow_down", seed)) < 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_waiting_takes_more_than_half_of_the_time(seed: int) -> None:
    way = lengths("wait_then_go", seed)
    assert is_straight("wait_then_go", seed)
    assert not way[:50].any()
    assert np.all(way[66:] > 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_dart_is_away_early_and_back_at_the_end(seed: int) -> None:
    x, y = moved("dart_and_drift", seed)[:2]
    far = np.hypot(x - x[0], y - y[0])
    assert far[-1] == pytest.approx(0, abs=1e-12)
    assert 20 <= far.argmax() <= 30
    assert 0.28 < far.max() <= 0.45


def test_spiral_turns_one_way_with_shorter_and_shorter_steps_and_both_ways_occur() -> None:
    ways = []
    for seed in SEEDS:
        turned = turns("spiral_in", seed)
        assert np.all(turned > 0) or np.all(turned < 0)
        assert np.all(np.diff(lengths("spiral_in", seed)) < 0)
        ways.append(turned[0] > 0)
    assert len(set(ways)) == 2


@pytest.mark.parametrize("name", ["speed_up", "wait_then_go", "dart_and_drift", "turn_right"])
def test_every_direction_is_equally_likely(name: str) -> None:
    ends = [steps(name, seed)[-1] for seed in range(600)]
    shares = np.sort([np.arctan2(y, x) / (2 * np.pi) % 1 for x, y in ends])
    assert abs(shares - np.linspace(0, 1, 600)).max() < 0.066  # Kolmogorov, p = 0.01
