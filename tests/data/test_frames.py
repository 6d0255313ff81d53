"""The frame store: what goes in comes out, also after it was interrupted."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell.data.encoding import EncodedVideo, encode_frames
from kinocell.data.frames import FrameStore, StoreSettings
from kinocell.data.store_writer import StoreWriter, only_writer
from kinocell.errors import RunError, StoreError, VideoError

Frames = NDArray[np.uint8]
Codec = Literal["jpeg", "raw"]


def settings(codec: Codec = "raw") -> StoreSettings:
    return StoreSettings(short_side_px=24, codec=codec, jpeg_quality=95, decoder="none 1.0")


def encoded(frames: Frames, codec: Codec = "raw") -> EncodedVideo:
    return encode_frames(((i / 25, frame) for i, frame in enumerate(frames)), codec, 95, "it")


def some_frames(number: int, count: int) -> Frames:
    rng = np.random.default_rng(number)
    return rng.integers(0, 255, (count, 24, 24 + 2 * number, 3), np.uint8)


def filled(folder: Path, counts: list[int], codec: Codec = "raw") -> FrameStore:
    writer = StoreWriter(folder, settings(codec))
    writer.keep(len(writer.records))
    for number in range(len(writer.records), len(counts)):
        frames = some_frames(number, counts[number])
        writer.add({"path": f"{number}.mp4"}, encoded(frames, codec))
    writer.finish()
    return FrameStore(folder)


def test_raw_frames_come_back_exactly(tmp_path: Path) -> None:
    store = filled(tmp_path, [5, 1, 9])
    assert store.num_frames.tolist() == [5, 1, 9]
    assert store.fps.tolist() == pytest.approx([25, 0, 25])
    for video, count in enumerate([5, 1, 9]):
        wanted = [*reversed(range(count)), 0, 0]
        assert np.array_equal(store.read(video, wanted), some_frames(video, count)[wanted])


def test_jpeg_frames_come_back_nearly(
    tmp_path: Path, numbered_frames: Callable[..., Frames], read_number: Callable[[Frames], int]
) -> None:
    frames = numbered_frames(40, 48, 64)
    writer = StoreWriter(tmp_path, settings("jpeg"))
    writer.add({"path": "0.mp4"}, encoded(frames, "jpeg"))
    writer.finish()
    read = FrameStore(tmp_path).read(0, [39, 2, 17])
    assert [read_number(frame) for frame in read] == [39, 2, 17]
    assert abs(read.astype(int) - frames[[39, 2, 17]]).mean() < 2


def test_skipped_videos_leave_no_gap(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, settings())
    writer.add({"path": "bad.mp4"}, "It is empty.")
    writer.add({"path": "good.mp4"}, encoded(some_frames(0, 3)))
    writer.add({"path": "worse.mp4"}, "It is text.")
    writer.add({"path": "better.mp4"}, encoded(some_frames(1, 2)))
    writer.finish()
    store = FrameStore(tmp_path)
    assert len(store) == 2
    assert np.array_equal(store.read(1, [0, 1]), some_frames(1, 2))


@pytest.mark.parametrize("indices", [[5], [-1], [0, 7]])
def test_frame_that_the_video_lacks_is_a_wrong_index(tmp_path: Path, indices: list[int]) -> None:
    with pytest.raises(IndexError, match=r"frames \[0, 5\)"):
        filled(tmp_path, [5]).read(0, indices)


def test_store_goes_to_another_process(tmp_path: Path) -> None:
    store = filled(tmp_path, [4, 3])
    again = pickle.loads(pickle.dumps(store))
    assert np.array_equal(again.read(1, [2]), store.read(1, [2]))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(store.read, (1, [2])), store.read(1, [2]))


def test_picture_that_changes_its_size_is_refused() -> None:
    frames = iter([(0.0, np.zeros((4, 4, 3), np.uint8)), (0.1, np.zeros((4, 6, 3), np.uint8))])
    with pytest.raises(VideoError, match="it changes its picture size after 1 frames"):
        encode_frames(frames, "raw", 90, "it")


# --- interrupted, damaged, made otherwise ------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("cut_bytes", [1, 700, 5000])
@pytest.mark.parametrize("name", ["frames.bin", "offsets.bin", "videos.jsonl"])
def test_store_that_lost_its_end_goes_on_to_the_same_bytes(
    tmp_path: Path, name: str, cut_bytes: int
) -> None:
    counts = [3, 4, 2, 5]
    filled(tmp_path / "whole", counts)
    filled(tmp_path / "cut", counts[:3])
    path = tmp_path / "cut" / name
    data = path.read_bytes()
    path.write_bytes(data[: max(len(data) - cut_bytes, 0)])
    filled(tmp_path / "cut", counts)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_frames_of_a_video_that_was_not_recorded_are_written_over(tmp_path: Path) -> None:
    filled(tmp_path / "whole", [3, 4])
    filled(tmp_path / "cut", [3])
    with (tmp_path / "cut" / "frames.bin").open("ab") as file:
        file.write(b"half a video")
    filled(tmp_path / "cut", [3, 4])
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_other_settings_are_refused(tmp_path: Path) -> None:
    filled(tmp_path, [3], "raw")
    with pytest.raises(StoreError, match="was made with"):
        StoreWriter(tmp_path, settings("jpeg"))


def test_missing_store_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Run `kinocell prepare`"):
        FrameStore(tmp_path)


def test_unfinished_store_cannot_be_read(tmp_path: Path) -> None:
    filled(tmp_path, [3])
    StoreWriter(tmp_path, settings()).keep(1)
    with pytest.raises(StoreError, match="no finished frame store"):
        FrameStore(tmp_path)


def test_store_of_another_format_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, [3])
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(StoreError, match="has format 99"):
        FrameStore(tmp_path)


@pytest.mark.parametrize("name", ["frames.bin", "offsets.bin"])
def test_store_that_was_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    filled(tmp_path, [3, 4])
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(StoreError, match="is cut off"):
        FrameStore(tmp_path)


@pytest.mark.parametrize("name", ["frames.bin", "offsets.bin", "index.npz"])
def test_emptied_file_is_refused(tmp_path: Path, name: str) -> None:
    filled(tmp_path, [3, 4])
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(StoreError, match=r"[Pp]repare again"):
        FrameStore(tmp_path)


def test_store_that_shrinks_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    store = filled(tmp_path, [3, 4])
    with (tmp_path / "frames.bin").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(StoreError, match="became shorter while it was open"):
        store.read(1, [0])


def test_damaged_jpeg_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, [3], "jpeg")
    path = tmp_path / "frames.bin"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(StoreError, match="frame 1 is damaged"):
        FrameStore(tmp_path).read(0, [1])


def test_second_writer_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    refused = pytest.raises(StoreError, match="Another process is filling")
    with only_writer(tmp_path), refused, only_writer(tmp_path):
        pass
    with only_writer(tmp_path):
        pass


def test_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    filled(tmp_path / "whole", [3, 4])
    writer = StoreWriter(tmp_path / "full", settings())
    (tmp_path / "full" / "frames.bin").symlink_to("/dev/full")
    writer.keep(0)
    with pytest.raises(RunError, match="The disk is full"):
        writer.add({"path": "0.mp4"}, encoded(some_frames(0, 3)))
    (tmp_path / "full" / "frames.bin").unlink()
    filled(tmp_path / "full", [3, 4])
    assert contents(tmp_path / "full") == contents(tmp_path / "whole")
