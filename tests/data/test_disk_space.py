"""How much room a store will take: guessed from a few videos, and asked of the real disk."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell.data.disk_space import check_room, free_bytes, needed_bytes, size_text
from kinocell.data.encoding import Codec
from kinocell.data.parts import VideoTask, encode_video, expected_bytes, limit_seconds
from kinocell.data.workers import Workers
from kinocell.errors import StoreError

Frames = NDArray[np.uint8]
Writer = Callable[..., Path]


def task(
    path: Path, codec: Codec = "jpeg", keep: int = 0, end_seconds: float = math.inf
) -> VideoTask:
    return VideoTask(
        path=str(path),
        start_seconds=0.0,
        end_seconds=end_seconds,
        short_side_px=32,
        codec=codec,
        jpeg_quality=90,
        frames_per_video=keep,
        decoder="auto",
        part=str(path) + ".part",
    )


@pytest.fixture(scope="module")
def video(
    tmp_path_factory: pytest.TempPathFactory,
    numbered_frames: Callable[..., Frames],
    write_video: Writer,
) -> Path:
    return write_video(
        tmp_path_factory.mktemp("one") / "video.avi", numbered_frames(80), b_frames=2
    )


@pytest.mark.parametrize("keep", [0, 16])
@pytest.mark.parametrize("codec", ["jpeg", "raw"])
def test_guess_is_near_what_is_stored(video: Path, codec: Codec, keep: int) -> None:
    made = task(video, codec, keep)
    encode_video(made)
    stored = Path(made.part).stat().st_size
    assert expected_bytes(made) - 600 == pytest.approx(stored, rel=0.1 if codec == "jpeg" else 0)


def test_guess_is_for_the_part_of_the_file_that_counts(video: Path) -> None:
    whole, half = (expected_bytes(task(video, "raw", end_seconds=s)) for s in (math.inf, 1.6))
    assert (half - 600) * 2 == pytest.approx(whole - 600, rel=0.05)


def test_unreadable_video_takes_no_room(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video\n" * 50, encoding="utf-8")
    assert expected_bytes(task(tmp_path / "text.mp4")) == 0


def test_videos_are_guessed_from_a_sample(video: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.avi").touch()
    with Workers(1, 1) as workers:
        every = needed_bytes([task(video, "raw")] * 40, workers)
        assert every == 40 * expected_bytes(task(video, "raw"))
        assert needed_bytes([task(tmp_path / "bad.avi")] * 40, workers) == 0


def test_free_room_is_that_of_the_disk_below_a_folder_to_be(tmp_path: Path) -> None:
    def free() -> int:
        status = os.statvfs(tmp_path)
        return status.f_bavail * status.f_frsize

    before, found, after = free(), free_bytes(tmp_path / "a" / "b"), free()
    # Others write to that disk meanwhile, and delete.
    assert 0.95 * min(before, after) <= found <= 1.05 * max(before, after)


def test_missing_room_is_named(tmp_path: Path) -> None:
    check_room(tmp_path, 5 << 30, 5 << 30)
    with pytest.raises(
        StoreError, match=r"needs about 5\.0 GiB, and 1\.5 GiB are free: about 3\.5"
    ):
        check_room(tmp_path, 5 << 30, 3 << 29)


@pytest.mark.parametrize(
    ("size", "text"), [(850 << 10, "850 KiB"), (12 << 20, "12.0 MiB"), (1 << 30, "1.0 GiB")]
)
def test_sizes_have_a_unit_that_fits(size: int, text: str) -> None:
    assert size_text(size) == text


def test_long_files_have_more_time(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)
    assert limit_seconds(task(path), 300) == 300 * 200
    assert limit_seconds(task(tmp_path / "missing.mp4"), 300) == 300
