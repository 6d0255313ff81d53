"""Damaged files: each is refused with the right word, and none passes for a shorter video."""

from __future__ import annotations

import pickle
import resource
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from kinocell.data.decode import count_frames, read_frames
from kinocell.errors import VideoError

Frames = NDArray[np.uint8]
Writer = Callable[..., Path]


@pytest.fixture(scope="module")
def moving() -> Frames:
    """60 frames of a moving texture, which no encoder makes small."""
    ground = np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8)
    return np.stack([np.roll(ground, (step, 2 * step), (0, 1)) for step in range(60)])


def write_webm(path: Path, frames: Frames) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def fault(path: Path) -> VideoError:
    with pytest.raises(VideoError) as caught:
        count_frames(path)
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.98, 0.999])
@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv", "a.webm"])
def test_file_cut_off_anywhere_is_truncated(
    tmp_path: Path, write_video: Writer, moving: Frames, name: str, share: float
) -> None:
    path = (write_webm if name.endswith("webm") else write_video)(tmp_path / name, moving)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert fault(path).kind == "truncated"


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv", "a.webm"])
def test_hole_in_the_middle_is_never_a_shorter_video(
    tmp_path: Path, write_video: Writer, moving: Frames, name: str
) -> None:
    """A download that skipped a part: FFmpeg reads on behind it, or ends there, without a word."""
    path = (write_webm if name.endswith("webm") else write_video)(tmp_path / name, moving)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
    path.write_bytes(data)
    assert fault(path).kind in ("damaged", "truncated")


def test_frame_that_the_decoder_had_to_patch_up_is_named(
    tmp_path: Path, write_video: Writer, moving: Frames
) -> None:
    path = write_video(tmp_path / "a.avi", moving)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        place = (packets[30].pos or 0) + packets[30].size // 2
    data = bytearray(path.read_bytes())
    data[place : place + 40] = b"\xff" * 40
    path.write_bytes(data)
    error = fault(path)
    assert error.kind == "damaged"
    assert "frame 30 has errors" in str(error)
    # What comes before is right, and reading stops before the damage.
    assert read_frames(path, [0, 20]).shape == (2, 96, 160, 3)


def test_pauses_of_an_avi_are_no_missing_frames(tmp_path: Path, moving: Frames) -> None:
    """An avi has one rate: ten pictures per second at rate 30 leave two empty places each."""
    path = tmp_path / "pauses.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.height, stream.width, stream.pix_fmt = 96, 160, "yuv420p"
        for number, pixels in enumerate(moving[:30]):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = 3 * number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames > 80
    assert count_frames(path) == 30


def test_matroska_that_claims_an_hour_is_truncated(
    tmp_path: Path, write_video: Writer, moving: Frames
) -> None:
    path = write_video(tmp_path / "hour.mkv", moving)
    data = bytearray(path.read_bytes())
    place = data.index(b"\x44\x89\x88") + 3  # Duration, 8 bytes
    data[place : place + 8] = np.array(3_600_000.0, ">f8").tobytes()
    path.write_bytes(data)
    error = fault(path)
    assert error.kind == "truncated"
    assert "announces 3600.0 seconds and ends after 2.4" in str(error)


def test_mp4_that_claims_an_hour_is_counted(
    tmp_path: Path, write_video: Writer, moving: Frames
) -> None:
    """Its table of frames is whole, so nothing is missing, whatever the header says."""
    path = write_video(tmp_path / "hour.mp4", moving)
    data = bytearray(path.read_bytes())
    place = data.index(b"mvhd") + 20  # version and flags, two times, time scale, then duration
    data[place : place + 4] = (3_600_000).to_bytes(4, "big")
    path.write_bytes(data)
    assert count_frames(path) == 60


def test_header_of_a_giant_picture_costs_no_memory(tmp_path: Path, moving: Frames) -> None:
    path = tmp_path / "giant.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("huffyuv", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 160, "rgb24"
        for pixels in moving[:3]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    place = data.index(b"strf") + 12  # width, then height
    data[place : place + 8] = (16384).to_bytes(4, "little") * 2
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fault(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_long_narrow_picture_is_too_large_once_it_is_resized(tmp_path: Path) -> None:
    path = tmp_path / "line.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("huffyuv", rate=25)
        stream.height, stream.width, stream.pix_fmt = 2, 8192, "rgb24"
        pixels = np.zeros((2, 8192, 3), np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    assert count_frames(path) == 1
    with pytest.raises(VideoError, match="has pictures of 1048576x256 pixels") as caught:
        read_frames(path, short_side=256)
    assert caught.value.kind == "too large"


def test_title_in_another_alphabet_is_no_damage(
    tmp_path: Path, write_video: Writer, moving: Frames
) -> None:
    path = tmp_path / "title.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Cafe XX"
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 160, "yuv420p"
        for pixels in moving[:5]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    assert b"Cafe XX" in data
    path.write_bytes(data.replace(b"Cafe XX", b"Caf\xe9 XX"))  # Latin-1, as old programs write it
    assert count_frames(path) == 5


def test_unknown_codec_is_undecodable(tmp_path: Path, write_video: Writer, moving: Frames) -> None:
    path = write_video(tmp_path / "a.mkv", moving[:5])
    data = path.read_bytes()
    assert b"V_MPEG4/ISO/AVC" in data
    path.write_bytes(data.replace(b"V_MPEG4/ISO/AVC", b"V_UNHEARD/OF/IT"))
    assert fault(path).kind == "undecodable"


def test_kinds_tell_apart_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all\n" * 50, encoding="utf-8")
    assert fault(tmp_path / "empty.mp4").kind == "empty"
    assert fault(tmp_path / "text.mp4").kind == "undecodable"
    assert fault(tmp_path / "nowhere.mp4").kind == "missing"
    assert fault(tmp_path).kind == "missing"


def test_kind_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(VideoError("It is empty.", "empty")))
    assert (str(error), error.kind) == ("It is empty.", "empty")
