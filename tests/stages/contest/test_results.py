"""Whether a finished run may stand beside others: the list that it was tested on, changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinocell.config import RunConfig
from kinocell.data.clips import open_prepared
from kinocell.data.manifest import UNUSED, Manifest
from kinocell.errors import RunError
from kinocell.stages.contest.results import check_comparable


@pytest.fixture
def videos(tiny_run: RunConfig) -> Manifest:
    """The list that the tiny run was trained and tested on."""
    return open_prepared(tiny_run.prepared).manifest


def test_run_compares_on_its_own_list(tiny_run: RunConfig, videos: Manifest) -> None:
    check_comparable(Path(tiny_run.out), videos)


def test_same_classes_in_another_order_are_refused(tiny_run: RunConfig, videos: Manifest) -> None:
    last = len(videos.class_names) - 1
    turned = replace(videos, class_names=videos.class_names[::-1], labels=last - videos.labels)
    with pytest.raises(RunError, match="the same classes in another order"):
        check_comparable(Path(tiny_run.out), turned)


def test_same_test_videos_in_another_order_are_refused(
    tiny_run: RunConfig, videos: Manifest
) -> None:
    turned = videos.select(range(len(videos))[::-1])
    with pytest.raises(RunError, match="the same test videos in another order"):
        check_comparable(Path(tiny_run.out), turned)


def test_training_videos_that_are_left_out_here_are_counted_and_the_first_is_named(
    tiny_run: RunConfig, videos: Manifest
) -> None:
    left_out = videos.rows("train")[:3]
    splits = videos.splits.copy()
    splits[left_out] = UNUSED
    first = min(videos.paths[left_out])
    with pytest.raises(RunError, match=rf"'{first}' is train and not unused \(3 such videos\)"):
        check_comparable(Path(tiny_run.out), replace(videos, splits=splits))


def test_other_parts_of_the_training_videos_are_another_split(
    tiny_run: RunConfig, videos: Manifest
) -> None:
    starts = videos.start_seconds.copy()
    starts[videos.rows("train")[0]] = 0.2
    with pytest.raises(RunError, match="trained on another split of these videos"):
        check_comparable(Path(tiny_run.out), replace(videos, start_seconds=starts))


def test_other_labels_of_the_test_videos_are_refused(tiny_run: RunConfig, videos: Manifest) -> None:
    labels = videos.labels.copy()
    tested = videos.rows("test")
    labels[tested] = np.roll(labels[tested], 1)
    with pytest.raises(RunError, match="its test videos have other labels"):
        check_comparable(Path(tiny_run.out), replace(videos, labels=labels))
