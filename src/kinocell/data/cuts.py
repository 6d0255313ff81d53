"""Cutting groups of videos in two: which groups go to the far side. Pure arithmetic.

A group stays whole, and every class must be on both sides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TRIES = 20
"""Random orders that are tried before a cut is given up."""

Counts = NDArray[np.int64]
"""`[groups, classes]`: videos of each class in each group."""


def cut(
    counts: Counts, fraction: float, keep: int, rng: np.random.Generator
) -> NDArray[np.bool_] | None:
    """Which groups go to the far side, so that it gets about `fraction` of every class.

    Args:
        counts: Videos of each class in each group; every class has some.
        fraction: Of the videos of each class.
        keep: Groups of a class that should stay on the near side, where it has more than that.
        rng: Breaks ties.

    Returns:
        One value per group, or None where no cut was found that leaves every class on both sides.
    """
    if ((counts > 0).sum(1) == 1).all():
        return _each_class(counts, fraction, keep, rng)
    for _ in range(TRIES):
        chosen = _across_classes(counts, fraction, keep, rng)
        if (counts[chosen] > 0).any(0).all() and (counts[~chosen] > 0).any(0).all():
            return chosen
    return None


def _each_class(
    counts: Counts, fraction: float, keep: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Groups of one class each: every class is cut by itself, as close as its groups allow."""
    chosen = np.zeros(len(counts), np.bool_)
    for column in counts.T:
        order = rng.permutation(np.flatnonzero(column))
        most = max(len(order) - keep, 1)
        reached = np.cumsum(column[order])[:most]
        number = int(np.abs(reached - fraction * column.sum()).argmin()) + 1
        chosen[order[:number]] = True
    return chosen


def _across_classes(
    counts: Counts, fraction: float, keep: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Groups that classes share: move the group that helps most, until none helps."""
    order = rng.permutation(len(counts))
    counts = counts[order]
    has = counts > 0
    totals, groups_per_class = counts.sum(0), has.sum(0)
    chosen = np.zeros(len(counts), np.bool_)

    def cost(videos: Counts, groups: Counts) -> NDArray[np.float64]:
        """Of each row: far from the wanted share, plus much for a class that one side lacks."""
        share = ((videos / totals - fraction) ** 2).mean(1)
        size = (videos.sum(1) / totals.sum() - fraction) ** 2
        left = groups_per_class - groups
        lacking = (groups == 0).sum(1) + (left == 0).sum(1)
        thin = (left < np.minimum(keep, groups_per_class - 1)).sum(1)
        total: NDArray[np.float64] = share + size + 100.0 * lacking + 1.0 * thin
        return total

    best = float(cost(counts[:0].sum(0)[None], has[:0].sum(0)[None])[0])
    while True:
        sign = np.where(chosen, -1, 1)[:, None]
        moved = cost(counts[chosen].sum(0) + sign * counts, has[chosen].sum(0) + sign * has)
        move = int(moved.argmin())
        if moved[move] >= best - 1e-12:
            break
        best = float(moved[move])
        chosen[move] = not chosen[move]
    result = np.zeros_like(chosen)
    result[order] = chosen
    return result
