"""How sure an accuracy is, and a difference between two networks on the same test videos.

Pure functions of hits, or of shares of several trainings that hit. They say what chance in the
choice of test videos does; another training seed adds its own spread, which is not here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Hits = npt.NDArray[np.bool_]
"""Whether each test video was named right, `[n]`."""

Shares = npt.NDArray[np.float64]
"""The share of several trainings that named each test video right, `[n]`, 0 to 1."""

SIGNIFICANT = 0.05
"""A p-value below this is called significant."""

RESAMPLES = 10_000
CHUNK = 500
"""Resamples drawn at once: indices of 500 x 3,783 videos take 15 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Accuracy of one network less that of another, on the same videos (-1 to 1)."""

    value: float
    low: float
    """Of the 95 % interval."""
    high: float


def paired_bootstrap(
    ours: Hits | Shares, theirs: Hits | Shares, *, seed: int, resamples: int = RESAMPLES
) -> Difference:
    """The difference in accuracy with its 95 % percentile interval (Efron, Tibshirani 1993).

    Videos are drawn with replacement, each with the answers of both networks, so that what is
    hard for both does not widen the interval. Of several trainings, give the share that is right
    on each video: the interval is then that of the difference of their means.

    Args:
        ours: Of the one network, `[n]`.
        theirs: Of the other, the same videos in the same order, `[n]`.
        seed: Of the draws.
        resamples: How many draws of n videos.

    Raises:
        ValueError: Other numbers of videos, or none.
    """
    _check_pairs(ours, theirs)
    gains = ours.astype(np.float64) - theirs.astype(np.float64)
    generator = np.random.default_rng(seed)
    means: list[npt.NDArray[np.float64]] = []
    for start in range(0, resamples, CHUNK):
        shape = (min(CHUNK, resamples - start), len(gains))
        means.append(gains[generator.integers(0, len(gains), shape)].mean(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Difference(value=float(gains.mean()), low=float(low), high=float(high))


def mcnemar(ours: Hits, theirs: Hits) -> float:
    """The exact two-sided p-value that neither network is better (McNemar 1947).

    Only videos count that one of them names right and the other does not: were both equally
    good, each of these would be a toss of a coin. 1.0 where there are none.

    Of several trainings, each coin has the size of what one side gains on its video in the share
    that is right: the sign-flip test of the difference of the means (Fisher 1935), which with one
    training on either side is McNemar's.

    Args:
        ours: Of the one network, `[n]`, or of its trainings, `[trainings, n]`.
        theirs: Of the other, the same videos in the same order, likewise.

    Raises:
        ValueError: Other numbers of videos, or none.
    """
    ours, theirs = np.atleast_2d(ours), np.atleast_2d(theirs)
    _check_pairs(ours[0], theirs[0])
    # Whole numbers: gains in the share right, times the trainings of both sides.
    gains = len(theirs) * ours.sum(axis=0) - len(ours) * theirs.sum(axis=0)
    gains = gains[gains != 0]
    gains //= max(int(np.gcd.reduce(gains)), 1)
    chances = np.ones(1)  # of each sum of coins, the smallest first; all sums are as odd or even
    for size in np.abs(gains).tolist():
        longer = np.zeros(len(chances) + size)
        longer[: len(chances)] += chances / 2
        longer[size:] += chances / 2
        chances = longer
    sums = np.arange(-(len(chances) - 1), len(chances), 2)
    return min(1.0, float(chances[np.abs(sums) >= abs(gains.sum())].sum()))


def most_disagreements(difference: float, num: int) -> int:
    """How many videos two networks may disagree on, so that their difference is significant.

    Disagreed on is a video that one names right and the other does not. The more there are, the
    more of the difference may be chance; McNemar's p-value then reaches 0.05.

    Args:
        difference: Between the two accuracies on these videos, above 0.
        num: Test videos.

    Returns:
        The largest such number; 0 where there are too few videos for this difference.

    >>> most_disagreements(0.02, 1200)
    138
    """
    gain = math.ceil(difference * num - 1e-9)
    if not 0 < gain <= num:
        raise ValueError(f"No {num} videos can show a difference of {difference}.")
    lost = 0
    while gain + 2 * lost <= num and _two_sided(gain + lost, lost) < SIGNIFICANT:
        lost += 1
    return gain + 2 * (lost - 1) if lost else 0


def _two_sided(won: int, lost: int) -> float:
    """Twice the chance of a coin to fall at least as unevenly to this side, at most 1."""
    tosses = won + lost
    tail = sum(math.comb(tosses, k) for k in range(min(won, lost) + 1))
    return min(1.0, 2 * tail / (1 << tosses))


def wilson_interval(share: float, num: int) -> tuple[float, float]:
    """The 95 % interval of a share of `num` videos (Wilson 1927).

    >>> tuple(round(bound, 3) for bound in wilson_interval(0.5, 100))
    (0.404, 0.596)
    """
    z = 1.959964
    middle = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * math.sqrt(share * (1 - share) / num + (z / (2 * num)) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)


def _check_pairs(ours: Hits | Shares, theirs: Hits | Shares) -> None:
    if ours.shape != theirs.shape or ours.ndim != 1 or not len(ours):
        raise ValueError(
            f"A paired comparison needs the same videos twice, not {ours.shape} and {theirs.shape}."
        )
