"""Public collections: their lists, splits, groups and class orders, whole and half downloaded.

Empty files under the official names are enough: nothing is decoded here.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kinocell.data import official
from kinocell.data.datasets import read_dataset
from kinocell.data.manifest import Manifest
from kinocell.data.official import shipped
from kinocell.errors import ConfigError, ManifestError
from tests.rar_files import rar4

UCF_CLASSES = ("HammerThrow", "Hammering", "HandstandPushups")


def touch(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def listed(name: str, classes: Sequence[str]) -> list[str]:
    """Official `class/file` names of some classes."""
    return [n for n in shipped(name).splits["1"] if n.partition("/")[0] in classes]


def split_of(videos: Manifest, part: str) -> set[str]:
    return set(videos.paths[videos.rows(part)].tolist())


def write_ucf_lists(folder: Path, *, end: str = "\n", numbers: str = "123") -> None:
    """The official files as they are distributed: testlist lines have no label."""
    lists = shipped("ucf101")
    folder.mkdir(parents=True, exist_ok=True)
    number_of = {name: i for i, name in enumerate(lists.class_names, 1)}
    files = {"classInd.txt": [f"{number} {name}" for name, number in number_of.items()]}
    for number in numbers:
        marks = lists.splits[number]
        files[f"trainlist0{number}.txt"] = [
            f"{name} {number_of[name.partition('/')[0]]}"
            for name, part in marks.items()
            if part == "train"
        ]
        files[f"testlist0{number}.txt"] = [n for n, part in marks.items() if part == "test"]
    for name, lines in files.items():
        (folder / name).write_bytes("".join(line + end for line in lines).encode())


def write_hmdb_lists(folder: Path, classes: Sequence[str]) -> None:
    """`NAME 1 ` per line, a file per class and split."""
    folder.mkdir(parents=True, exist_ok=True)
    marks = {"unused": 0, "train": 1, "test": 2}
    for number, split in shipped("hmdb51").splits.items():
        for label in classes:
            lines = [
                f"{name.partition('/')[2]} {marks[part]} \n"
                for name, part in split.items()
                if name.startswith(f"{label}/")
            ]
            (folder / f"{label}_test_split{number}.txt").write_text("".join(lines), "utf-8")


@pytest.fixture(scope="module")
def whole_ucf101(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 13,320 names; not to be changed."""
    root = tmp_path_factory.mktemp("ucf101")
    touch(root / "UCF-101", list(shipped("ucf101").splits["1"]))
    return root


@pytest.fixture(scope="module")
def whole_hmdb51(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 6,766 names; not to be changed."""
    return touch(tmp_path_factory.mktemp("hmdb51"), list(shipped("hmdb51").splits["1"]))


# --- the shipped lists -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "classes", "sizes"),
    [
        ("ucf101", 101, [(9537, 3783, 0), (9586, 3734, 0), (9624, 3696, 0)]),
        ("hmdb51", 51, [(3570, 1530, 1666)] * 3),
    ],
)
def test_shipped_lists_have_the_published_sizes(
    name: str, classes: int, sizes: list[tuple[int, int, int]]
) -> None:
    lists = shipped(name)
    assert len(lists.class_names) == classes
    found = [
        tuple(sum(p == part for p in split.values()) for part in ("train", "test", "unused"))
        for split in lists.splits.values()
    ]
    assert found == sizes
    assert {n.partition("/")[0] for n in lists.splits["1"]} == set(lists.class_names)


def test_each_class_of_hmdb51_has_70_training_and_30_test_videos_in_each_split() -> None:
    for split in shipped("hmdb51").splits.values():
        for part, wanted in (("train", 70), ("test", 30)):
            labels = [n.partition("/")[0] for n, p in split.items() if p == part]
            counts = np.unique(labels, return_counts=True)[1]
            assert (counts == wanted).all()


def test_shipped_lists_that_were_changed_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "official"
    folder.mkdir()
    monkeypatch.setattr(official, "__file__", str(tmp_path / "official.py"))
    for content, message in (
        (lzma.compress(b"A\nB\n\nA/1.avi 111\n"), "has been changed"),
        (b"no xz", "cannot be read"),
    ):
        (folder / "ucf101.txt.xz").write_bytes(content)
        with pytest.raises(ManifestError, match=message):
            shipped("ucf101")


# --- UCF101 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["1", "2", "3"])
def test_ucf101_has_its_official_split(whole_ucf101: Path, split: str) -> None:
    found = read_dataset(whole_ucf101, "ucf101", split)
    for part in ("train", "test"):
        names = {n for n, p in shipped("ucf101").splits[split].items() if p == part}
        assert split_of(found, part) == {f"UCF-101/{name}" for name in names}
    assert found.class_names == shipped("ucf101").class_names
    assert len(found.group_names) == 101 * 25
    assert not len(found.missing)


def test_ucf101_keeps_the_class_order_of_its_list(tmp_path: Path) -> None:
    touch(tmp_path, listed("ucf101", UCF_CLASSES))
    found = read_dataset(tmp_path, "ucf101")
    # classInd.txt does not sort as Python does: there HammerThrow comes first.
    assert found.class_names == ("Hammering", "HammerThrow", "HandstandPushups")
    assert len(found.missing) == 13320 - len(found)


def test_label_and_group_come_from_the_list_not_from_the_file_name(tmp_path: Path) -> None:
    touch(tmp_path, listed("ucf101", UCF_CLASSES))
    found = read_dataset(tmp_path, "ucf101")
    row = found.paths.tolist().index("HandstandPushups/v_HandStandPushups_g03_c02.avi")
    assert found.class_names[found.labels[row]] == "HandstandPushups"
    assert found.group_names[found.groups[row]] == "HandstandPushups/g03"


def test_ucf101_may_lie_flat_or_deep(tmp_path: Path) -> None:
    names = listed("ucf101", UCF_CLASSES)
    flat = touch(tmp_path / "flat", [name.partition("/")[2] for name in names])
    deep = touch(tmp_path / "deep", [f"a/b c/[d]/{name}" for name in names])
    one, other = (read_dataset(root, "ucf101") for root in (flat, deep))
    assert one.splits.tolist() == other.splits.tolist()
    assert one.labels.tolist() == other.labels.tolist()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_beside_the_videos_give_the_same_as_the_shipped_ones(
    tmp_path: Path, end: str
) -> None:
    root = touch(tmp_path / "root", listed("ucf101", UCF_CLASSES))
    by_shipped = read_dataset(root, "ucf101", "all")
    write_ucf_lists(root / "ucfTrainTestlist", end=end)
    by_own = read_dataset(root, "ucf101", "all")
    assert by_own.class_names == by_shipped.class_names
    assert sorted(by_own.missing.tolist()) == sorted(by_shipped.missing.tolist())
    for number in "123":
        for part in ("train", "test"):
            assert split_of(by_own.choose(number), part) == split_of(
                by_shipped.choose(number), part
            )


def test_lists_beside_the_videos_win(tmp_path: Path) -> None:
    touch(tmp_path, listed("ucf101", UCF_CLASSES))
    (tmp_path / "classInd.txt").write_text("1 Hammering\n2 Hammer Throw\n", encoding="utf-8")
    touch(tmp_path, ["Hammer Throw/my [own] clip (1)_g07_c01.avi", "Hammer Throw/x_g08_c01.avi"])
    (tmp_path / "trainlist01.txt").write_text(
        "Hammering/v_Hammering_g08_c01.avi 1\nHammer Throw/my [own] clip (1)_g07_c01.avi 2\n",
        encoding="utf-8",
    )
    (tmp_path / "testlist01.txt").write_text(
        "Hammering/v_Hammering_g01_c01.avi\r\nHammer Throw/x_g08_c01.avi\n", encoding="utf-8"
    )
    found = read_dataset(tmp_path, "ucf101")
    assert found.class_names == ("Hammering", "Hammer Throw")
    assert split_of(found, "train") == {
        "Hammering/v_Hammering_g08_c01.avi",
        "Hammer Throw/my [own] clip (1)_g07_c01.avi",
    }


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("trainlist01.txt", "Hammering/v_Hammering_g08_c01.avi 7\n", "of different versions"),
        ("trainlist01.txt", "Juggling/v_Juggling_g08_c01.avi 1\n", "none of the classes"),
        ("classInd.txt", "Hammering 36\n", "line 1: .* is not `1 Name`"),
        ("trainlist01.txt", None, "not trainlist01.txt"),
        ("classInd.txt", None, "not classInd.txt"),
        ("testlist01.txt", "Hammering/unknown.avi\n", "its group is unknown"),
        ("testlist01.txt", "\xff\xfe", "not a text in UTF-8"),
    ],
)
def test_bad_lists_of_ucf101_are_refused(
    tmp_path: Path, file: str, text: str | None, message: str
) -> None:
    touch(tmp_path, listed("ucf101", UCF_CLASSES))
    touch(tmp_path, ["Hammering/unknown.avi"])
    write_ucf_lists(tmp_path, numbers="1")
    if text is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(text, encoding="latin-1")
    with pytest.raises(ManifestError, match=message):
        read_dataset(tmp_path, "ucf101")


def test_missing_videos_are_listed_and_absent_classes_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = listed("ucf101", UCF_CLASSES)
    touch(tmp_path, [*names[3:], "Hammering/my own.avi"])
    found = read_dataset(tmp_path, "ucf101")
    assert set(names[:3]) <= set(found.missing.tolist())
    err = capfd.readouterr().err
    assert "98 classes ('ApplyEyeMakeup'" in err
    assert "1 video ('my own.avi')" in err


def test_a_folder_without_a_listed_video_says_what_is_expected(tmp_path: Path) -> None:
    touch(tmp_path, ["train/a/1.mp4"])
    with pytest.raises(ManifestError, match=r"None of the 13320 listed videos .* the archive"):
        read_dataset(tmp_path, "ucf101")
    with pytest.raises(ManifestError, match="does not exist"):
        read_dataset(tmp_path / "nowhere", "ucf101")


def test_one_class_of_ucf101_is_no_data_set(tmp_path: Path) -> None:
    touch(tmp_path, listed("ucf101", ["Hammering"]))
    with pytest.raises(ManifestError, match="have the class 'Hammering'"):
        read_dataset(tmp_path / "Hammering", "ucf101")


def test_a_split_that_there_is_not_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, listed("ucf101", UCF_CLASSES))
    with pytest.raises(ManifestError, match=r"no official split '4'\. Known: 1, 2, 3, all"):
        read_dataset(tmp_path, "ucf101", "4")


def test_ucf101_comes_out_of_its_archive_once(tmp_path: Path) -> None:
    names = listed("ucf101", UCF_CLASSES)
    (tmp_path / "UCF101.rar").write_bytes(rar4([(f"UCF-101/{n}", n.encode()) for n in names]))
    for root in (tmp_path, tmp_path / "UCF101.rar"):
        found = read_dataset(root, "ucf101")
        assert len(found) == len(names)
        assert found.path(0).read_text(encoding="utf-8") in names
    assert (tmp_path / "UCF101.rar.extracted" / "UCF-101").is_dir()


# --- HMDB51 ------------------------------------------------------------------------------------

HMDB_CLASSES = ("brush_hair", "kick", "kick_ball")


@pytest.mark.parametrize("split", ["1", "2", "3"])
def test_hmdb51_leaves_out_what_its_split_does_not_use(whole_hmdb51: Path, split: str) -> None:
    found = read_dataset(whole_hmdb51, "hmdb51", split)
    assert len(found.rows("train")) == 3570
    assert len(found.rows("test")) == 1530
    assert len(found) == 5100
    assert found.class_names == tuple(sorted(found.class_names))


def test_one_manifest_holds_all_three_splits_of_hmdb51(whole_hmdb51: Path) -> None:
    every = read_dataset(whole_hmdb51, "hmdb51", "all")
    assert len(every) == 6766 - 395  # so many are in no split at all
    for number in "123":
        one = read_dataset(whole_hmdb51, "hmdb51", number)
        for part in ("train", "test"):
            assert split_of(every.choose(number), part) == split_of(one, part)


def test_the_group_of_hmdb51_is_the_source_video_within_a_class(whole_hmdb51: Path) -> None:
    found = read_dataset(whole_hmdb51, "hmdb51")
    row = found.paths.tolist().index("brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi")
    assert found.group_names[found.groups[row]] == "brush_hair/April_09"
    assert 2000 < len(found.group_names) < 2300


def test_split_files_of_hmdb51_give_the_same_as_the_shipped_lists(tmp_path: Path) -> None:
    touch(tmp_path, listed("hmdb51", HMDB_CLASSES))
    by_shipped = read_dataset(tmp_path, "hmdb51", "all")
    write_hmdb_lists(tmp_path / "testTrainMulti_7030_splits", HMDB_CLASSES)
    by_own = read_dataset(tmp_path, "hmdb51", "all")
    assert by_own.class_names == by_shipped.class_names == HMDB_CLASSES
    assert not len(by_own.missing)
    for number in "123":
        for part in ("train", "test"):
            assert split_of(by_own.choose(number), part) == split_of(
                by_shipped.choose(number), part
            )


def test_hmdb51_comes_out_of_an_archive_of_archives(tmp_path: Path) -> None:
    names = listed("hmdb51", HMDB_CLASSES)
    inner = [
        (f"{c}.rar", rar4([(n, n.encode()) for n in names if n.startswith(f"{c}/")]))
        for c in HMDB_CLASSES
    ]
    (tmp_path / "hmdb51_org.rar").write_bytes(rar4(inner))
    found = read_dataset(tmp_path, "hmdb51", "all")
    assert found.class_names == HMDB_CLASSES
    assert found.paths[0].startswith("hmdb51_org.rar.extracted/brush_hair/brush_hair/")


def test_an_archive_beside_extracted_videos_is_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, listed("hmdb51", HMDB_CLASSES))
    write_hmdb_lists(tmp_path, HMDB_CLASSES)
    (tmp_path / "hmdb51_org.rar").write_bytes(b"not even a rar")
    assert len(read_dataset(tmp_path, "hmdb51")) == 300


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("kick_test_split2.txt", "some.avi 3\n", "does not end in 0"),
        ("kick_test_split2.txt", None, r"not kick_test_split2.txt \(1 such\)"),
    ],
)
def test_bad_split_files_of_hmdb51_are_refused(
    tmp_path: Path, file: str, text: str | None, message: str
) -> None:
    touch(tmp_path, listed("hmdb51", HMDB_CLASSES))
    write_hmdb_lists(tmp_path, HMDB_CLASSES)
    if text is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(text, encoding="utf-8")
    with pytest.raises(ManifestError, match=message):
        read_dataset(tmp_path, "hmdb51", "2")


# --- Kinetics ----------------------------------------------------------------------------------

KINETICS_HEADER = "label,youtube_id,time_start,time_end,split\n"
KINETICS = (
    "air drumming,aaaaaaaaaaa,1,11,train\n"
    "air drumming,-bbbbbbbbb_,20,30,val\n"
    '"""smoking, hookah""",ccccccccccc,5,15,train\n'
    '"""smoking, hookah""",ddddddddddd,0,10,val\n'
    "air drumming,eeeeeeeeeee,7,17,train\n"
)


def kinetics(root: Path, rows: str = KINETICS, name: str = "kinetics.csv") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(KINETICS_HEADER + rows, encoding="utf-8")
    return root


def test_kinetics_finds_clips_by_the_usual_names_and_lists_the_missing(tmp_path: Path) -> None:
    kinetics(tmp_path / "annotations")
    touch(
        tmp_path,
        [
            "train/air drumming/aaaaaaaaaaa_000001_000011.mp4",
            "val/air_drumming/-bbbbbbbbb__000020_000030.mkv",
            "ccccccccccc_000005_000015.mp4",
            "ddddddddddd.webm",
        ],
    )
    found = read_dataset(tmp_path, "kinetics")
    assert found.class_names == ('"smoking, hookah"', "air drumming")
    assert found.missing.tolist() == ["air drumming/eeeeeeeeeee_000007_000017.mp4"]
    assert len(found.rows("train")) == len(found.rows("test")) == 2  # val is what is tested
    spans = dict(zip(found.paths.tolist(), found.end_seconds.tolist(), strict=True))
    assert spans["ccccccccccc_000005_000015.mp4"] == np.inf  # cut already
    assert spans["ddddddddddd.webm"] == 10.0  # a whole video, of which the span is taken
    assert found.grouped


def test_kinetics_tests_on_its_test_list_where_clips_of_it_are_there(tmp_path: Path) -> None:
    kinetics(tmp_path, KINETICS + "air drumming,fffffffffff,1,11,test\n,ggggggggggg,1,11,test\n")
    ids = ["aaaaaaaaaaa_000001_000011", "-bbbbbbbbb__000020_000030", "ccccccccccc_000005_000015"]
    touch(tmp_path, [f"{name}.mp4" for name in [*ids, "fffffffffff_000001_000011"]])
    found = read_dataset(tmp_path, "kinetics")
    assert [len(found.rows(part)) for part in ("train", "valid", "test")] == [2, 1, 1]


def test_lists_of_kinetics_may_name_the_split_in_the_file_name(tmp_path: Path) -> None:
    header = "label,youtube_id,time_start,time_end\n"
    for name, rows in (
        ("kinetics-400_train.csv", "a,aaaaaaaaaaa,1,11\nb,bbbbbbbbbbb,1,11\n"),
        ("kinetics-400_val.csv", "a,ccccccccccc,1,11\n"),
    ):
        (tmp_path / name).write_text(header + rows, encoding="utf-8")
    touch(tmp_path, [f"{i * 11}_000001_000011.mp4" for i in "abc"])
    found = read_dataset(tmp_path, "kinetics")
    assert [len(found.rows(part)) for part in ("train", "test")] == [2, 1]


def test_a_youtube_video_in_two_official_splits_is_told_not_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kinetics(tmp_path, KINETICS + "air drumming,aaaaaaaaaaa,50,60,val\n")
    names = ["aaaaaaaaaaa_000001_000011", "aaaaaaaaaaa_000050_000060", "ccccccccccc_000005_000015"]
    touch(tmp_path, [f"{name}.mp4" for name in names])
    found = read_dataset(tmp_path, "kinetics")
    assert not found.grouped
    assert "1 YouTube videos have clips in two official splits" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,aaaaaaaaaaa,11,1,train\n", "line 2: the clip starts at 11 and ends at 1"),
        ("a,aaaaaaaaaaa,x,1,train\n", "line 2: time_start or time_end is no number"),
        ("a,aaaaaaaaaaa,1,11,tset\n", "line 2: the split is 'tset'"),
        ("a,,1,11,train\n", "line 2: the youtube_id is empty"),
        ("a,aaaaaaaaaaa,1,11,train\nb,aaaaaaaaaaa,1,11,val\n", "of different versions"),
        ("a,aaaaaaaaaaa,1,11,train\n", "None of the 1 listed clips"),
    ],
)
def test_bad_lists_of_kinetics_are_refused(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        read_dataset(kinetics(tmp_path, rows), "kinetics")


def test_kinetics_without_a_list_says_which_columns_it_has(tmp_path: Path) -> None:
    touch(tmp_path, ["aaaaaaaaaaa_000001_000011.mp4"])
    with pytest.raises(ManifestError, match="label,youtube_id,time_start,time_end"):
        read_dataset(tmp_path, "kinetics")


# --- Something-Something v2 --------------------------------------------------------------------


def ssv2(root: Path, prefix: str = "something-something-v2-") -> Path:
    templates = ("Putting [something] on [something]", "Approaching [something] with your camera")
    lists = {
        "train": [
            {"id": str(i), "label": "x", "template": templates[i % 2], "placeholders": ["a cup"]}
            for i in range(4)
        ],
        "validation": [{"id": str(i), "template": templates[i % 2]} for i in range(4, 7)],
        "test": [{"id": "99"}],
        "labels": {
            "Putting something on something": "0",
            "Approaching something with your camera": "1",
        },
    }
    root.mkdir(parents=True, exist_ok=True)
    for word, content in lists.items():
        (root / f"{prefix}{word}.json").write_text(json.dumps(content), encoding="utf-8")
    return touch(root, [f"20bn-something-something-v2/{i}.webm" for i in (0, 1, 2, 3, 4, 5, 99)])


@pytest.mark.parametrize("prefix", ["something-something-v2-", ""])
def test_ssv2_has_templates_as_classes_and_its_validation_list_as_test_split(
    tmp_path: Path, prefix: str
) -> None:
    found = read_dataset(ssv2(tmp_path, prefix), "ssv2")
    assert found.class_names == (
        "Putting something on something",
        "Approaching something with your camera",
    )
    assert len(found.rows("train")) == 4
    assert split_of(found, "test") == {f"20bn-something-something-v2/{i}.webm" for i in (4, 5)}
    assert found.missing.tolist() == ["6.webm"]
    assert not found.grouped


@pytest.mark.parametrize(
    ("word", "content", "message"),
    [
        ("train", "{}", "holds no list"),
        ("train", "[", "is not JSON"),
        ("train", '[{"id": 1}]', "entry 0: it needs an id and a template"),
        (
            "train",
            '[{"id": "4", "template": "Putting [something] on [something]"}]',
            "in two lists",
        ),
        ("labels", '{"Other": "0"}', "lacks the class"),
        ("labels", '{"Putting something on something": "x"}', "lacks the class|no number"),
        ("validation", None, "no something-something-v2-validation.json"),
    ],
)
def test_bad_lists_of_ssv2_are_refused(
    tmp_path: Path, word: str, content: str | None, message: str
) -> None:
    path = ssv2(tmp_path) / f"something-something-v2-{word}.json"
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    with pytest.raises(ManifestError, match=message):
        read_dataset(tmp_path, "ssv2")


# --- all of them -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kinetics", "ssv2", "folder"])
def test_one_split_cannot_be_chosen(tmp_path: Path, name: str) -> None:
    with pytest.raises(ManifestError, match=r"[Ll]eave (it|--split) out"):
        read_dataset(tmp_path, name, "2")


def test_an_unknown_data_set_is_refused_with_the_closest_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no data set 'ucf11'\. Did you mean 'ucf101'"):
        read_dataset(tmp_path, "ucf11")


def test_class_folders_may_come_in_an_archive(tmp_path: Path) -> None:
    files = [(f"my videos/{c}/{i}.mp4", b"x") for c in "ab" for i in range(2)]
    (tmp_path / "videos.rar").write_bytes(rar4(files))
    assert read_dataset(tmp_path / "videos.rar", "folder").class_names == ("a", "b")
    assert read_dataset(tmp_path / "videos.rar").class_names == ("a", "b")
