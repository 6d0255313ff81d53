"""Frames from files: the same pixels as from a raw store, and changes are noticed."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell.config import ClipsConfig, PrepareConfig, RunConfig
from kinocell.data.clips import Prepared, open_prepared, training_batches
from kinocell.data.file_frames import FileFrames
from kinocell.errors import RunError, StoreError
from kinocell.stages.prepare import prepare

Numbered = Callable[..., NDArray[np.uint8]]
Writer = Callable[..., Path]
FILES = PrepareConfig(short_side_px=32, workers=1, store=False)
RAW = replace(FILES, store=True, codec="raw")


def opened(data: Path, out: Path, settings: PrepareConfig) -> Prepared:
    return open_prepared(prepare(RunConfig(data=str(data), out=str(out), prepare=settings)))


@pytest.fixture
def own_videos(tmp_path: Path, video_csv: Path) -> Path:
    """A copy of the videos of `video_csv` that a test may spoil; the csv is returned."""
    shutil.copytree(video_csv.parent, tmp_path / "videos")
    return tmp_path / "videos" / video_csv.name


def test_pixels_are_those_of_a_raw_store_bit_for_bit(tmp_path: Path, video_csv: Path) -> None:
    files = opened(video_csv, tmp_path / "files", FILES).store
    raw = opened(video_csv, tmp_path / "raw", RAW).store
    assert isinstance(files, FileFrames)
    for name in ("num_frames", "heights", "widths", "fps", "seconds"):
        assert np.array_equal(getattr(files, name), getattr(raw, name))
    for video, count in enumerate(raw.num_frames.tolist()):
        indices = [count - 1, 0, count // 2, 0]
        assert np.array_equal(files.read(video, indices), raw.read(video, indices))


@pytest.mark.parametrize("workers", [0, 1])
def test_training_clips_are_those_of_a_raw_store(
    tmp_path: Path, video_csv: Path, workers: int
) -> None:
    clips = ClipsConfig(size_px=24, workers=workers)
    batches = []
    for settings in (FILES, RAW):
        prepared = opened(video_csv, tmp_path / str(settings.store), settings)
        rows = prepared.manifest.rows("train")
        stream = training_batches(prepared, rows, clips, batch_size=4, seed=3)
        batches.append([batch.clips.numpy() for batch in islice(stream, 3)])
    assert all(np.array_equal(one, other) for one, other in zip(*batches, strict=True))


def test_parts_and_turned_videos_are_read_as_they_are_stored(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer, turn_right: Callable[..., None]
) -> None:
    for name in ("one.mp4", "two.mp4"):
        turn_right(write_video(tmp_path / name, numbered_frames(100), fps=25))
    text = "path,label,split,start_seconds,end_seconds\n" + "".join(
        f"{name}.mp4,{label},{split},{start},{start + 0.4}\n"
        for name, split in (("one", "train"), ("two", "test"))
        for label, start in (("a", 0.0), ("b", 1.6))
    )
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    files = opened(tmp_path / "list.csv", tmp_path / "files", FILES).store
    raw = opened(tmp_path / "list.csv", tmp_path / "raw", RAW).store
    assert files.num_frames.tolist() == [10] * 4
    for video in range(4):
        frames = files.read(video, range(10))
        assert frames.shape == (10, 43, 32, 3)
        assert np.array_equal(frames, raw.read(video, range(10)))


def test_it_can_be_sent_to_another_process(tmp_path: Path, video_csv: Path) -> None:
    files = opened(video_csv, tmp_path, FILES).store
    sent = pickle.loads(pickle.dumps(files))
    assert np.array_equal(sent.read(5, [0, 2]), files.read(5, [0, 2]))


def test_frame_that_the_video_does_not_have_is_refused(tmp_path: Path, video_csv: Path) -> None:
    files = opened(video_csv, tmp_path, FILES).store
    with pytest.raises(IndexError, match="Video 0 has frames"):
        files.read(0, [0, int(files.num_frames[0])])


def test_changed_or_vanished_file_is_named(tmp_path: Path, own_videos: Path) -> None:
    prepared = opened(own_videos, tmp_path / "out", FILES)
    one, other = prepared.manifest.path(0), prepared.manifest.path(1)
    shutil.copy(other, one)
    with pytest.raises(StoreError, match=f"{one.name} has changed since it was prepared"):
        prepared.store.read(0, [0])
    other.unlink()
    with pytest.raises(StoreError, match=f"{other.name} cannot be read any more"):
        prepared.store.read(1, [0])


def test_copied_file_with_another_time_is_no_change(tmp_path: Path, own_videos: Path) -> None:
    prepared = opened(own_videos, tmp_path / "out", FILES)
    before = prepared.store.read(0, [0])
    os.utime(prepared.manifest.path(0), ns=(1, 1))
    assert np.array_equal(prepared.store.read(0, [0]), before)


def test_unfinished_count_goes_on_and_ends_the_same(
    tmp_path: Path, video_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = RunConfig(data=str(video_csv), out=str(tmp_path), prepare=FILES)
    folder = prepare(config)
    names = ("manifest.csv", "frames/index.npz", "frames/videos.jsonl")
    whole = {name: (folder / name).read_bytes() for name in names}
    lines = whole["frames/videos.jsonl"].splitlines(keepends=True)
    (folder / "done.json").unlink()
    (folder / "frames/index.npz").unlink()
    (folder / "frames/videos.jsonl").write_bytes(b"".join(lines[:10]) + lines[10][:20])
    capsys.readouterr()
    prepare(config)
    assert "going on after 10 of 24 videos" in capsys.readouterr().err
    assert {name: (folder / name).read_bytes() for name in names} == whole


def test_unreadable_videos_are_listed_with_their_kind(tmp_path: Path, own_videos: Path) -> None:
    (own_videos.parent / "to_left/video_00.mp4").write_bytes(b"")
    cut = own_videos.parent / "to_left/video_02.avi"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    skipped = {}
    for settings in (FILES, RAW):
        out = tmp_path / str(settings.store)
        assert len(opened(own_videos, out, replace(settings, max_skipped=2)).manifest) == 22
        skipped[settings.store] = (out / "prepare/skipped.csv").read_text(encoding="utf-8")
    assert skipped[True] == skipped[False]
    assert "to_left/video_00.mp4,empty," in skipped[True]
    assert "to_left/video_02.avi,truncated," in skipped[True]


def test_store_is_not_silently_taken_for_files(tmp_path: Path, video_csv: Path) -> None:
    opened(video_csv, tmp_path, FILES)
    with pytest.raises(RunError, match="store: False there"):
        opened(video_csv, tmp_path, RAW)
