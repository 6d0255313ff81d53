"""prepare: every video once, nothing lost when it is interrupted, nothing swallowed."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell.config import PrepareConfig, RunConfig, SyntheticConfig
from kinocell.data.clips import open_prepared
from kinocell.data.datasets import read_dataset
from kinocell.errors import ConfigError, KinocellError, ManifestError, RunError, StoreError
from kinocell.stages.prepare import prepare

Frames = NDArray[np.uint8]
Numbered = Callable[..., Frames]
Writer = Callable[..., Path]
SMALL = PrepareConfig(short_side_px=32, workers=1)


def job(data: Path | str, out: Path, **changes: object) -> RunConfig:
    return RunConfig(data=str(data), out=str(out), prepare=replace(SMALL, **changes))  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    """All that a prepared folder holds, but its config with the time and the command."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "config.json"
    }


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def own_videos(tmp_path: Path, video_csv: Path) -> Path:
    """A copy of the videos of `video_csv` that a test may spoil; the csv is returned."""
    shutil.copytree(video_csv.parent, tmp_path / "videos")
    return tmp_path / "videos" / video_csv.name


# --- what it leaves ----------------------------------------------------------------------------


def test_every_frame_of_every_video_is_in_the_store(
    tmp_path: Path,
    numbered_frames: Numbered,
    read_number: Callable[[Frames], int],
    write_video: Writer,
) -> None:
    counts = {"a/1.mp4": 30, "a/2.avi": 41, "a/3.mp4": 1, "b/4.avi": 4, "b/5.mp4": 60, "b/6.avi": 9}
    for name, count in counts.items():
        write_video(tmp_path / "in" / name, numbered_frames(count))
    prepared = open_prepared(prepare(job(tmp_path / "in", tmp_path / "out", short_side_px=96)))
    assert dict(zip(prepared.manifest.paths, prepared.store.num_frames, strict=True)) == counts
    for video, count in enumerate(prepared.store.num_frames.tolist()):
        frames = prepared.store.read(video, range(count))
        assert [read_number(frame) for frame in frames] == list(range(count))


def test_manifest_lists_split_frames_rate_and_length(tmp_path: Path, video_csv: Path) -> None:
    folder = prepare(job(video_csv, tmp_path))
    listed = rows(folder / "manifest.csv")
    assert list(listed[0]) == ["path", "label", "split", "group", "num_frames", "fps", "seconds"]
    assert len(listed) == 24
    assert {row["split"] for row in listed} == {"train", "test"}
    groups = {s: {r["group"] for r in listed if r["split"] == s} for s in ("train", "test")}
    assert not groups["train"] & groups["test"]
    for row in listed:
        assert float(row["fps"]) == pytest.approx(25, rel=0.01)
        assert float(row["seconds"]) == pytest.approx(int(row["num_frames"]) / 25, rel=0.01)


def test_split_of_the_csv_is_taken(tmp_path: Path, own_videos: Path) -> None:
    lines = own_videos.read_text(encoding="utf-8").splitlines()
    marked = [f"{line},{'test' if 'person_2' in line else 'train'}" for line in lines[1:]]
    own_videos.write_text("\n".join([lines[0] + ",split", *marked]) + "\n", encoding="utf-8")
    manifest = open_prepared(prepare(job(own_videos, tmp_path / "out"))).manifest
    assert {manifest.group_names[g] for g in manifest.groups[manifest.rows("test")]} == {"person_2"}


def test_it_says_how_it_cut_the_split(
    tmp_path: Path, video_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(job(video_csv, tmp_path / "grouped"))
    assert "cut by group" in capsys.readouterr().err
    folders = tmp_path / "folders"
    for name in ("to_left", "to_right"):
        shutil.copytree(video_csv.parent / name, folders / name)
    prepare(job(folders, tmp_path / "files"))
    assert "cut by file, because no groups are named" in capsys.readouterr().err


def test_it_says_early_that_a_search_will_not_be_possible(
    tmp_path: Path,
    numbered_frames: Numbered,
    write_video: Writer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("a/1", "a/2", "b/3", "b/4"):
        write_video(tmp_path / "in" / f"{name}.mp4", numbered_frames(5))
    prepare(job(tmp_path / "in", tmp_path / "out"))
    assert "a search will not be possible" in capsys.readouterr().err


def test_parts_of_a_video_in_seconds_are_videos(
    tmp_path: Path,
    numbered_frames: Numbered,
    read_number: Callable[[Frames], int],
    write_video: Writer,
) -> None:
    write_video(tmp_path / "long.mp4", numbered_frames(100), fps=25)
    text = "path,label,split,group,start_seconds,end_seconds\n" + "".join(
        f"long.mp4,{'ab'[part % 2]},{('train', 'test')[part // 2]},{part},{start},{start + 0.4}\n"
        for part, start in enumerate((0.0, 0.8, 1.6, 2.4))
    )
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    folder = prepare(job(tmp_path / "list.csv", tmp_path / "out", short_side_px=96))
    prepared = open_prepared(folder)
    assert prepared.store.num_frames.tolist() == [10] * 4
    assert [read_number(prepared.store.read(part, [0])[0]) for part in range(4)] == [0, 20, 40, 60]
    assert prepared.manifest.start_seconds.tolist() == pytest.approx([0, 0.8, 1.6, 2.4])


def test_videos_can_be_listed_in_python(tmp_path: Path, video_csv: Path) -> None:
    manifest = read_dataset(video_csv).select(range(12))
    folder = prepare(job("", tmp_path), manifest=manifest)
    assert len(open_prepared(folder).manifest) == 12


def test_processes_give_the_same_bytes(tmp_path: Path, video_csv: Path) -> None:
    one = prepare(job(video_csv, tmp_path / "one"))
    two = prepare(job(video_csv, tmp_path / "two", workers=2))
    assert contents(one) == contents(two)


# --- again -------------------------------------------------------------------------------------


def test_second_run_does_nothing_and_says_so(
    tmp_path: Path, video_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepare(job(video_csv, tmp_path))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    capsys.readouterr()
    assert prepare(job(video_csv, tmp_path, workers=2, max_skipped=5)) == folder
    assert capsys.readouterr().err == f"prepare: already prepared: 24 videos in {folder}.\n"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_videos_that_are_gone_are_no_longer_needed(
    tmp_path: Path, own_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = job(own_videos, tmp_path / "out")
    folder = prepare(config)
    shutil.rmtree(own_videos.parent)
    assert prepare(config) == folder
    assert "is gone" in capsys.readouterr().err
    assert len(open_prepared(folder).store.read(0, [0])) == 1


def test_missing_folder_is_not_taken_for_the_prepared_one(tmp_path: Path, video_csv: Path) -> None:
    prepare(job(video_csv, tmp_path / "out"))
    with pytest.raises(RunError, match=r"data: .* there, .*mistyped' now"):
        prepare(job(tmp_path / "mistyped", tmp_path / "out"))


def test_other_settings_are_refused_and_named(tmp_path: Path, video_csv: Path) -> None:
    prepare(job(video_csv, tmp_path))
    with pytest.raises(RunError, match="short_side_px: 32 there, 48 now"):
        prepare(job(video_csv, tmp_path, short_side_px=48))


def test_runs_with_other_seeds_share_prepared_videos(tmp_path: Path, video_csv: Path) -> None:
    shared = str(tmp_path / "shared")
    folders = [
        prepare(replace(job(video_csv, tmp_path / f"run_{seed}"), prepared=shared, seed=seed))
        for seed in (0, 1)
    ]
    assert folders == [Path(shared)] * 2


def test_changed_file_is_noticed(tmp_path: Path, own_videos: Path) -> None:
    config = job(own_videos, tmp_path / "out")
    prepare(config)
    video = next(iter((own_videos.parent / "to_left").iterdir()))
    data = bytearray(video.read_bytes())
    data[-1] ^= 1  # the same size
    video.write_bytes(data)
    os.utime(video, ns=(1, 1))
    with pytest.raises(StoreError, match=f"{video.name} has changed since it was prepared"):
        prepare(config)


def test_copied_file_with_another_time_is_no_change(tmp_path: Path, own_videos: Path) -> None:
    config = job(own_videos, tmp_path / "out")
    prepare(config)
    for video in own_videos.parent.rglob("*.mp4"):
        os.utime(video, ns=(1, 1))
    prepare(config)


def test_added_and_removed_videos_are_noticed(tmp_path: Path, own_videos: Path) -> None:
    config = job(own_videos, tmp_path / "out")
    prepare(config)
    text = own_videos.read_text(encoding="utf-8")
    own_videos.write_text(text[: text.rindex("\n", 0, -1) + 1], encoding="utf-8")
    with pytest.raises(StoreError, match="0 new videos and lacks 1"):
        prepare(config)


def test_changed_label_is_noticed(tmp_path: Path, own_videos: Path) -> None:
    config = job(own_videos, tmp_path / "out")
    prepare(config)
    text = own_videos.read_text(encoding="utf-8")
    own_videos.write_text(text.replace(",to_left,", ",left,"), encoding="utf-8")
    with pytest.raises(StoreError, match="had the label 'to_left' when it was prepared"):
        prepare(config)


# --- interrupted -------------------------------------------------------------------------------

KILLED_AFTER_WRITES = """
    import os, signal, sys
    from kinocell.data.store_writer import StoreWriter
    from kinocell.config import PrepareConfig, RunConfig
    from kinocell.stages.prepare import prepare
    append, writes = StoreWriter._append, 0
    def counted(self, name, data):
        global writes
        append(self, name, data)
        writes += 1
        if writes == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
    StoreWriter._append = counted
    settings = PrepareConfig(short_side_px=32, workers=1)
    prepare(RunConfig(data=sys.argv[1], out=sys.argv[2], prepare=settings))
"""


def run_script(text: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("writes", [1, 14, 48])
def test_killed_prepare_goes_on_to_the_same_bytes(
    tmp_path: Path, video_csv: Path, capsys: pytest.CaptureFixture[str], writes: int
) -> None:
    """Two writes per video: the first is its frames, which an odd number leaves unrecorded."""
    whole = prepare(job(video_csv, tmp_path / "whole"))
    ended = run_script(KILLED_AFTER_WRITES, video_csv, tmp_path / "killed", writes)
    assert ended.returncode == -signal.SIGKILL
    capsys.readouterr()
    killed = prepare(job(video_csv, tmp_path / "killed"))
    done = (writes - 1) // 2
    assert (f"going on after {done} of 24 videos" in capsys.readouterr().err) == (done > 0)
    assert contents(killed) == contents(whole)


SMALL_DISK = """
    import resource, sys
    from kinocell.config import PrepareConfig, RunConfig
    from kinocell.errors import KinocellError
    from kinocell.stages.prepare import prepare
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
    settings = PrepareConfig(short_side_px=32, workers=1)
    try:
        prepare(RunConfig(data=sys.argv[1], out=sys.argv[2], prepare=settings))
    except KinocellError as error:
        print(error)
"""


def test_store_that_cannot_grow_ends_in_one_sentence_and_goes_on_later(
    tmp_path: Path, video_csv: Path
) -> None:
    whole = prepare(job(video_csv, tmp_path / "whole"))
    ended = run_script(SMALL_DISK, video_csv, tmp_path / "small")
    assert ended.stdout.startswith(f"Cannot write {tmp_path / 'small/prepare/frames/frames.bin'}")
    assert contents(prepare(job(video_csv, tmp_path / "small"))) == contents(whole)


# --- bad videos --------------------------------------------------------------------------------


def spoil(csv_path: Path) -> dict[str, str]:
    """Make four videos unreadable; returns what their reasons must say."""
    root = csv_path.parent
    (root / "to_left/video_00.mp4").write_bytes(b"")
    (root / "to_right/video_01.mp4").write_text("no video at all\n" * 50, encoding="utf-8")
    cut = root / "to_left/video_02.avi"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (root / "to_right/video_03.avi").unlink()
    return {
        "to_left/video_00.mp4": "is empty (0 bytes)",
        "to_right/video_01.mp4": "is no video that can be decoded",
        "to_left/video_02.avi": "cut off",
        "to_right/video_03.avi": "No such file",
    }


def test_unreadable_videos_stop_it_and_are_written_down(tmp_path: Path, own_videos: Path) -> None:
    reasons = spoil(own_videos)
    with pytest.raises(StoreError, match=r"4 of 24 videos cannot be read: .*--max-skipped 4"):
        prepare(job(own_videos, tmp_path / "out", max_skipped=3))
    listed = rows(tmp_path / "out/prepare/skipped.csv")
    assert [row["path"] for row in listed] == list(reasons)
    assert all(reasons[row["path"]] in row["reason"] for row in listed)
    with pytest.raises(RunError, match="no finished"):
        open_prepared(tmp_path / "out/prepare")


def test_allowed_unreadable_videos_are_left_out_and_counted(
    tmp_path: Path, own_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(own_videos)
    config = job(own_videos, tmp_path / "out")
    with pytest.raises(StoreError):
        prepare(config)
    capsys.readouterr()
    prepared = open_prepared(prepare(job(own_videos, tmp_path / "out", max_skipped=4)))
    said = capsys.readouterr().err
    assert "going on after 24 of 24 videos" in said  # nothing is decoded twice
    assert "4 skipped" in said
    assert len(prepared.manifest) == len(prepared.store) == 20
    assert not set(prepared.manifest.paths) & set(spoil_names())
    prepare(job(own_videos, tmp_path / "out", max_skipped=4))
    assert "already prepared: 20 videos, 4 skipped" in capsys.readouterr().err


def spoil_names() -> list[str]:
    return [f"to_left/video_0{n}.{e}" for n, e in ((0, "mp4"), (2, "avi"))]


def test_repaired_video_is_taken_when_it_goes_on(tmp_path: Path, own_videos: Path) -> None:
    broken = own_videos.parent / "to_left/video_06.avi"
    data = broken.read_bytes()
    broken.write_bytes(b"")
    config = job(own_videos, tmp_path / "out")
    with pytest.raises(StoreError, match="1 of 24 videos cannot be read"):
        prepare(config)
    broken.write_bytes(data)
    assert len(open_prepared(prepare(config)).manifest) == 24


def test_class_whose_videos_are_all_unreadable_is_refused(tmp_path: Path, own_videos: Path) -> None:
    for video in (own_videos.parent / "to_left").iterdir():
        video.write_bytes(b"")
    with pytest.raises(ManifestError, match="All 12 videos have the class 'to_right'"):
        prepare(job(own_videos, tmp_path / "out", max_skipped=99))


@pytest.mark.parametrize("name", ["missing", "empty", "nothing_inside", "one_class"])
def test_bad_folder_is_refused_before_anything_is_written(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer, name: str
) -> None:
    folder = tmp_path / name
    if name != "missing":
        folder.mkdir()
    if name == "nothing_inside":
        (folder / "a").mkdir()
        (folder / "a" / "notes.txt").touch()
    if name == "one_class":
        write_video(folder / "a" / "1.mp4", numbered_frames(3))
        write_video(folder / "a" / "2.mp4", numbered_frames(3))
    with pytest.raises(ManifestError):
        prepare(job(folder, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_class_with_a_single_video_is_refused_by_name(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer
) -> None:
    for name in ("a/1", "a/2", "b/3"):
        write_video(tmp_path / "in" / f"{name}.mp4", numbered_frames(3))
    with pytest.raises(ManifestError, match=r"1 class has \('b'\) only one video file"):
        prepare(job(tmp_path / "in", tmp_path / "out"))


def test_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, video_csv: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KinocellError, match="Cannot write"):
        prepare(job(video_csv, tmp_path / "file" / "out"))


# --- the embedded videos -----------------------------------------------------------------------


def test_without_data_the_embedded_videos_are_rendered_and_prepared(tmp_path: Path) -> None:
    config = RunConfig(
        out=str(tmp_path), prepare=SMALL, synthetic=SyntheticConfig(videos=40, groups=4)
    )
    prepared = open_prepared(prepare(config))
    assert len(prepared.manifest) == 40
    assert prepared.manifest.root == tmp_path / "videos"
    assert prepared.manifest.grouped
    assert prepare(config) == prepared.folder
    shutil.rmtree(tmp_path / "videos")
    assert prepare(config) == prepared.folder
    assert not (tmp_path / "videos").exists()  # nothing is rendered that is not needed
    with pytest.raises(ConfigError, match="too few"):
        prepare(
            replace(
                config, out=str(tmp_path / "few"), synthetic=SyntheticConfig(videos=5, groups=4)
            )
        )
