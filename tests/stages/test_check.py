"""check: real files, good and bad, each under the right word; leaks named; the store looked at."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell import cli
from kinocell.config import PrepareConfig, RunConfig
from kinocell.data import examine
from kinocell.data.listing import listed_in
from kinocell.stages.check import check
from kinocell.stages.checked import COLUMNS, Check, table
from kinocell.stages.prepare import prepare

Numbered = Callable[..., NDArray[np.uint8]]
Writer = Callable[..., Path]


def kinds(found: Check) -> dict[str, str]:
    return {row.listed.path: row.kind for row in found.rows}


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def zoo(
    tmp_path_factory: pytest.TempPathFactory,
    numbered_frames: Numbered,
    write_video: Writer,
    turn_right: Callable[..., None],
) -> Path:
    """One file of every kind, loose in a folder."""
    root = tmp_path_factory.mktemp("zoo")
    write_video(root / "a_good.mp4", numbered_frames(20))
    shutil.copy(root / "a_good.mp4", root / "copy.mp4")
    with av.open(str(root / "a_good.mp4")) as old, av.open(str(root / "remuxed.mkv"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    write_video(root / "short.avi", numbered_frames(5))
    write_video(root / "uneven.mp4", numbered_frames(12), times=[n * n * 20 for n in range(12)])
    turn_right(write_video(root / "phone.mp4", numbered_frames(18)))
    turn_right(write_video(root / "short_phone.mp4", numbered_frames(3)))
    cut = write_video(root / "cut.avi", numbered_frames(40))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 7 // 10])
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("no video at all\n" * 50, encoding="utf-8")
    write_sound(root / "song.mp4")
    noise = np.random.default_rng(0).integers(0, 255, (30, 64, 96, 3), np.uint8)
    hole = write_video(root / "hole.mp4", noise)
    data = bytearray(hole.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    hole.write_bytes(data)
    return root


@pytest.fixture(scope="module")
def checked(zoo: Path) -> Check:
    return check(zoo, workers=1)


def test_every_file_gets_its_class(checked: Check) -> None:
    assert kinds(checked) == {
        "a_good.mp4": "good",
        "copy.mp4": "duplicate content",
        "remuxed.mkv": "duplicate content",
        "short.avi": "short",
        "short_phone.mp4": "short",
        "uneven.mp4": "variable rate",
        "phone.mp4": "rotated",
        "cut.avi": "truncated",
        "hole.mp4": "damaged",
        "empty.mp4": "empty",
        "text.mp4": "undecodable",
        "song.mp4": "no video stream",
    }


def test_copies_name_what_they_are_copies_of_and_in_which_way(checked: Check) -> None:
    notes = {row.listed.path: row.notes for row in checked.rows}
    assert notes["copy.mp4"] == ("the same file as a_good.mp4",)
    assert notes["remuxed.mkv"] == ("the same frames as a_good.mp4",)


def test_second_class_is_kept_as_a_note(checked: Check) -> None:
    notes = {row.listed.path: row.notes for row in checked.rows}
    assert notes["short_phone.mp4"] == ("fewer than 8 frames", "turned by 90 degrees")
    assert notes["a_good.mp4"] == ()


def test_table_counts_each_class_within_80_columns(checked: Check) -> None:
    lines = table(checked)
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["good", "1"]
    assert any(
        line.startswith("duplicate content       2  copy.mp4, remuxed.mkv") for line in lines
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_file_that_hangs_is_too_slow(tmp_path: Path) -> None:
    """A pipe that nobody fills: reading it waits forever, however fast the machine is."""
    os.mkfifo(tmp_path / "pipe.mp4")
    found = check(tmp_path / "pipe.mp4", workers=1, limit_seconds=0.2)
    (row,) = found.rows
    assert row.kind == "too slow"
    assert "took longer than 0.2 seconds" in row.notes[0]


def test_one_file_is_decoded_once_for_all_its_parts(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer
) -> None:
    write_video(tmp_path / "long.mp4", numbered_frames(50), fps=25)
    (tmp_path / "list.csv").write_text(
        "path,label,start_seconds,end_seconds\n"
        "long.mp4,a,0,0.4\nlong.mp4,b,0.4,2\nlong.mp4,c,7,8\n",
        encoding="utf-8",
    )
    found = check(tmp_path / "list.csv", workers=1)
    assert [row.kind for row in found.rows] == ["good", "good", "outside"]
    counts = [row.examined.num_frames for row in found.rows if row.examined]
    assert counts == [10, 40]


# --- the command -------------------------------------------------------------------------------


@pytest.fixture
def leaky(tmp_path: Path, video_csv: Path) -> Path:
    """A csv with a group and a re-named copy in both splits, which training refuses to read."""
    shutil.copytree(video_csv.parent, tmp_path / "videos")
    text = video_csv.read_text(encoding="utf-8").splitlines()
    header, rows = text[0], text[1:]
    marked = [f"{row},{'test' if i < 8 else 'train'}" for i, row in enumerate(rows)]
    first = rows[0].split(",")[0]
    shutil.copy(tmp_path / "videos" / first, tmp_path / "videos" / "again.mp4")
    marked.append("again.mp4,to_left,somebody_else,train")
    path = tmp_path / "videos" / "leaky.csv"
    path.write_text("\n".join([f"{header},split", *marked]) + "\n", encoding="utf-8")
    return path


def test_leaks_are_named_and_end_with_code_1(
    leaky: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(leaky.parent)
    assert cli.main(["check", str(leaky), "--csv", "found.csv"]) == cli.FAILED
    out, err = capsys.readouterr()
    assert "leak: the group 'person_" in out
    assert "leak: the same frames in both train and test: again.mp4, " in out
    assert "Scores would be too high" in err
    with Path("found.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == 25
    assert rows[-1]["class"] == "duplicate content"
    assert "leak: the same frames, in test too" in rows[-1]["notes"]


def test_good_videos_end_with_code_0(
    video_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", str(video_csv), "--csv", str(tmp_path / "a.csv"),
                     "--clip-frames", "6"]) == cli.DONE  # fmt: skip
    assert capsys.readouterr().out.split()[-2:] == ["good", "24"]


@pytest.mark.parametrize("number", ["0", "-1"])
def test_senseless_numbers_are_usage_errors(number: str) -> None:
    assert cli.main(["check", "x", "--clip-frames", number]) == cli.USAGE
    assert cli.main(["check", "x", "--limit-seconds", number]) == cli.USAGE


# --- prepared folders --------------------------------------------------------------------------


def test_prepared_folder_is_good_without_its_videos(
    tmp_path: Path, video_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = PrepareConfig(short_side_px=32, workers=1)
    prepare(RunConfig(data=str(video_csv), out=str(tmp_path / "run"), prepare=settings))
    monkeypatch.setattr(examine, "examine", None)  # no video is decoded
    found = check(tmp_path / "run", clip_frames=6)
    assert found == check(tmp_path / "run" / "prepare", clip_frames=6)
    assert {row.kind for row in found.rows} == {"good"}
    assert {row.listed.split for row in found.rows} == {"train", "test"}
    assert found.problems() == []


def test_damaged_frame_in_the_store_is_found(tmp_path: Path, video_csv: Path) -> None:
    settings = PrepareConfig(short_side_px=32, workers=1)
    folder = prepare(RunConfig(data=str(video_csv), out=str(tmp_path), prepare=settings))
    frames = folder / "frames" / "frames.bin"
    data = bytearray(frames.read_bytes())
    data[:2] = b"\0\0"  # the mark that every JPEG begins with
    frames.write_bytes(data)
    found = check(tmp_path)
    assert len(found.store_faults) == 1
    assert "are damaged" in found.store_faults[0]
    assert "1 videos are damaged in the frame store" in found.problems()[0]


def test_flipped_bit_in_a_raw_store_is_found(tmp_path: Path, video_csv: Path) -> None:
    settings = PrepareConfig(short_side_px=32, codec="raw", workers=1)
    folder = prepare(RunConfig(data=str(video_csv), out=str(tmp_path), prepare=settings))
    frames = folder / "frames" / "frames.bin"
    data = bytearray(frames.read_bytes())
    data[-1] ^= 1
    frames.write_bytes(data)
    (fault,) = check(tmp_path).store_faults
    last = listed_in(folder / "manifest.csv")[-1]
    assert fault.startswith(f"{last.path}: its frames")


def test_video_that_was_decoded_again_is_no_copy_of_itself(tmp_path: Path, video_csv: Path) -> None:
    own_videos = tmp_path / "videos"
    shutil.copytree(video_csv.parent, own_videos)
    (own_videos / video_csv.name).unlink()
    settings = PrepareConfig(short_side_px=32, workers=1)
    config = RunConfig(data=str(own_videos), out=str(tmp_path / "run"), prepare=settings)
    prepare(config)
    first, second, third = sorted(own_videos.rglob("*.avi"))[:3]
    first.write_bytes(first.read_bytes() + b"later")
    second.unlink()
    third.write_bytes(b"")
    prepare(replace(config, prepare=replace(settings, max_skipped=1)))
    found = check(tmp_path / "run", clip_frames=4)
    kinds = {row.listed.path: row.kind for row in found.rows}
    names = [path.relative_to(own_videos).as_posix() for path in (first, second, third)]
    assert kinds[names[0]] == "good"
    assert names[1] not in kinds
    assert kinds[names[2]] == "empty"
    assert len(kinds) == len(found.rows) == 23
    assert found.leaks == ()


def test_skipped_videos_and_leaks_of_a_prepared_folder_are_seen(
    tmp_path: Path, leaky: Path
) -> None:
    text = leaky.read_text(encoding="utf-8").replace("group", "was_group")
    leaky.write_text(text, encoding="utf-8")
    broken = leaky.parent / "to_left" / "video_06.avi"
    broken.write_bytes(b"")
    settings = PrepareConfig(short_side_px=32, workers=1, max_skipped=1)
    prepare(RunConfig(data=str(leaky), out=str(tmp_path / "run"), prepare=settings))
    found = check(tmp_path / "run")
    assert [row.kind for row in found.unreadable] == ["empty"]
    assert [leak.what for leak in found.leaks] == ["the same frames"]
    assert {found.leaks[0].one.path, found.leaks[0].other.path} == {
        "again.mp4",
        "to_left/video_00.mp4",
    }


def test_videos_prepared_without_a_store_are_decoded_again(tmp_path: Path, video_csv: Path) -> None:
    shutil.copytree(video_csv.parent, tmp_path / "videos")
    settings = PrepareConfig(short_side_px=32, workers=1, store=False)
    data = tmp_path / "videos" / video_csv.name
    prepare(RunConfig(data=str(data), out=str(tmp_path / "run"), prepare=settings))
    assert not check(tmp_path / "run", workers=1).problems()
    (data.parent / "to_left" / "video_06.avi").write_bytes(b"")
    assert [row.kind for row in check(tmp_path / "run", workers=1).unreadable] == ["empty"]
