"""prepare and what follows on a collection: splits, class order, missing videos; real videos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell import cli
from kinocell.config import PrepareConfig, RunConfig
from kinocell.data.clips import open_prepared
from kinocell.data.official import shipped
from kinocell.errors import ConfigError, ManifestError, RunError
from kinocell.stages.check import check
from kinocell.stages.evaluate import evaluate
from kinocell.stages.model import split_fingerprint
from kinocell.stages.pipeline import run
from kinocell.stages.prepare import prepare

# In classInd.txt Hammering comes first; sorted, HammerThrow does.
CLASSES = ("Hammering", "HammerThrow")
Writer = Callable[..., Path]


@pytest.fixture(scope="module")
def ucf(
    tmp_path_factory: pytest.TempPathFactory,
    write_video: Writer,
    numbered_frames: Callable[..., NDArray[np.uint8]],
) -> Path:
    """The first clip of each group of two classes of UCF101, as tiny real videos."""
    root = tmp_path_factory.mktemp("ucf101")
    frames = numbered_frames(4, height=32, width=48)
    for name in shipped("ucf101").splits["1"]:
        if name.startswith(tuple(f"{c}/" for c in CLASSES)) and name.endswith("_c01.avi"):
            write_video(root / "UCF-101" / name, frames)
    return root


MISSING = 13320 - 50
JOB = RunConfig(
    dataset="ucf101",
    prepare=PrepareConfig(short_side_px=16, codec="raw", workers=1, max_missing=MISSING),
)


@pytest.fixture(scope="module")
def every_split(ucf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of all three splits; not to be changed."""
    folder = tmp_path_factory.mktemp("store") / "store"
    out = tmp_path_factory.mktemp("out")
    return prepare(replace(JOB, data=str(ucf), split="all", prepared=str(folder), out=str(out)))


def test_one_store_serves_every_official_split(every_split: Path) -> None:
    for number, wanted in shipped("ucf101").splits.items():
        found = open_prepared(every_split, number).manifest
        assert found.class_names == CLASSES
        assert len(found) == 50
        for part in ("train", "test"):
            names = found.paths[found.rows(part)].tolist()
            assert {wanted[name.removeprefix("UCF-101/")] for name in names} == {part}
        assert len(found.rows("train")) + len(found.rows("test")) == 50


@pytest.mark.parametrize("number", ["1", "2", "3"])
def test_check_knows_the_official_split_of_folder_and_store(
    ucf: Path, every_split: Path, number: str
) -> None:
    wanted = shipped("ucf101").splits[number]
    for found in (
        check(ucf, dataset="ucf101", split=number, clip_frames=4),
        check(every_split, split=number, clip_frames=4),
    ):
        assert len(found.rows) == 50
        for row in found.rows:
            assert wanted[row.listed.path.removeprefix("UCF-101/")] == row.listed.split
            assert row.listed.label in CLASSES
            assert row.listed.group
        assert not [leak for leak in found.leaks if "group" in str(leak)]


def test_a_store_of_several_splits_is_not_opened_without_a_choice(every_split: Path) -> None:
    for split in ("", "all"):
        with pytest.raises(RunError, match=r"several splits.* --split N"):
            open_prepared(every_split, split)
    with pytest.raises(ManifestError, match="no column split_4"):
        open_prepared(every_split, "4")


def test_a_split_has_the_same_fingerprint_alone_and_among_others(
    ucf: Path, every_split: Path, tmp_path: Path
) -> None:
    alone = prepare(replace(JOB, data=str(ucf), split="2", out=str(tmp_path)))
    fingerprints = {n: split_fingerprint(open_prepared(every_split, n).manifest) for n in "123"}
    assert split_fingerprint(open_prepared(alone).manifest) == fingerprints["2"]
    assert len(set(fingerprints.values())) == 3
    with pytest.raises(RunError, match="holds split 2, so it has no split 3"):
        open_prepared(alone, "3")


def test_a_store_of_every_split_is_taken_for_one_of_them(
    ucf: Path, every_split: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = replace(JOB, data=str(ucf), prepared=str(every_split), out=str(tmp_path))
    for split in ("", "2", "all"):
        assert prepare(replace(one, split=split)) == every_split
        assert "already prepared: 50 videos" in capfd.readouterr().err
    with pytest.raises(ManifestError, match="no split '4'"):
        prepare(replace(one, split="4"))


def test_another_split_is_another_setting(ucf: Path, tmp_path: Path) -> None:
    prepare(replace(JOB, data=str(ucf), out=str(tmp_path)))
    prepare(replace(JOB, data=str(ucf), out=str(tmp_path), split="1"))  # what was meant
    with pytest.raises(RunError, match=r"split: '1' there, '2' now"):
        prepare(replace(JOB, data=str(ucf), out=str(tmp_path), split="2"))


def test_missing_videos_stop_unless_they_are_allowed(ucf: Path, tmp_path: Path) -> None:
    config = replace(JOB, data=str(ucf), out=str(tmp_path))
    few = replace(config, prepare=replace(config.prepare, max_missing=MISSING - 1))
    with pytest.raises(ManifestError, match=f"{MISSING} of 13320 .* --max-missing {MISSING}"):
        prepare(few)
    listed = (tmp_path / "prepare" / "missing.csv").read_text(encoding="utf-8").splitlines()
    assert len(listed) == MISSING + 1
    assert "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi" in listed
    assert not (tmp_path / "prepare" / "done.json").exists()


def test_videos_that_a_split_does_not_use_are_neither_trained_nor_tested(
    tmp_path: Path, ucf: Path
) -> None:
    names = sorted(path.name for path in (ucf / "UCF-101" / "Hammering").iterdir())
    rows = ["path,label,split_1,split_2"]
    for i, name in enumerate(names[:4]):
        words = (("train", "test"), ("test", "train"), ("unused", "train"), ("train", "unused"))[i]
        for label in CLASSES:
            place = ucf / "UCF-101" / label / name.replace("Hammering", label)
            rows.append(f"{place},{label},{','.join(words)}")
    path = tmp_path / "list.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    folder = prepare(replace(JOB, data=str(path), dataset="csv", out=str(tmp_path / "out")))
    one, two = (open_prepared(folder, number).manifest for number in "12")
    assert (len(one), len(one.rows("train")), len(one.rows("test"))) == (8, 4, 2)
    assert (len(two), len(two.rows("train")), len(two.rows("test"))) == (8, 4, 2)


def test_a_run_takes_one_split(ucf: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run takes one split"):
        run(replace(JOB, data=str(ucf), split="all", out=str(tmp_path)))


def test_a_search_and_a_test_use_the_split_that_was_named(
    every_split: Path, tmp_path: Path
) -> None:
    common = ["--prepared", str(every_split), "--out", str(tmp_path / "run"), "--device", "cpu"]
    clips = ["--segments", "2", "--frames-per-segment", "1", "--clips.size-px", "12"]
    small = ["--epochs", "1", "--channels", "2", "--layers", "2", "--clips.workers", "0"]
    assert cli.main(["search", *common, *clips, *small, "--nodes", "2"]) == 1  # which split?
    search = ["search", *common, *clips, *small, "--nodes", "2", "--split", "2"]
    assert cli.main([*search, "--batch-size", "8"]) == 0
    # The folder remembers split 2: training and testing use it without being told.
    assert cli.main(["train", *common, *small, "--batch-size", "16"]) == 0
    assert cli.main(["evaluate", *common]) == 0
    assert cli.main(["report", "--out", str(tmp_path / "run")]) == 0
    run_folder = RunConfig(prepared=str(every_split), out=str(tmp_path / "run"), device="cpu")
    with pytest.raises(RunError, match="another split"):
        evaluate(replace(run_folder, split="3"))
