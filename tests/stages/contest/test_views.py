from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kinocell import runs
from kinocell.config import RunConfig
from kinocell.data.clips import open_prepared
from kinocell.data.manifest import UNUSED, from_names
from kinocell.errors import ManifestError, RunError
from kinocell.stages.contest import views
from kinocell.stages.evaluate import evaluate
from kinocell.stages.folders import prepared_contents

Tiny = Callable[..., RunConfig]


def test_view_has_the_same_pixels_and_other_splits(tiny_prepared: Path, tmp_path: Path) -> None:
    whole = open_prepared(tiny_prepared)
    videos = whole.manifest
    folder = views.write(tmp_path / "v", whole, views.for_search(videos), number="")
    seen = open_prepared(folder)
    assert seen.manifest.paths.tolist() == videos.paths.tolist()
    assert seen.manifest.rows("train").tolist() == videos.rows("train").tolist()
    assert len(seen.manifest.rows("test")) == 0
    for row in (0, len(videos) - 1):
        assert np.array_equal(seen.store.read(row, [0, 3]), whole.store.read(row, [0, 3]))


def test_no_test_video_is_in_a_view_for_choosing(tiny_prepared: Path) -> None:
    videos = open_prepared(tiny_prepared).manifest
    tested = videos.rows("test")
    assert len(tested)
    for splits in (
        views.for_search(videos),
        views.for_rates(videos, seed=0),
        views.for_pace(videos, batch_size=2),
    ):
        assert (splits[tested] == UNUSED).all()


def test_held_out_videos_share_no_group_with_the_rest(tiny_prepared: Path) -> None:
    videos = open_prepared(tiny_prepared).manifest
    splits = views.for_rates(videos, seed=0)
    trained, held_out = (set(videos.groups[splits == s]) for s in (views.TRAIN, views.TEST))
    assert trained
    assert held_out
    assert not trained & held_out
    assert trained | held_out == set(videos.groups[videos.rows("train")])


def test_classes_with_one_group_cannot_hold_videos_out_and_the_way_out_is_named() -> None:
    videos = from_names(
        Path("v"), ["a/0.mp4", "a/1.mp4", "b/0.mp4", "b/1.mp4"], ["a", "a", "b", "b"],
        groups=["g0", "g1", "g2", "g3"], splits=["train", "test", "train", "test"],
    )  # fmt: skip
    with pytest.raises(ManifestError, match="--lr-tries 1"):
        views.for_rates(videos, seed=0)


def test_timed_videos_are_enough_and_have_two_groups_of_each_class(tiny_prepared: Path) -> None:
    videos = open_prepared(tiny_prepared).manifest
    rows = views.few(videos, videos.rows("train"), 18)
    assert 18 <= len(rows) < len(videos.rows("train"))
    for label in range(len(videos.class_names)):
        assert len(set(videos.groups[rows][videos.labels[rows] == label])) >= 2
    everything = views.few(videos, videos.rows("train"), 10_000)
    assert everything.tolist() == videos.rows("train").tolist()


def test_other_splits_are_other_contents(tiny_prepared: Path, tmp_path: Path) -> None:
    whole = open_prepared(tiny_prepared)
    one = views.write(tmp_path / "a", whole, views.for_search(whole.manifest), number="")
    other = views.write(tmp_path / "b", whole, views.for_rates(whole.manifest, 0), number="")
    found = {prepared_contents(folder) for folder in (one, other, tiny_prepared)}
    assert len(found) == 3


def test_view_is_written_once(tiny_prepared: Path, tmp_path: Path) -> None:
    whole = open_prepared(tiny_prepared)
    splits = views.for_search(whole.manifest)
    folder = views.write(tmp_path / "v", whole, splits, number="")
    before = (folder / "done.json").stat().st_mtime_ns
    views.write(folder, whole, splits, number="")
    assert (folder / "done.json").stat().st_mtime_ns == before
    views.write(folder, whole, views.for_rates(whole.manifest, 0), number="")
    assert len(open_prepared(folder).manifest.rows("test"))


def test_view_answers_to_the_number_of_its_split(tiny_prepared: Path, tmp_path: Path) -> None:
    whole = open_prepared(tiny_prepared)
    folder = views.write(tmp_path / "v", whole, views.for_search(whole.manifest), number="2")
    assert len(open_prepared(folder, "2").manifest) == len(whole.manifest)
    with pytest.raises(RunError, match="holds split 2, so it has no split 1"):
        open_prepared(folder, "1")


def test_moved_with_its_frames_a_view_still_opens(tiny_prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_prepared, tmp_path / "one" / "prepared")
    whole = open_prepared(tmp_path / "one" / "prepared")
    views.write(tmp_path / "one" / "v", whole, views.for_search(whole.manifest), number="")
    (tmp_path / "one").rename(tmp_path / "other")
    seen = open_prepared(tmp_path / "other" / "v")
    assert seen.store.read(0, [0]).shape[0] == 1


def test_network_cannot_be_scored_on_a_view_without_test_videos(
    tiny_run: RunConfig, tiny: Tiny, tmp_path: Path
) -> None:
    whole = open_prepared(tiny_run.prepared)
    view = views.write(tmp_path / "v", whole, views.for_search(whole.manifest), number="")
    out = tmp_path / "run"
    shutil.copytree(Path(tiny_run.out) / "train", out / "train")
    with pytest.raises(RunError, match="another split"):
        evaluate(tiny(out, prepared=str(view)))
    assert not (out / "evaluate" / "scores.json").exists()
    assert runs.stage_summary(out / "train")
