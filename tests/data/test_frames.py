"""The frame store: what goes in comes out, also after it was interrupted."""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell import runs
from kinocell.data.encoding import EncodedVideo, encode_frames, evenly_spaced
from kinocell.data.frames import FrameStore, StoreSettings
from kinocell.data.sampling import segment_indices
from kinocell.data.store_writer import StoreWriter, only_writer
from kinocell.errors import StoreError, VideoError

Frames = NDArray[np.uint8]
Codec = Literal["jpeg", "raw"]


def settings(codec: Codec = "raw") -> StoreSettings:
    return StoreSettings(short_side_px=24, codec=codec, jpeg_quality=95, decoder="none 1.0")


def encoded(frames: Frames, codec: Codec = "raw") -> tuple[EncodedVideo, io.BytesIO]:
    part = io.BytesIO()
    timed = ((i / 25, frame) for i, frame in enumerate(frames))
    video = encode_frames(timed, codec, 95, "it", part)
    part.seek(0)
    return video, part


def some_frames(number: int, count: int) -> Frames:
    rng = np.random.default_rng(number)
    return rng.integers(0, 255, (count, 24, 24 + 2 * number, 3), np.uint8)


def begun(folder: Path, codec: Codec = "raw") -> StoreWriter:
    folder.mkdir(exist_ok=True)
    writer = StoreWriter(folder, settings(codec))
    writer.recover()
    writer.begin()
    return writer


def filled(folder: Path, counts: list[int], codec: Codec = "raw") -> FrameStore:
    writer = begun(folder, codec)
    for number in range(len(writer.records), len(counts)):
        frames = some_frames(number, counts[number])
        writer.add({"path": f"{number}.mp4"}, *encoded(frames, codec))
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
    writer = begun(tmp_path, "jpeg")
    writer.add({"path": "0.mp4"}, *encoded(frames, "jpeg"))
    writer.finish()
    read = FrameStore(tmp_path).read(0, [39, 2, 17])
    assert [read_number(frame) for frame in read] == [39, 2, 17]
    assert abs(read.astype(int) - frames[[39, 2, 17]]).mean() < 2


def test_skipped_videos_leave_no_gap(tmp_path: Path) -> None:
    writer = begun(tmp_path)
    writer.add({"path": "bad.mp4"}, "It is empty.")
    writer.add({"path": "good.mp4"}, *encoded(some_frames(0, 3)))
    writer.add({"path": "worse.mp4"}, "It is text.")
    writer.add({"path": "better.mp4"}, *encoded(some_frames(1, 2)))
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
        encode_frames(frames, "raw", 90, "it", io.BytesIO())


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


def test_unfinished_store_is_read_only_when_asked_for(tmp_path: Path) -> None:
    writer = begun(tmp_path)
    writer.add({"path": "0.mp4"}, *encoded(some_frames(0, 3)))
    writer.add({"path": "1.mp4"}, "It is empty.")
    writer.add({"path": "2.mp4"}, *encoded(some_frames(2, 2)))
    with pytest.raises(StoreError, match="no finished frame store"):
        FrameStore(tmp_path)
    store = FrameStore(tmp_path, unfinished=True)
    assert store.num_frames.tolist() == [3, 2]
    assert np.array_equal(pickle.loads(pickle.dumps(store)).read(1, [1]), some_frames(2, 2)[1:])


def test_store_of_another_format_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, [3])
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(StoreError, match=r"has format 99, .* Delete .* and prepare again"):
        FrameStore(tmp_path)
    with pytest.raises(StoreError, match="has format 99"):
        StoreWriter(tmp_path, settings())


@pytest.mark.parametrize("name", ["frames.bin", "offsets.bin"])
def test_store_that_was_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    filled(tmp_path, [3, 4])
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(StoreError, match="is cut off"):
        FrameStore(tmp_path)


@pytest.mark.parametrize("name", ["frames.bin", "offsets.bin", "index.npy"])
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


def test_full_disk_takes_back_the_video_that_did_not_fit(tmp_path: Path) -> None:
    filled(tmp_path / "whole", [3, 4, 5])
    writer = begun(tmp_path / "full")
    writer.add({"path": "0.mp4"}, *encoded(some_frames(0, 3)))
    offsets = tmp_path / "full" / "offsets.bin"
    offsets.rename(tmp_path / "offsets.bin")
    offsets.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        writer.add({"path": "1.mp4"}, *encoded(some_frames(1, 4)))
    offsets.unlink()
    (tmp_path / "offsets.bin").rename(offsets)
    assert (tmp_path / "full" / "frames.bin").stat().st_size == some_frames(0, 3).nbytes
    assert len(FrameStore(tmp_path / "full", unfinished=True)) == 1
    writer.add({"path": "1.mp4"}, *encoded(some_frames(1, 4)))
    filled(tmp_path / "full", [3, 4, 5])
    assert contents(tmp_path / "full") == contents(tmp_path / "whole")


# --- checksums ---------------------------------------------------------------------------------


def test_checksum_is_the_crc32_of_the_frames_and_where_they_end(tmp_path: Path) -> None:
    filled(tmp_path, [3, 4])
    for number, record in enumerate(runs.read_jsonl(tmp_path / "videos.jsonl")):
        frames = some_frames(number, [3, 4][number])
        ends = b"".join(
            (frames[0].nbytes * (i + 1)).to_bytes(8, "little") for i in range(len(frames))
        )
        assert record["crc32"] == zlib.crc32(frames.tobytes() + ends)


def spoil(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_verify_names_the_damaged_videos(tmp_path: Path) -> None:
    store = filled(tmp_path, [3, 4, 2, 5])
    store.verify()
    spoil(tmp_path / "frames.bin", some_frames(0, 3).nbytes)
    spoil(tmp_path / "frames.bin", -1)
    with pytest.raises(StoreError, match=r"2 of 4 videos are damaged, in rows 1, 3\. Delete"):
        FrameStore(tmp_path).verify()


@pytest.mark.parametrize(("name", "place"), [("frames.bin", -1), ("offsets.bin", -16)])
def test_damage_at_the_end_is_found_before_a_store_goes_on(
    tmp_path: Path, name: str, place: int
) -> None:
    filled(tmp_path / "whole", [3, 4, 2])
    filled(tmp_path / "spoilt", [3, 4])
    spoil(tmp_path / "spoilt" / name, place)
    writer = StoreWriter(tmp_path / "spoilt", settings())
    assert writer.recover() == 1
    assert not (tmp_path / "spoilt" / "index.npy").exists()
    filled(tmp_path / "spoilt", [3, 4, 2])
    assert contents(tmp_path / "spoilt") == contents(tmp_path / "whole")


# --- some frames of each video, and many videos ------------------------------------------------


@pytest.mark.parametrize(("count", "keep"), [(10, 4), (174, 16), (16, 16), (3, 8), (1, 1), (9, 0)])
def test_kept_frames_are_the_middles_of_equal_slots(count: int, keep: int) -> None:
    middles = segment_indices(count, keep or count, 1)
    assert sorted(evenly_spaced(count, keep)) == sorted(set(middles))


def test_index_says_how_many_frames_the_source_had(tmp_path: Path) -> None:
    frames = some_frames(0, 10)
    part = io.BytesIO()
    timed = ((i / 25, lambda i=i: frames[i]) for i in range(10))
    video = encode_frames(timed, "raw", 95, "it", part, evenly_spaced(10, 4))
    part.seek(0)
    writer = begun(tmp_path)
    writer.add({"path": "0.mp4"}, video, part)
    writer.finish()
    store = FrameStore(tmp_path)
    assert (store.num_frames.tolist(), store.source_frames.tolist()) == ([4], [10])
    assert np.array_equal(store.read(0, range(4)), frames[[1, 3, 6, 8]])
    assert (store.fps[0], store.seconds[0]) == pytest.approx((25, 0.4))  # the source's


def test_list_may_have_another_order_than_the_store(tmp_path: Path) -> None:
    filled(tmp_path, [3, 4, 5])
    StoreWriter(tmp_path, settings()).finish([2, 0])
    store = FrameStore(tmp_path)
    assert store.num_frames.tolist() == [5, 3]
    assert np.array_equal(store.read(0, [4]), some_frames(2, 5)[4:])
    assert np.array_equal(store.read(1, [1]), some_frames(0, 3)[1:2])
    store.verify()


def test_opening_a_million_videos_holds_none_of_them_in_memory(tmp_path: Path) -> None:
    filled(tmp_path, [3])
    row = np.load(tmp_path / "index.npy")
    np.save(tmp_path / "index.npy", np.repeat(row, 1_000_000))
    before = tracemalloc_peak(lambda: None)
    assert tracemalloc_peak(lambda: FrameStore(tmp_path)) < before + 16e6
    assert len(FrameStore(tmp_path)) == 1_000_000


def tracemalloc_peak(function: Callable[[], object]) -> int:
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
