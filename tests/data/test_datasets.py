"""Folders and csv files of labelled videos, good and bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinocell.data.datasets import DATASETS, read_dataset
from kinocell.errors import ManifestError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def listed(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


# --- folders -----------------------------------------------------------------------------------


def test_label_comes_from_the_folder_not_from_the_file(tmp_path: Path) -> None:
    touch(tmp_path, "HandstandPushups/v_HandStandPushups_g01.avi", "Run/v_Walk_g01.avi")
    found = read_dataset(tmp_path)
    assert found.class_names == ("HandstandPushups", "Run")
    assert found.paths.tolist() == [
        "HandstandPushups/v_HandStandPushups_g01.avi",
        "Run/v_Walk_g01.avi",
    ]
    assert not found.grouped


def test_hidden_files_and_other_endings_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "a/.2.mp4", "a/notes.txt", "a/Thumbs.db", "b/3.AVI", ".git/4.mp4")
    assert read_dataset(tmp_path).paths.tolist() == ["a/1.mp4", "b/3.AVI"]


def test_videos_deeper_in_a_class_folder_belong_to_it(tmp_path: Path) -> None:
    touch(tmp_path, "a/day 1/1.mp4", "b/2.mp4")
    found = read_dataset(tmp_path)
    assert found.paths.tolist() == ["a/day 1/1.mp4", "b/2.mp4"]
    assert found.class_names == ("a", "b")


def test_train_and_test_folders_are_the_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "test/a/3.mp4", "val/b/4.mp4")
    found = read_dataset(tmp_path)
    assert found.class_names == ("a", "b")
    assert [found.paths[row] for row in found.rows("train")] == ["train/a/1.mp4", "train/b/2.mp4"]
    assert [found.paths[row] for row in found.rows("valid")] == ["val/b/4.mp4"]
    assert [found.paths[row] for row in found.rows("test")] == ["test/a/3.mp4"]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.mp4", "plane/2.mp4")
    assert read_dataset(tmp_path).class_names == ("plane", "train")


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="nowhere does not exist"):
        read_dataset(tmp_path / "nowhere")


def test_empty_folder_has_no_video(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="There is no video"):
        read_dataset(tmp_path)


def test_folder_without_a_video_inside_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.txt", "b/2.jpg")
    with pytest.raises(ManifestError, match=r"expected .*CLASS/video\.mp4"):
        read_dataset(tmp_path)


def test_loose_videos_are_mentioned(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp4", "2.mp4")
    with pytest.raises(ManifestError, match="2 videos lie loose"):
        read_dataset(tmp_path)


def test_a_list_beside_an_empty_folder_is_mentioned(tmp_path: Path) -> None:
    touch(tmp_path, "videos.csv")
    with pytest.raises(ManifestError, match=r"--data .*videos\.csv"):
        read_dataset(tmp_path)


def test_one_class_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "a/2.mp4")
    with pytest.raises(ManifestError, match="All 2 videos have the class 'a'"):
        read_dataset(tmp_path)


# --- csv ---------------------------------------------------------------------------------------


def test_paths_are_relative_to_the_csv(tmp_path: Path) -> None:
    found = read_dataset(listed(tmp_path, "path,label\na/1.mp4,walk\nb/2.mp4,run\n"))
    assert found.path(0) == tmp_path / "a/1.mp4"
    assert (found.splits == -1).all()


def test_spaces_commas_and_quotes_in_names_are_kept(tmp_path: Path) -> None:
    text = 'path,label\n"my clip, 1.mp4","jump, high"\n"say ""hi"".mp4",(run) [fast]\n'
    found = read_dataset(listed(tmp_path, text))
    assert found.paths.tolist() == ["my clip, 1.mp4", 'say "hi".mp4']
    assert found.class_names == ("(run) [fast]", "jump, high")


def test_byte_order_mark_blank_lines_and_other_columns_do_no_harm(tmp_path: Path) -> None:
    text = "\ufefflabel, path ,note\nwalk,1.mp4,x\n\nrun,2.mp4,\n"
    assert read_dataset(listed(tmp_path, text)).paths.tolist() == ["1.mp4", "2.mp4"]


def test_names_of_splits_have_other_spellings(tmp_path: Path) -> None:
    text = "path,label,split\n1.mp4,a,train\n2.mp4,b,Train\n3.mp4,a,validation\n4.mp4,b,TEST\n"
    found = read_dataset(listed(tmp_path, text))
    assert [len(found.rows(split)) for split in ("train", "valid", "test")] == [2, 1, 1]


def test_folder_with_a_manifest_is_read_by_it(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "b/2.mp4")
    text = "path,label,group\na/1.mp4,x,g1\nb/2.mp4,y,g2\n"
    (tmp_path / "manifest.csv").write_text(text, encoding="utf-8")
    found = read_dataset(tmp_path)
    assert found.class_names == ("x", "y")
    assert found.grouped


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path'; its first line names nothing"),
        ("path,label\n", "lists no video"),
        ("path,lable\n1.mp4,a\n", "no column 'label'.* Did you mean 'lable'"),
        ("file,label\n1.mp4,a\n", "no column 'path'"),
        ("path,label\n1.mp4,a\n,b\n", "line 3: the path is empty"),
        ("path,label\n1.mp4,a\n2.mp4, \n", "line 3: the label is empty"),
        ("path,label\n1.mp4,a\n2.mp4\n", "line 3: the label is empty"),
        ("path,label\n1.mp4,a\n2.mp4,b,c\n", "line 3: more cells than the header"),
        ("path,label\n1.mp4,a\n1.mp4,b\n", "'1.mp4' is listed twice"),
        ("path,label,split\n1.mp4,a,train\n2.mp4,b,tset\n", "split is 'tset'. Did you mean 'test'"),
        ("path,label,split\n1.mp4,a,train\n2.mp4,b,\n", "line 3: the split is empty.*in none"),
        ("path,label,group\n1.mp4,a,g\n2.mp4,b,\n", "line 3: the group is empty"),
        ("path,label,start_seconds\n1.mp4,a,x\n", "start_seconds is 'x', which is no number"),
        ("path,label,start_seconds,end_seconds\n1.mp4,a,5,4\n", "starts at 5 and ends at 4"),
        ("path,label,start_seconds\n1.mp4,a,-1\n", "starts at -1"),
        ("path,label,label\n1.mp4,a,b\n", "the column 'label' twice"),
        ("path,label\n1.mp4,a\n2.mp4,a\n", "All 2 videos have the class 'a'"),
    ],
)
def test_bad_csv_is_refused_with_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        read_dataset(listed(tmp_path, text))


def test_csv_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"path,label\n\xff\xfe\x00.mp4,a\n")
    with pytest.raises(ManifestError, match="cannot be read as csv"):
        read_dataset(path)


def test_every_layout_says_what_it_expects() -> None:
    assert set(DATASETS) == {"ucf101", "hmdb51", "kinetics", "ssv2", "folder", "csv"}
    assert all(layout.__doc__ for layout in DATASETS.values())
