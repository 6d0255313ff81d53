from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinocell.data.manifest import Manifest, from_names
from kinocell.errors import ManifestError
from kinocell.stages.contest.folds import folds


def people(num: int, classes: int = 3, *, grouped: bool = True) -> Manifest:
    """Each person does every action twice."""
    names = [(f"p{p:02}", c, take) for p in range(num) for c in range(classes) for take in range(2)]
    return from_names(
        Path("videos"),
        [f"c{c}/{p}_{take}.mp4" for p, c, take in names],
        [f"c{c}" for _, c, _ in names],
        groups=[p for p, _, _ in names] if grouped else None,
        splits=["test" if p == "p00" else "train" for p, _, _ in names],
    )


@pytest.mark.parametrize("num", [2, 3, 5])
def test_no_group_is_in_two_folds_and_every_video_is_in_one(num: int) -> None:
    videos = people(11)
    found = folds(videos, num, seed=0)
    for group in range(11):
        assert len(set(found[videos.groups == group])) == 1
    assert set(found) == set(range(num))


def test_classes_and_sizes_are_spread_evenly() -> None:
    videos = people(10)
    found = folds(videos, 5, seed=3)
    for fold in range(5):
        assert np.bincount(videos.labels[found == fold]).tolist() == [4, 4, 4]


def test_groups_of_one_class_each_are_spread_over_the_folds() -> None:
    # 4 recordings of each class, as UCF101 has 25: two per class and fold.
    names = [(c, g) for c in "abc" for g in range(4)]
    videos = from_names(Path("v"), [f"{c}/{g}.mp4" for c, g in names], [c for c, _ in names],
                        groups=[f"{c}{g}" for c, g in names])  # fmt: skip
    found = folds(videos, 2, seed=0)
    for fold in range(2):
        assert np.bincount(videos.labels[found == fold]).tolist() == [2, 2, 2]


def test_folds_do_not_depend_on_the_order_of_the_list() -> None:
    videos = people(6, grouped=False)
    order = np.random.default_rng(0).permutation(len(videos))
    assert (
        folds(videos.select(order), 3, seed=1).tolist() == folds(videos, 3, seed=1)[order].tolist()
    )


def test_unused_videos_are_in_no_fold() -> None:
    videos = people(6)
    splits = videos.splits.copy()
    splits[:4] = -2
    found = folds(replace(videos, splits=splits), 2, seed=0)
    assert (found[:4] == -1).all()
    assert (found[4:] >= 0).all()


def test_more_folds_than_groups_are_refused() -> None:
    with pytest.raises(ManifestError, match="5 folds need 5 groups; there are 4"):
        folds(people(4), 5, seed=0)


def test_class_that_a_fold_would_leave_with_one_group_is_named() -> None:
    names = [("a", g) for g in range(6)] + [("rare", g) for g in range(2)]
    videos = from_names(Path("v"), [f"{c}/{g}.mp4" for c, g in names], [c for c, _ in names],
                        groups=[f"p{g}" for _, g in names])  # fmt: skip
    with pytest.raises(ManifestError, match=r"1 class has \('rare'\) too few groups for 2 folds"):
        folds(videos, 2, seed=0)
