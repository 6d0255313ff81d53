"""Cuts between very many groups, which are made in one pass; small ones are in test_manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinocell.data import cuts
from kinocell.data.cuts import halves, split_by_group
from kinocell.data.manifest import Manifest, from_names

CLASSES = 60


def many_groups(shared: float) -> Manifest:
    """6,000 videos in groups of about two; a share of them in groups that classes share."""
    rng = np.random.default_rng(0)
    labels = [f"class_{i % CLASSES:02d}" for i in range(6000)]
    groups = [
        f"s{rng.integers(1500)}" if rng.random() < shared else f"own{i % CLASSES}_{i // 120}"
        for i in range(6000)
    ]
    # A class of two videos, in two groups that others share.
    labels, groups = [*labels, "rare", "rare"], [*groups, "s1", "s2"]
    paths = [f"{i}.mp4" for i in range(len(labels))]
    return from_names(Path(), paths, labels, groups=groups)


@pytest.mark.parametrize("shared", [0.1, 0.5, 1.0])
def test_many_groups_are_cut_evenly_and_none_is_on_both_sides(
    shared: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuts, "MOST_CELLS", 1000)
    made = split_by_group(many_groups(shared), 0.25, seed=0)
    train, test = made.rows("train"), made.rows("test")
    rare = made.class_names.index("rare")
    assert (made.labels[train] == rare).sum() == (made.labels[test] == rare).sum() == 1
    common = train[made.labels[train] != rare]  # one group is too few to be halved
    for fraction, (one, other) in ((0.25, (train, test)), (0.5, halves(made, common, seed=0))):
        assert not set(made.groups[one].tolist()) & set(made.groups[other].tolist())
        counts = [
            np.bincount(made.labels[rows], minlength=CLASSES)[:CLASSES] for rows in (one, other)
        ]
        assert abs(counts[1] / sum(counts) - fraction).max() < 0.1


def test_one_class_groups_of_any_number_are_cut_exactly() -> None:
    count = 120_000
    videos = from_names(
        Path(), [f"{i}.mp4" for i in range(count)], [f"c{i % 100:02d}" for i in range(count)]
    )
    first, second = halves(videos, np.arange(count), seed=1)
    counts = [np.bincount(videos.labels[rows], minlength=100) for rows in (first, second)]
    assert (counts[0] == 600).all()
    assert (counts[1] == 600).all()


@pytest.mark.parametrize("grouped", [True, False])
def test_a_cut_does_not_depend_on_the_order_of_the_rows(grouped: bool) -> None:
    rows = [(f"{i * 7 % 40:02d}.mp4", f"c{i % 4}", f"g{i // 4}") for i in range(40)]
    sets = []
    for order in (rows, rows[::-1], sorted(rows)):
        paths, labels, groups = (list(column) for column in zip(*order, strict=True))
        made = from_names(Path(), paths, labels, groups=groups if grouped else None)
        cut = split_by_group(made, 0.25, seed=3)
        first, _ = halves(made, np.arange(40), seed=3)
        sets.append((set(cut.paths[cut.rows("test")].tolist()), set(made.paths[first].tolist())))
    assert sets[0] == sets[1] == sets[2]
