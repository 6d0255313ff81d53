"""The list of videos: what is refused, and how it is cut by group."""

from __future__ import annotations

import gc
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.dtypes import StringDType

from kinocell.data.columns import first_repeat, strings
from kinocell.data.cuts import halves, split_by_group
from kinocell.data.manifest import Manifest, from_names
from kinocell.data.manifest_csv import csv_dataset
from kinocell.errors import ManifestError


def videos(
    groups: int, classes: int, each: int = 1, *, grouped: bool = True, shared: bool = True
) -> Manifest:
    """Every class in every group; with `shared=False` a group belongs to one class only."""
    rows = [(g, c, k) for g in range(groups) for c in range(classes) for k in range(each)]
    names = [f"g{g}" if shared else f"g{g}c{c}" for g, c, _ in rows]
    return from_names(
        Path("videos"),
        [f"g{g}/c{c}/{k}.mp4" for g, c, k in rows],
        [f"class_{c}" for _, c, _ in rows],
        groups=names if grouped else None,
    )


def test_classes_and_groups_are_sorted_by_name() -> None:
    made = from_names(Path(), ["1.mp4", "2.mp4"], ["walk", "run"], groups=["b", "a"])
    assert made.class_names == ("run", "walk")
    assert made.labels.tolist() == [1, 0]
    assert made.group_names.tolist() == ["a", "b"]
    assert made.groups.tolist() == [1, 0]


def test_without_groups_every_file_is_its_own() -> None:
    made = from_names(Path(), ["1.mp4", "2.mp4", "3.mp4"], ["a", "b", "a"])
    assert not made.grouped
    assert len(set(made.groups.tolist())) == 3


# --- refused -----------------------------------------------------------------------------------


def test_no_video_is_refused() -> None:
    with pytest.raises(ManifestError, match="no readable video in"):
        from_names(Path(), [], [])


def test_one_class_is_refused_by_name() -> None:
    with pytest.raises(ManifestError, match="All 2 videos have the class 'walk'"):
        from_names(Path(), ["1.mp4", "2.mp4"], ["walk", "walk"])


@pytest.mark.parametrize("label", [-1, 2])
def test_label_out_of_range_is_refused(label: int) -> None:
    good = videos(2, 2)
    labels = good.labels.copy()
    labels[1] = label
    with pytest.raises(ManifestError, match=f"has label {label}, but there are 2 classes"):
        replace(good, labels=labels).check()


def test_class_without_a_video_is_refused() -> None:
    good = videos(2, 2)
    with pytest.raises(ManifestError, match=r"1 class \('never'\) without a single video"):
        replace(good, class_names=(*good.class_names, "never")).check()


def test_video_listed_twice_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"'1.mp4' is listed twice"):
        from_names(Path(), ["1.mp4", "2.mp4", "1.mp4"], ["a", "b", "b"])


def test_two_parts_of_one_video_are_two_videos() -> None:
    made = from_names(
        Path(), ["1.mp4", "1.mp4"], ["a", "b"], start_seconds=[0, 5], end_seconds=[5, 9]
    )
    assert len(made) == 2


def test_group_in_train_and_test_is_refused_by_name() -> None:
    with pytest.raises(ManifestError, match=r"1 group is \('anna'\) in both train and test"):
        from_names(
            Path(),
            ["1.mp4", "2.mp4", "3.mp4"],
            ["a", "b", "a"],
            splits=["train", "train", "test"],
            groups=["anna", "ben", "anna"],
        )


def test_split_for_some_videos_only_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"1 of 3 videos have no split, first '2\.mp4'"):
        from_names(
            Path(), ["1.mp4", "2.mp4", "3.mp4"], ["a", "b", "a"], splits=["train", "", "test"]
        )


def test_split_without_test_videos_is_refused() -> None:
    with pytest.raises(ManifestError, match="No video has the split 'test'"):
        from_names(Path(), ["1.mp4", "2.mp4"], ["a", "b"], splits=["train", "train"])


def test_test_videos_may_be_set_aside_as_unused() -> None:
    names = ["1.mp4", "2.mp4", "3.mp4"]
    videos = from_names(Path(), names, ["a", "b", "a"], splits=["train", "train", "unused"])
    assert len(videos.rows("test")) == 0


def test_class_that_is_only_tested_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"1 class \('b'\) without training videos"):
        from_names(Path(), ["1.mp4", "2.mp4"], ["a", "b"], splits=["train", "test"])


def test_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(ManifestError, match="not UTF-8"):
        from_names(Path(), ["a\udcff.mp4", "2.mp4"], ["a", "b"])


# --- cut ---------------------------------------------------------------------------------------

many = st.tuples(
    st.integers(4, 9), st.integers(2, 5), st.integers(1, 3), st.booleans(), st.integers(0, 99)
)


@given(many)
@settings(max_examples=50)
def test_a_cut_shares_no_group_and_has_every_class_on_both_sides(
    case: tuple[int, int, int, bool, int],
) -> None:
    groups, classes, each, shared, seed = case
    made = split_by_group(videos(groups, classes, each, shared=shared), 0.25, seed)
    train, test = made.rows("train"), made.rows("test")
    assert sorted([*train, *test]) == list(range(len(made)))
    for one, other in ((train, test), halves(made, train, seed)):
        assert not set(made.groups[one]) & set(made.groups[other])
        assert set(made.labels[one]) == set(made.labels[other]) == set(range(classes))


@pytest.mark.parametrize("shared", [True, False])
def test_a_cut_is_as_large_as_asked(shared: bool) -> None:
    made = split_by_group(videos(12, 5, shared=shared), 0.25, seed=3)
    assert len(made.rows("test")) == 15
    first, second = halves(made, made.rows("train"), seed=3)
    assert abs(len(first) - len(second)) <= 5


def test_halves_are_balanced_when_groups_differ_in_size() -> None:
    rng = np.random.default_rng(0)
    rows = [(g, c) for g in range(10) for c in range(4) for _ in range(int(rng.integers(1, 6)))]
    made = from_names(
        Path(),
        [f"{i}.mp4" for i in range(len(rows))],
        [f"class_{c}" for _, c in rows],
        groups=[f"g{g}" for g, _ in rows],
    )
    first, second = halves(made, np.arange(len(made)), seed=0)
    counts = [np.bincount(made.labels[half], minlength=4) for half in (first, second)]
    assert abs(len(first) - len(second)) <= 0.1 * len(made)
    assert abs(counts[0] - counts[1]).max() <= 6


def test_the_same_seed_cuts_the_same_and_another_cuts_elsewhere() -> None:
    made = videos(9, 3)
    splits = [split_by_group(made, 0.25, seed).splits.tolist() for seed in (1, 1, 2, 3, 4)]
    assert splits[0] == splits[1]
    assert any(other != splits[0] for other in splits[2:])


def test_class_with_a_single_group_cannot_be_split() -> None:
    made = from_names(
        Path(),
        [f"{i}.mp4" for i in range(5)],
        ["a", "a", "a", "b", "b"],
        groups=["g0", "g1", "g2", "g0", "g0"],
    )
    with pytest.raises(ManifestError, match=r"1 class has \('b'\) only one group"):
        split_by_group(made, 0.25, 0)


def test_class_with_a_single_training_group_cannot_be_halved() -> None:
    made = videos(4, 2)
    rows = np.flatnonzero((made.labels == 0) | (made.groups == 0))
    with pytest.raises(ManifestError, match=r"'class_1'\) only one group.*halves of the search"):
        halves(made, rows, 0)


def test_groups_that_cannot_be_cut_are_refused() -> None:
    # Class a is in groups 0 and 1, b in 1 and 2, c in 2 and 0: one side always lacks a class.
    made = from_names(
        Path(),
        [f"{i}.mp4" for i in range(6)],
        ["a", "a", "b", "b", "c", "c"],
        groups=["g0", "g1", "g1", "g2", "g2", "g0"],
    )
    with pytest.raises(ManifestError, match="No cut between groups"):
        split_by_group(made, 0.5, 0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5])
def test_test_fraction_outside_zero_and_one_is_a_wrong_argument(fraction: float) -> None:
    with pytest.raises(ValueError, match="test_fraction"):
        split_by_group(videos(4, 2), fraction, 0)


# --- kept --------------------------------------------------------------------------------------


def test_saved_manifest_reads_back_the_same(tmp_path: Path) -> None:
    made = from_names(
        tmp_path,
        ["a b.mp4", 'x, "y".avi', "ü.mp4", " lead.mp4"],
        ["left, right", 'say "hi"', "left, right", 'say "hi"'],
        groups=["g 1", "g,2", "g 3", "g,4"],
        splits=["train", "train", "test", "test"],
        start_seconds=[0, 0.1, 0, 2],
        end_seconds=[np.inf, 0.7, np.inf, 3],
    )
    made.save(tmp_path / "saved.csv")
    again = csv_dataset(tmp_path / "saved.csv")
    assert again.paths.tolist() == made.paths.tolist()
    assert again.class_names == made.class_names
    assert again.group_names.tolist() == made.group_names.tolist()
    for column in ("labels", "groups", "splits", "start_seconds", "end_seconds"):
        assert getattr(again, column).tolist() == getattr(made, column).tolist()


def test_select_keeps_the_classes() -> None:
    few = videos(3, 2).select([4, 1])
    assert few.paths.tolist() == ["g2/c0/0.mp4", "g0/c1/0.mp4"]
    assert few.class_names == ("class_0", "class_1")
    assert few.labels.tolist() == [0, 1]


def test_parts_of_one_file_in_two_splits_are_refused() -> None:
    with pytest.raises(ManifestError, match=r"1 file is \('a.mp4'\) in both train and test.*parts"):
        from_names(
            Path(),
            ["a.mp4", "./a.mp4", "b.mp4"],
            ["x", "y", "x"],
            splits=["train", "test", "train"],
            start_seconds=[0.0, 5.0, 0.0],
            end_seconds=[5.0, 9.0, 5.0],
        )


@pytest.mark.parametrize("again", ["./a.mp4", "c/../a.mp4"])
def test_another_way_to_write_a_path_is_the_same_file(again: str) -> None:
    with pytest.raises(ManifestError, match="is listed twice"):
        from_names(Path(), ["a.mp4", "b.mp4", again], ["x", "y", "x"])


# --- numbered splits ---------------------------------------------------------------------------


def numbered(**changes: list[str]) -> Manifest:
    splits = {"1": ["train", "train", "test", "unused"], "2": ["test", "train", "train", "test"]}
    return from_names(
        Path("videos"),
        ["a.mp4", "b.mp4", "c.mp4", "d.mp4"],
        ["y", "x", "y", "x"],
        numbered=splits | changes,
        class_names=["y", "x"],
    )


def test_one_of_several_splits_is_chosen_by_number() -> None:
    made = numbered()
    assert made.rows("train").tolist() == []  # nothing counts before one is chosen
    assert made.choose("1").rows("train").tolist() == [0, 1]
    assert made.choose("1").rows("test").tolist() == [2]  # the unused one is in neither
    assert made.choose("2").rows("test").tolist() == [0, 3]
    with pytest.raises(ManifestError, match=r"no split '3'.*Known: 1, 2\."):
        made.choose("3")


def test_every_numbered_split_is_checked() -> None:
    with pytest.raises(ManifestError, match="without training videos"):
        numbered(**{"2": ["train", "test", "train", "test"]})


def test_numbered_splits_and_the_order_of_classes_are_saved(tmp_path: Path) -> None:
    made = numbered()
    made.save(tmp_path / "saved.csv")
    again = csv_dataset(tmp_path / "saved.csv", class_names=["y", "x"])
    assert again.class_names == ("y", "x")
    assert again.labels.tolist() == made.labels.tolist() == [0, 1, 0, 1]
    assert {n: s.tolist() for n, s in again.numbered.items()} == {
        n: s.tolist() for n, s in made.numbered.items()
    }
    chosen = csv_dataset(tmp_path / "saved.csv", "2")
    assert chosen.splits.tolist() == made.numbered["2"].tolist()
    assert not chosen.numbered
    with pytest.raises(ManifestError, match=r"no column split_7.* Known: split_1, split_2"):
        csv_dataset(tmp_path / "saved.csv", "7")
    with pytest.raises(ManifestError, match="has the class 'y', which is none of the 1"):
        csv_dataset(tmp_path / "saved.csv", class_names=["x"])


def test_selected_rows_keep_their_numbered_splits() -> None:
    few = numbered().select([3, 0])
    assert few.choose("2").rows("test").tolist() == [0, 1]


# --- at size -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["files", "groups"])
def test_a_long_list_keeps_no_python_object_per_video(tmp_path: Path, kind: str) -> None:
    count = 60_000
    lines = ["path,label,split" + (",group" if kind == "groups" else "")]
    for i in range(count):
        part = "test" if i % 7 == 0 else "train"
        group = f",person {i % 7} {i // 35:05d}" if kind == "groups" else ""
        name = f"a long class name {i % 5}/video number {i * 7919 % count:08d}.mp4"
        lines.append(f"{name},{i % 5},{part}{group}")
    path = tmp_path / "list.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    del lines
    before = sys.getallocatedblocks()
    made = csv_dataset(path)
    gc.collect()
    assert sys.getallocatedblocks() - before < count // 20
    assert len(made) == count
    assert made.paths.dtype == StringDType()
    assert made.path(count - 1).name == f"video number {(count - 1) * 7919 % count:08d}.mp4"
    first, second = halves(made, made.rows("train"), 0)
    assert not set(made.groups[first].tolist()) & set(made.groups[second].tolist())


def test_a_late_line_of_a_long_list_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    rows = [f'"{i}\n.mp4",{i % 2}' for i in range(5000)]  # a name over two lines
    for bad, message in (
        (",1", "line 10003: the path is empty"),
        ("a,b,c", "line 10003: more cells"),
    ):
        path.write_text("\n".join(["path,label", "", *rows, bad]) + "\n", encoding="utf-8")
        with pytest.raises(ManifestError, match=message):
            csv_dataset(path)


def test_repeats_are_found_among_equal_hashes_only_if_they_are_repeats() -> None:
    names = strings(["a", "b", "a", "c", "a"])
    assert first_repeat(names) == 2
    starts = np.array([0.0, 0.0, 1.0, 0.0, 2.0])
    assert first_repeat(names, starts) is None
    assert first_repeat(names, np.array([0.0, 0.0, 1.0, 0.0, 1.0])) == 4
