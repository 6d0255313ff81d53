"""prepare: every video once, nothing lost when it is interrupted, nothing swallowed."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell import runs
from kinocell.config import PrepareConfig, RunConfig, SyntheticConfig
from kinocell.data.clips import Prepared, open_prepared
from kinocell.data.datasets import read_dataset
from kinocell.data.encoding import evenly_spaced
from kinocell.data.frames import FrameStore
from kinocell.data.store_writer import only_writer
from kinocell.errors import ConfigError, KinocellError, ManifestError, RunError, StoreError
from kinocell.stages.folders import prepared_contents
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


# --- other videos than before --------------------------------------------------------------------


def decoded(said: str) -> bool:
    """Whether a run decoded anything: before it does, it says how much it will write."""
    return "will be written" in said


def shorten(list_path: Path, lines: int) -> str:
    """Take the last lines off a csv; returns it as it was."""
    text = list_path.read_text(encoding="utf-8")
    list_path.write_text("".join(text.splitlines(True)[:-lines]), encoding="utf-8")
    return text


def test_new_videos_alone_are_decoded_wherever_they_stand_in_the_list(
    tmp_path: Path, own_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header, *lines = own_videos.read_text(encoding="utf-8").splitlines(True)
    own_videos.write_text(header + "".join(lines[3:]), encoding="utf-8")
    config = job(own_videos, tmp_path / "out")
    folder = prepare(config)
    bin_before = (folder / "frames/frames.bin").read_bytes()
    assert len(open_prepared(folder).manifest) == 21
    own_videos.write_text(header + "".join(reversed(lines)), encoding="utf-8")
    capsys.readouterr()
    prepare(config)
    said = capsys.readouterr().err
    assert "3 videos new, first 'to_left/video_02.avi'" in said
    assert (folder / "frames/frames.bin").read_bytes().startswith(bin_before)
    assert len(runs.read_jsonl(folder / "frames/videos.jsonl")) == 24
    assert_same_videos(open_prepared(folder), prepare(job(own_videos, tmp_path / "anew")))


def assert_same_videos(prepared: Prepared, other: Path) -> None:
    """The same list with the same frames, wherever they lie in the store."""
    anew = open_prepared(other)
    assert list(prepared.manifest.paths) == list(anew.manifest.paths)
    assert prepared.manifest.csv_text() == anew.manifest.csv_text()
    for video, count in enumerate(anew.store.num_frames.tolist()):
        frames = prepared.store.read(video, range(count))
        assert np.array_equal(frames, anew.store.read(video, range(count)))


def test_removed_videos_leave_the_list_and_not_the_store(
    tmp_path: Path, own_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = job(own_videos, tmp_path / "out")
    folder = prepare(config)
    text = shorten(own_videos, 2)
    capsys.readouterr()
    prepare(config)
    said = capsys.readouterr().err
    assert not decoded(said)
    assert "2 videos stored but no longer listed" in said
    assert_same_videos(open_prepared(folder), prepare(job(own_videos, tmp_path / "anew")))
    own_videos.write_text(text, encoding="utf-8")  # and they come back without being decoded
    capsys.readouterr()
    prepare(config)
    assert not decoded(capsys.readouterr().err)
    assert_same_videos(open_prepared(folder), prepare(job(own_videos, tmp_path / "all")))


def test_changed_label_needs_no_decoding(
    tmp_path: Path, own_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = job(own_videos, tmp_path / "out")
    prepare(config)
    text = own_videos.read_text(encoding="utf-8")
    own_videos.write_text(text.replace(",to_left,", ",left,"), encoding="utf-8")
    capsys.readouterr()
    manifest = open_prepared(prepare(config)).manifest
    assert manifest.class_names == ("left", "to_right")
    assert not decoded(capsys.readouterr().err)


def test_changed_file_is_decoded_again_and_said_so(
    tmp_path: Path, own_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = job(own_videos, tmp_path / "out")
    folder = prepare(config)
    video, other = (own_videos.parent / f"to_left/video_{n}.mp4" for n in ("00", "04"))
    shutil.copyfile(other, video)
    capsys.readouterr()
    prepare(config)
    said = capsys.readouterr().err
    assert "1 video changed since stored, decoded again, first 'to_left/video_00.mp4'" in said
    assert "1 video stored but no longer listed or replaced" in said
    prepared = open_prepared(folder)
    paths = list(prepared.manifest.paths)
    rows = [paths.index(f"to_left/{path.name}") for path in (video, other)]
    frames = [prepared.store.read(row, range(prepared.store.num_frames[row])) for row in rows]
    assert np.array_equal(frames[0], frames[1])


def test_changed_bytes_of_the_same_size_are_found_by_their_hash(
    tmp_path: Path, own_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = job(own_videos, tmp_path / "out")
    prepare(config)
    video = own_videos.parent / "to_left/video_00.mp4"
    data = bytearray(video.read_bytes())
    data[-1] ^= 1
    video.write_bytes(data)
    os.utime(video, ns=(1, 1))
    prepare(config)
    assert "1 video changed since stored" in capsys.readouterr().err


def test_copied_file_with_another_time_is_no_change(tmp_path: Path, own_videos: Path) -> None:
    config = job(own_videos, tmp_path / "out")
    prepare(config)
    for video in own_videos.parent.rglob("*.mp4"):
        os.utime(video, ns=(1, 1))
    prepare(config)


def test_stage_that_used_the_list_as_it_was_is_not_taken_for_the_new_one(
    tmp_path: Path, own_videos: Path
) -> None:
    """A label or a file that changes alters no path and no split, only the contents."""
    config = job(own_videos, tmp_path / "out")
    marks = [prepared_contents(prepare(config))]
    text = own_videos.read_text(encoding="utf-8")
    own_videos.write_text(text.replace(",to_left,", ",left,"), encoding="utf-8")
    marks.append(prepared_contents(prepare(config)))
    shutil.copyfile(*(own_videos.parent / f"to_left/video_{n}.mp4" for n in ("00", "04")))
    marks.append(prepared_contents(prepare(config)))
    assert len(set(marks)) == 3


def test_other_videos_altogether_are_refused(tmp_path: Path, video_csv: Path) -> None:
    prepare(job(video_csv, tmp_path / "out"))
    for name in ("a/1", "a/2", "b/1", "b/2"):
        (tmp_path / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(
            video_csv.parent / "to_left/video_00.mp4", tmp_path / "other" / f"{name}.mp4"
        )
    with pytest.raises(StoreError, match=r"holds other videos than .*other: none of them"):
        prepare(job(tmp_path / "other", tmp_path / "out"))


def test_update_that_fails_leaves_the_finished_folder_as_it_was(
    tmp_path: Path, own_videos: Path
) -> None:
    config = job(own_videos, tmp_path / "out")
    text = shorten(own_videos, 1)
    folder = prepare(config)
    own_videos.write_text(text, encoding="utf-8")
    (own_videos.parent / text.splitlines()[-1].split(",")[0]).write_bytes(b"")
    with pytest.raises(StoreError, match="1 of 24 videos cannot be read"):
        prepare(config)
    prepared = open_prepared(folder)
    assert len(prepared.manifest) == len(prepared.store) == 23
    assert isinstance(prepared.store, FrameStore)
    prepared.store.verify()


# --- another machine ---------------------------------------------------------------------------


def test_copied_folder_is_read_where_the_videos_are_not(tmp_path: Path, own_videos: Path) -> None:
    folder = prepare(job(own_videos, tmp_path / "out"))
    frames = open_prepared(folder).store.read(3, [2, 0])
    shutil.copytree(folder, tmp_path / "elsewhere")
    shutil.rmtree(folder)
    shutil.rmtree(own_videos.parent)
    assert np.array_equal(open_prepared(tmp_path / "elsewhere").store.read(3, [2, 0]), frames)


def test_copied_folder_knows_the_copied_videos(
    tmp_path: Path, own_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepare(job(own_videos, tmp_path / "out"))
    shutil.move(own_videos.parent, tmp_path / "moved")
    shutil.move(folder, tmp_path / "store")
    capsys.readouterr()
    config = replace(
        job(tmp_path / "moved" / own_videos.name, tmp_path / "new"),
        prepared=str(tmp_path / "store"),
    )
    prepare(config)
    assert "already prepared: 24 videos" in capsys.readouterr().err


WITHOUT_DECODER = """
    import sys
    sys.modules["av"] = None
    from kinocell.config import ClipsConfig
    from kinocell.data.clips import open_prepared, training_batches
    prepared = open_prepared(sys.argv[1])
    rows = prepared.manifest.rows("train")
    clips = ClipsConfig(size_px=16, workers=0)
    batch = next(training_batches(prepared, rows, clips, batch_size=4, seed=0))
    print(tuple(batch.clips.shape), int(batch.clips.sum()) > 0, "av" in sys.modules)
"""


def test_prepared_videos_are_read_without_a_decoder(tmp_path: Path, video_csv: Path) -> None:
    ended = run_script(WITHOUT_DECODER, prepare(job(video_csv, tmp_path)))
    assert ended.stdout == "(4, 3, 8, 16, 16) True True\n", ended.stderr


# --- some frames of each video -----------------------------------------------------------------


def test_kept_frames_are_evenly_spaced_and_the_source_is_counted(
    tmp_path: Path,
    numbered_frames: Numbered,
    read_number: Callable[[Frames], int],
    write_video: Writer,
) -> None:
    counts = {"a/1.mp4": 30, "a/2.avi": 41, "b/3.mp4": 3, "b/4.avi": 16}
    for name, count in counts.items():
        write_video(tmp_path / "in" / name, numbered_frames(count), b_frames=2)
    config = job(tmp_path / "in", tmp_path / "out", short_side_px=96, frames_per_video=4)
    store = open_prepared(prepare(config)).store
    assert isinstance(store, FrameStore)
    assert store.source_frames.tolist() == list(counts.values())
    for video, count in enumerate(counts.values()):
        frames = store.read(video, range(store.num_frames[video]))
        assert [read_number(frame) for frame in frames] == sorted(evenly_spaced(count, 4))


def test_frames_are_evenly_spaced_where_the_packets_tell_another_number(tmp_path: Path) -> None:
    """175 packets, 174 frames."""
    packed = Path(__file__).parents[1] / "data/files/xvid_packed_b_frames.avi"
    for name in ("a/1", "a/2", "b/1", "b/2"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(packed, tmp_path / "in" / f"{name}.avi")
    config = job(tmp_path / "in", tmp_path / "out", frames_per_video=16)
    some = open_prepared(prepare(config)).store
    every = open_prepared(prepare(job(tmp_path / "in", tmp_path / "all"))).store
    assert isinstance(some, FrameStore)
    assert some.source_frames.tolist() == every.num_frames.tolist() == [174] * 4
    wanted = sorted(evenly_spaced(174, 16))
    assert np.array_equal(some.read(0, range(16)), every.read(0, wanted))


def test_number_of_kept_frames_is_a_setting(tmp_path: Path, video_csv: Path) -> None:
    prepare(job(video_csv, tmp_path, frames_per_video=4))
    with pytest.raises(RunError, match="frames_per_video: 4 there, 0 now"):
        prepare(job(video_csv, tmp_path))


def test_store_of_the_first_format_says_what_to_do(tmp_path: Path, video_csv: Path) -> None:
    folder = prepare(job(video_csv, tmp_path))
    path = folder / "frames/settings.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1}), encoding="utf-8")
    for use in (lambda: prepare(job(video_csv, tmp_path)), lambda: open_prepared(folder)):
        with pytest.raises(StoreError, match=f"has format 1, .* Delete {folder} and prepare again"):
            use()


# --- interrupted -------------------------------------------------------------------------------

KILLED_BEFORE_RECORD = """
    import os, signal, sys
    from kinocell.data.store_writer import StoreWriter
    from kinocell.config import PrepareConfig, RunConfig
    from kinocell.stages.prepare import prepare
    if __name__ == "__main__":
        append, appended = StoreWriter._append_part, 0
        def counted(*arguments):
            global appended
            append(*arguments)
            appended += 1
            if appended == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)
        StoreWriter._append_part = counted
        settings = PrepareConfig(short_side_px=32, workers=1)
        prepare(RunConfig(data=sys.argv[1], out=sys.argv[2], prepare=settings))
"""


def run_script(text: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


@pytest.mark.parametrize("number", [1, 8, 24])
def test_killed_prepare_goes_on_to_the_same_bytes(
    tmp_path: Path, video_csv: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    """Killed when the frames of a video are appended and the video is not recorded yet."""
    whole = prepare(job(video_csv, tmp_path / "whole"))
    ended = run_script(KILLED_BEFORE_RECORD, video_csv, tmp_path / "killed", number)
    assert ended.returncode == -signal.SIGKILL
    capsys.readouterr()
    killed = prepare(job(video_csv, tmp_path / "killed"))
    said = capsys.readouterr().err
    assert (f"going on after {number - 1} of 24 videos" in said) == (number > 1)
    assert contents(killed) == contents(whole)


KILLED_AT_ANY_TIME = """
    import sys
    from kinocell.config import PrepareConfig, RunConfig
    from kinocell.stages.prepare import prepare
    if __name__ == "__main__":
        settings = PrepareConfig(short_side_px=32, workers=2)
        prepare(RunConfig(data=sys.argv[1], out=sys.argv[2], prepare=settings))
"""


KILLED_HALF_WAY_THROUGH_A_FILE = """
    import os, signal, sys
    from pathlib import Path
    from kinocell.config import PrepareConfig, RunConfig
    from kinocell.stages.prepare import prepare
    if __name__ == "__main__":
        replace = Path.replace
        def killed(path, target):
            if Path(target).name == sys.argv[3]:
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(path, target)
        Path.replace = killed
        settings = PrepareConfig(short_side_px=32, workers=1)
        prepare(RunConfig(data=sys.argv[1], out=sys.argv[2], prepare=settings))
"""


@pytest.mark.parametrize(
    "name", ["config.json", "settings.json", "index.npy", "source.json", "done.json"]
)
def test_file_that_was_being_written_when_it_was_killed_is_gone_later(
    tmp_path: Path, video_csv: Path, name: str
) -> None:
    whole = prepare(job(video_csv, tmp_path / "whole"))
    ended = run_script(KILLED_HALF_WAY_THROUGH_A_FILE, video_csv, tmp_path / "killed", name)
    assert ended.returncode == -signal.SIGKILL
    assert list((tmp_path / "killed").rglob(f".{name}.*.tmp"))
    assert contents(prepare(job(video_csv, tmp_path / "killed"))) == contents(whole)


FORKS_A_PREPARE_PER_LINE = """
    import os, sys
    from kinocell.config import PrepareConfig, RunConfig
    from kinocell.stages.prepare import prepare
    if __name__ == "__main__":
        settings = PrepareConfig(short_side_px=32, workers=2)
        for line in sys.stdin:
            child = os.fork()
            if child == 0:
                prepare(RunConfig(data=sys.argv[1], out=line.strip(), prepare=settings))
                os._exit(0)
            print(child, flush=True)
            sys.stdin.readline()
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
def test_killed_at_twenty_random_moments_it_ends_with_the_same_bytes(
    tmp_path: Path, video_csv: Path
) -> None:
    """Ten are killed once and then go on; one is killed ten times before it may end.

    One that was done before its moment came, because the machine had been slower when the time was
    taken, or was slow to kill it, is no victim: another one is, at an earlier moment.
    """
    script = textwrap.dedent(FORKS_A_PREPARE_PER_LINE)
    server = subprocess.Popen(
        [sys.executable, "-c", script, str(video_csv)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None

    def run(name: str, kill_after_seconds: float | None = None) -> int:
        print(tmp_path / name, file=server.stdin, flush=True)
        assert server.stdout is not None
        process = int(server.stdout.readline())
        if kill_after_seconds is not None:
            time.sleep(kill_after_seconds)
            os.kill(process, signal.SIGKILL)  # not waited for before the next line: it is its own
        print("wait", file=server.stdin, flush=True)
        return int(server.stdout.readline())

    with server:
        assert run("warm") == 0
        start = time.monotonic()
        assert run("whole") == 0
        seconds = time.monotonic() - start
        shares = iter(np.random.default_rng(0).uniform(0, 0.95, 200))
        names: list[str] = []
        for number, share in zip(range(100), shares, strict=False):
            if len(names) == 10:
                break
            code = run(name := f"once_{number}", share * seconds)
            if code == 0:
                seconds *= 0.8
            else:
                assert code == -signal.SIGKILL
                names.append(name)
        assert len(names) == 10
        often = [run("often", next(shares) * seconds) for _ in range(10)]
        assert set(often) <= {0, -signal.SIGKILL}  # when it is done, it is done
        names.append("often")
        assert [run(name) for name in names] == [0] * 11
        server.stdin.close()
    for name in names:
        assert contents(tmp_path / name / "prepare") == contents(tmp_path / "whole/prepare")


def test_second_prepare_at_the_same_time_stops_with_a_sentence(
    tmp_path: Path, video_csv: Path
) -> None:
    with only_writer(tmp_path / "out/prepare/frames"):
        ended = run_script(KILLED_AT_ANY_TIME, video_csv, tmp_path / "out")
    assert "StoreError: Another process is filling" in ended.stderr
    assert not (tmp_path / "out/prepare/config.json").exists()
    prepare(job(video_csv, tmp_path / "out"))


# --- the disk ----------------------------------------------------------------------------------

CANNOT_GROW = """
    import resource, sys
    from kinocell.config import PrepareConfig, RunConfig
    from kinocell.errors import KinocellError
    from kinocell.stages.prepare import prepare
    if __name__ == "__main__":
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
    ended = run_script(CANNOT_GROW, video_csv, tmp_path / "small")
    assert ended.stdout.startswith(f"Cannot write {tmp_path / 'small/prepare/frames'}: File too")
    assert contents(prepare(job(video_csv, tmp_path / "small"))) == contents(whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here (that needs root)")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def surprising_videos(folder: Path, write_video: Writer) -> Path:
    """16 videos that begin in one colour, so that they look small, and end in noise."""
    rng = np.random.default_rng(0)
    for number in range(16):
        frames = np.full((60, 32, 32, 3), 90, np.uint8)
        frames[36:] = rng.integers(0, 255, (24, 32, 32, 3), np.uint8)
        write_video(folder / "ab"[number % 2] / f"{number:02d}.mp4", frames)
    return folder


def test_disk_that_is_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, small_disk: Path, video_csv: Path
) -> None:
    with pytest.raises(StoreError, match=r"needs about .* 1\.0 MiB are free: about .* missing"):
        prepare(job(video_csv, small_disk / "out", short_side_px=256, codec="raw"))
    assert [path.name for path in small_disk.rglob("*") if path.is_file()] == [".lock"]
    prepare(job(video_csv, small_disk / "out"))  # other settings may be tried there


def test_disk_that_fills_up_leaves_what_is_stored_readable(
    tmp_path: Path, small_disk: Path, write_video: Writer
) -> None:
    videos = surprising_videos(tmp_path / "in", write_video)
    whole = prepare(job(videos, tmp_path / "whole", jpeg_quality=100, short_side_px=64))
    config = job(videos, small_disk / "out", jpeg_quality=100, short_side_px=64)
    with pytest.raises(StoreError) as refused:
        prepare(config)
    message = str(refused.value)
    found = re.fullmatch(
        r"The disk is full: (\d+) of 16 videos were stored in .* for the rest about "
        r"([\d.]+) (KiB|MiB) are missing\. .* run the same command again, .*",
        message,
    )
    assert found, message
    stored = int(found[1])
    assert 0 < stored < 16
    store = FrameStore(small_disk / "out/prepare/frames", unfinished=True)
    store.verify()
    assert len(store) == stored
    assert np.array_equal(store.read(0, [59]), open_prepared(whole).store.read(0, [59]))
    whole_bytes = (whole / "frames/frames.bin").stat().st_size
    missing_bytes = float(found[2]) * {"KiB": 1 << 10, "MiB": 1 << 20}[found[3]]
    assert missing_bytes == pytest.approx(whole_bytes - (1 << 20), rel=0.3)
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    assert contents(prepare(config)) == contents(whole)


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
