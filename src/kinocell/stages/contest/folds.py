"""All videos of a list in K folds that share no group, each class spread over them.

Pure; how a fold becomes a training and a test split is in `parts.py`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kinocell.data.manifest import UNUSED, Manifest, counted
from kinocell.errors import ManifestError

Folds = npt.NDArray[np.int64]
"""The fold of each video, from 0; -1 for those that the list leaves unused."""


def folds(videos: Manifest, num: int, seed: int) -> Folds:
    """The fold of each video, `[videos]`: the splits are pooled, groups stay whole.

    Large groups are placed first, each where its classes have the fewest videos so far. The result
    does not depend on the order of the list.

    Args:
        videos: Any manifest; of its splits only `unused` counts, also `valid` is pooled.
        num: How many folds, from 2.
        seed: Breaks ties between groups of one size.

    Raises:
        ManifestError: Fewer groups than folds, or a class that some fold would leave with fewer
            than two groups to train on (a search cuts the training videos once more).
    """
    used = np.flatnonzero(videos.splits != UNUSED)
    names, group_of = np.unique(videos.groups[used], return_inverse=True)
    by_name = np.argsort(videos.group_names[names], stable=True)
    group_of = np.argsort(by_name)[group_of]
    num_groups, num_classes = len(names), len(videos.class_names)
    kind = "groups" if videos.grouped else "video files"
    if num_groups < num:
        raise ManifestError(f"{num} folds need {num} {kind}; there are {num_groups}.")
    counts = np.zeros((num_groups, num_classes), np.int64)
    np.add.at(counts, (group_of, videos.labels[used]), 1)
    placed = _placed(counts, num, np.random.default_rng([seed, num]))
    _check_training(videos, counts, placed, num, kind)
    result = np.full(len(videos), -1, np.int64)
    result[used] = placed[group_of]
    return result


def _placed(
    counts: npt.NDArray[np.int64], num: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The fold of each group; `counts` are `[groups, classes]`."""
    totals = np.maximum(counts.sum(0), 1)
    load = np.zeros((num, counts.shape[1]))
    placed = np.zeros(len(counts), np.int64)
    for group in np.lexsort((rng.random(len(counts)), -counts.sum(1))).tolist():
        mine = np.flatnonzero(counts[group])
        shares = (load[:, mine] / totals[mine] * counts[group, mine]).sum(1)
        fold = int(np.lexsort((load.sum(1), shares))[0])
        load[fold] += counts[group]
        placed[group] = fold
    return placed


def _check_training(
    videos: Manifest,
    counts: npt.NDArray[np.int64],
    placed: npt.NDArray[np.int64],
    num: int,
    kind: str,
) -> None:
    has = counts > 0
    left = [has[placed != fold].sum(0) for fold in range(num)]
    fewest = np.min(left, axis=0)
    if thin := [videos.class_names[c] for c in np.flatnonzero(fewest < 2)]:
        raise ManifestError(
            f"{counted(thin, 'class has', 'classes have')} too few {kind} for {num} folds: a fold "
            "would leave fewer than two to train on, and a search needs one for each half. Take "
            "other folds, or leave the class out."
        )
