"""Leaks: every pair of splits that shares something is named, and nothing else is."""

from __future__ import annotations

from kinocell.data.listing import Listed
from kinocell.stages.leaks import content_leaks, group_leaks


def video(path: str, split: str, group: str = "") -> Listed:
    return Listed(path=path, split=split, group=group)


def test_group_in_three_splits_leaks_between_each_two() -> None:
    videos = [video("a", "test", "g"), video("b", "train", "g"), video("c", "valid", "g")]
    pairs = {(leak.one.split, leak.other.split) for leak in group_leaks(videos)}
    assert pairs == {("train", "valid"), ("train", "test"), ("valid", "test")}
    assert "the group 'g' in both train and test: b, a" in [
        str(leak) for leak in group_leaks(videos)
    ]


def test_one_split_none_or_an_unknown_one_leaks_nothing() -> None:
    videos = [video("a", "train", "g"), video("b", "train", "g"), video("c", "", "g")]
    assert group_leaks([*videos, video("d", "tset", "g")]) == []


def test_videos_without_a_group_share_none() -> None:
    assert group_leaks([video("a", "train"), video("b", "test")]) == []


def test_same_frames_in_two_splits_leak_whatever_their_groups_are() -> None:
    videos = [video("a", "train", "g"), video("b", "test", "h"), video("c", "test", "h")]
    (leak,) = content_leaks(videos, ["x", "x", "y"], ["1", "2", "3"])
    assert str(leak) == "the same frames in both train and test: a, b"


def test_parts_of_one_file_leak_unless_groups_tell_them_apart() -> None:
    grouped = [video("a", "train", "g"), video("a", "test", "h")]
    assert content_leaks(grouped, ["x", "y"], ["1", "1"]) == []
    (leak,) = content_leaks([video("a", "train"), video("a", "test")], ["x", "y"], ["1", "1"])
    assert leak.what == "parts of the same file"


def test_files_that_cannot_be_read_are_no_copies_of_each_other() -> None:
    videos = [video("a", "train", "g"), video("b", "test", "h")]
    assert content_leaks(videos, [None, None], [None, None]) == []
