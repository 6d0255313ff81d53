"""Listings: whatever somebody has put together can be looked through."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from kinocell.data.listing import Listed, listing
from kinocell.errors import ManifestError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_label_and_split_of_a_folder_are_those_of_training(tmp_path: Path) -> None:
    touch(tmp_path, "train/wave/1.mp4", "val/wave/deep/2.avi", "test/clap/3.mkv", "test/clap/x.txt")
    root, found = listing(tmp_path)
    assert root == tmp_path
    assert found == [
        Listed(path="test/clap/3.mkv", label="clap", split="test"),
        Listed(path="train/wave/1.mp4", label="wave", split="train"),
        Listed(path="val/wave/deep/2.avi", label="wave", split="valid"),
    ]


def test_loose_videos_and_a_single_class_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "wave/b.mp4", ".hidden.mp4", ".git/c.mp4")
    assert [(v.path, v.label) for v in listing(tmp_path)[1]] == [
        ("a.mp4", ""),
        ("wave/b.mp4", "wave"),
    ]


def test_single_file_is_a_listing_of_one(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    assert listing(tmp_path / "a.mp4") == (tmp_path, [Listed(path="a.mp4")])


def test_csv_that_training_would_refuse_is_read(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        "path, split ,group,end_seconds\na.mp4,val,g,\na.mp4,test,g,2.5\nb.mp4,tset,,\n",
        encoding="utf-8",
    )
    _, found = listing(tmp_path)
    assert [v.split for v in found] == ["valid", "test", "tset"]
    assert [v.end_seconds for v in found] == [math.inf, 2.5, math.inf]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\na,b\n", "no column 'path'"),
        ("path,start_seconds\na,soon\n", "cannot be read as a list of videos"),
        ("path\n", "no video"),
        (None, "does not exist"),
    ],
)
def test_list_that_is_none_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "list.csv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ManifestError, match=message):
        listing(path)
