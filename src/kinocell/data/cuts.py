"""Cutting videos in two so that no group is on both sides: the test split, the search's halves.

Every class must be on both sides. Splits that the data names are not cut here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kinocell.data.manifest import SPLITS, Manifest, Rows, counted
from kinocell.errors import ManifestError

TRIES = 20
"""Random orders that are tried before a cut is given up."""

MOST_CELLS = 250_000
"""Groups times classes up to which a cut is improved step by step, in a second or two."""

Counts = NDArray[np.int64]
"""`[groups, classes]`: videos of each class in each group."""

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Group, class and number of videos, for each group and each class that it has; by group."""


def split_by_group(videos: Manifest, test_fraction: float, seed: int) -> Manifest:
    """The same videos, cut into train and test so that no group is in both.

    Every class is in both splits, and keeps two groups in training where it has three or more:
    the search cuts the training videos once again.

    Args:
        videos: Any manifest; splits that it has are overwritten.
        test_fraction: Share of the videos that should be tested, in (0, 1).
        seed: Another seed cuts elsewhere.

    Raises:
        ManifestError: A class has only one group, or no cut puts every class in both splits.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction is {test_fraction}; it must lie between 0 and 1.")
    everything = np.arange(len(videos))
    tested = _cut(videos, everything, test_fraction, 2, seed, "a training and a test split")
    splits = np.where(tested, SPLITS.index("test"), SPLITS.index("train"))
    return replace(videos, splits=splits.astype(np.int8))


def halves(videos: Manifest, rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """`rows` in two halves of about the same size and classes that share no group.

    The first trains the weights of a search, the second its architecture.

    Raises:
        ManifestError: A class of `rows` has only one group, or no cut puts every class in both.
    """
    second = _cut(videos, rows, 0.5, 1, seed, "the two halves of the search")
    return rows[~second], rows[second]


def _cut(
    videos: Manifest, rows: Rows, fraction: float, keep: int, seed: int, purpose: str
) -> NDArray[np.bool_]:
    """Which of `rows` fall on the far side of a cut between groups."""
    num_classes = len(videos.class_names)
    names, group_of = np.unique(videos.groups[rows], return_inverse=True)
    if not videos.grouped:
        # Groups of named ones are in order already; files lie as they are listed, and the cut of
        # a list must not depend on the order of its rows.
        by_name = np.argsort(videos.group_names[names], stable=True)
        group_of = np.argsort(by_name)[group_of]
    codes, numbers = np.unique(
        group_of.astype(np.int64) * num_classes + videos.labels[rows], return_counts=True
    )
    pairs = codes // num_classes, codes % num_classes, numbers
    groups_per_class = np.bincount(pairs[1], minlength=num_classes)
    kind = "group" if videos.grouped else "video file"
    if single := [videos.class_names[c] for c in np.flatnonzero(groups_per_class == 1)]:
        raise ManifestError(
            f"{counted(single, 'class has', 'classes have')} only one {kind}, which cannot be in "
            f"both of {purpose}. Add another {kind}, or leave the class out."
        )
    rng = np.random.default_rng([seed, len(rows)])
    chosen = cut(pairs, len(names), fraction, keep, rng)
    if chosen is not None:
        return chosen[group_of]
    raise ManifestError(
        f"No cut between groups puts every class in both of {purpose}. Give the split yourself, "
        "or name smaller groups."
    )


def cut(
    pairs: Pairs, num_groups: int, fraction: float, keep: int, rng: np.random.Generator
) -> NDArray[np.bool_] | None:
    """Which groups go to the far side, so that it gets about `fraction` of every class.

    Args:
        pairs: How many videos of which class each group has.
        num_groups: All groups, numbered from 0.
        fraction: Of the videos of each class.
        keep: Groups of a class that should stay on the near side, where it has more than that.
        rng: Breaks ties.

    Returns:
        One value per group, or None where no cut was found that leaves every class on both sides.
    """
    groups, classes, numbers = pairs
    shared = np.bincount(groups, minlength=num_groups) > 1
    chosen = np.zeros(num_groups, np.bool_)
    if not shared.any():
        return _each_class(pairs, chosen, fraction, keep, rng)
    used, columns = np.unique(classes, return_inverse=True)
    if num_groups * len(used) > MOST_CELLS:
        chosen = _one_pass(pairs, shared, fraction, rng)
        chosen = _each_class(pairs, chosen, fraction, keep, rng, fixed=shared)
        sides = [np.bincount(columns[chosen[groups] == far], minlength=len(used)) for far in (0, 1)]
        return chosen if all(side.all() for side in sides) else None
    counts = np.zeros((num_groups, len(used)), np.int64)
    counts[groups, columns] = numbers
    for _ in range(TRIES):
        chosen = _across_classes(counts, fraction, keep, rng)
        if (counts[chosen] > 0).any(0).all() and (counts[~chosen] > 0).any(0).all():
            return chosen
    return None


def _each_class(
    pairs: Pairs,
    chosen: NDArray[np.bool_],
    fraction: float,
    keep: int,
    rng: np.random.Generator,
    *,
    fixed: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Groups of one class each: every class is cut by itself, as close as its groups allow.

    Args:
        pairs: See `cut`.
        chosen: Groups that are on the far side already.
        fraction: See `cut`.
        keep: See `cut`.
        rng: Orders the groups.
        fixed: Groups that several classes share, and that stay where `chosen` has them.
    """
    by_class = np.argsort(pairs[1], kind="stable")
    groups, classes, numbers = (column[by_class] for column in pairs)
    starts = np.flatnonzero(np.r_[True, classes[1:] != classes[:-1]])
    result = chosen.copy()
    for group, number in zip(
        np.split(groups, starts[1:]), np.split(numbers, starts[1:]), strict=True
    ):
        free = np.ones(len(group), np.bool_) if fixed is None else ~fixed[group]
        order = rng.permutation(np.flatnonzero(free))
        far = int(number[chosen[group]].sum())
        near = int((~free & ~chosen[group]).sum())
        least = 0 if far or not len(order) else 1
        most = max(len(order) - max(keep - near, 0), least)
        reached = far + np.cumsum(np.r_[0, number[order]])[least : most + 1]
        count = least + int(np.abs(reached - fraction * number.sum()).argmin())
        result[group[order[:count]]] = True
    return result


def _one_pass(
    pairs: Pairs, shared: NDArray[np.bool_], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Groups that classes share, each put once to the side where its classes need it.

    Those of rare classes come first. Less even than `_across_classes`, and quick for any number.
    """
    groups, classes, numbers = pairs
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    ends = np.r_[starts[1:], len(groups)]
    left = np.bincount(classes)
    rarest = np.minimum.reduceat(left[classes], starts)
    order = np.lexsort((rng.random(len(starts)), rarest))
    weights = 1 / np.maximum(np.bincount(classes, weights=numbers), 1) ** 2
    seen, far = np.zeros(len(weights)), np.zeros(len(weights))
    chosen = np.zeros(len(shared), np.bool_)
    for group in order[shared[order]].tolist():
        mine = classes[starts[group] : ends[group]]
        videos = numbers[starts[group] : ends[group]]
        last = left[mine] == 1
        needed_far = (last & (far[mine] == 0)).any()
        needed_near = (last & (far[mine] == seen[mine])).any()
        left[mine] -= 1
        seen[mine] += videos
        # How much farther from the wanted share, squared, its classes would be on the far side.
        worse = videos * (2 * (far[mine] - fraction * seen[mine]) + videos) * weights[mine]
        if needed_far or (worse.sum() <= 0 and not needed_near):
            far[mine] += videos
            chosen[group] = True
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
