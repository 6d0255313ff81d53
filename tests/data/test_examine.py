"""What a file holds: measured on files whose frames, times and copies are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell.data.examine import Examined, FileTask, examine, file_facts
from kinocell.errors import VideoError

Numbered = Callable[..., NDArray[np.uint8]]
Writer = Callable[..., Path]


def whole(path: Path) -> Examined:
    (found,) = examine(path)
    assert isinstance(found, Examined)
    return found


def remux(source: Path, target: Path) -> Path:
    """The same stream in another container, as `ffmpeg -c copy` does it."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target


def test_frames_size_and_rate_are_measured(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer
) -> None:
    found = whole(write_video(tmp_path / "a.mp4", numbered_frames(50), fps=25))
    assert (found.num_frames, found.height, found.width) == (50, 96, 128)
    assert found.fps == pytest.approx(25)
    assert found.seconds == pytest.approx(2)
    assert found.rotation_degrees == 0
    assert not found.variable_rate


def test_turned_video_has_the_size_that_is_seen(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer, turn_right: Callable[..., None]
) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(3))
    turn_right(path)
    found = whole(path)
    assert (found.height, found.width, found.rotation_degrees) == (128, 96, 90)


def test_uneven_times_are_a_variable_rate(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer
) -> None:
    times = [0, 40, 80, 500, 510, 1500, 1540, 2000]
    assert whole(write_video(tmp_path / "a.mp4", numbered_frames(8), times=times)).variable_rate


def test_lost_frame_and_rounded_times_are_no_variable_rate(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer
) -> None:
    packed = Path(__file__).parent / "files" / "xvid_packed_b_frames.avi"
    assert not whole(packed).variable_rate
    path = write_video(tmp_path / "a.mkv", numbered_frames(30), fps=60)  # in whole milliseconds
    assert not whole(path).variable_rate


def test_copy_in_another_container_has_the_same_content(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer
) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(20), b_frames=2)
    copy = remux(path, tmp_path / "a.mkv")
    assert copy.read_bytes() != path.read_bytes()
    assert whole(copy).content == whole(path).content


def test_other_frames_have_another_content(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer
) -> None:
    frames = numbered_frames(20)
    one = whole(write_video(tmp_path / "a.mp4", frames)).content
    assert whole(write_video(tmp_path / "b.mp4", frames[:-1])).content != one
    assert whole(write_video(tmp_path / "c.mp4", frames[::-1])).content != one


def test_parts_are_measured_in_one_pass(
    tmp_path: Path, numbered_frames: Numbered, write_video: Writer
) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(50), fps=25)
    first, second, none = examine(path, [(0.0, 0.4), (0.4, float("inf")), (5.0, 6.0)])
    assert isinstance(first, Examined)
    assert isinstance(second, Examined)
    assert (first.num_frames, second.num_frames) == (10, 40)
    assert first.content != second.content
    assert isinstance(none, VideoError)
    assert none.kind == "outside"


def test_bad_file_is_a_fact_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    facts = file_facts(FileTask(path=tmp_path / "empty.mp4"))
    assert facts.bytes == 0
    assert [part.kind for part in facts.parts if isinstance(part, VideoError)] == ["empty"]
    gone = file_facts(FileTask(path=tmp_path / "gone.mp4"))
    assert (gone.bytes, gone.sha256) == (None, None)
    assert [part.kind for part in gone.parts if isinstance(part, VideoError)] == ["missing"]
