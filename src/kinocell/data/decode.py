"""Video file to uint8 frames, and back: the only file that knows a decoder (PyAV).

Decoding is sequential and in one thread: seeking returns frames one or two too early on files
like UCF101's (Xvid in AVI with packed B-frames). Frames are counted, never taken from a header.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from kinocell import runs
from kinocell.errors import VideoError

DECODER = f"PyAV {av.__version__}"
"""Part of the key of the frame store."""

CUT_OFF_SHARE = 0.95
"""A file that holds fewer than this share of the frames it announces is cut off."""

ROUNDING_SECONDS = 1e-6
"""Files keep times as fractions: a frame at 1.2 seconds is not in front of 1.2000000000000002."""

MPEG4_BITS_PER_SECOND = 1_500_000

Frame = NDArray[np.uint8]


class TimedFrame(NamedTuple):
    """A decoded frame `[H, W, 3]` and when it is shown, in seconds from the first frame."""

    seconds: float
    pixels: Frame


def stream_frames(
    path: Path | str,
    short_side: int | None = None,
    *,
    start_seconds: float = 0.0,
    end_seconds: float = math.inf,
) -> Iterator[TimedFrame]:
    """Decode one frame after the other, so that a long video is never in memory as a whole.

    Args:
        path: The video file.
        short_side: Resize so that the shorter side has this many pixels; None keeps the size.
        start_seconds: Frames shown in `[start_seconds, end_seconds)` are kept.
        end_seconds: See `start_seconds`.

    Raises:
        VideoError: The file is missing, empty, no video, without picture, cut off or damaged.
    """
    nothing = True
    for seconds, frame in _decoded(Path(path), start_seconds, end_seconds):
        nothing = False
        yield TimedFrame(seconds, _pixels(frame, short_side))
    if nothing:
        if start_seconds > 0 or end_seconds < math.inf:
            raise VideoError(
                f"{path} shows no frame between {start_seconds:g} and {end_seconds:g} seconds."
            )
        raise VideoError(f"{path} has a video stream without a single frame.")


def read_frames(
    path: Path | str,
    indices: Sequence[int] | None = None,
    short_side: int | None = None,
    *,
    start_seconds: float = 0.0,
    end_seconds: float = math.inf,
) -> NDArray[np.uint8]:
    """The frames of a video, exactly, as uint8 `[T, H, W, 3]`.

    Args:
        path: The video file.
        indices: Which frames, in the order wanted, repeats allowed; None means all.
        short_side: Resize so that the shorter side has this many pixels; None keeps the size.
        start_seconds: Frame 0 is the first one shown at or after this time.
        end_seconds: Frames shown at or after this time do not count.

    Raises:
        VideoError: The file cannot be decoded, or has too few frames for `indices`.
    """
    if indices is not None and len(indices) == 0:
        raise ValueError("No frames are asked for; leave `indices` out to read all.")
    if indices is not None and min(indices) < 0:
        raise ValueError(f"Frame {min(indices)} is asked for; frames count from 0.")
    wanted = None if indices is None else set(indices)
    last = math.inf if wanted is None else max(wanted)
    found: dict[int, Frame] = {}
    number = -1
    frames = _decoded(Path(path), start_seconds, end_seconds)
    for number, (_, frame) in enumerate(frames):
        if wanted is None or number in wanted:
            found[number] = _pixels(frame, short_side)
        if number == last:
            frames.close()
            break
    if number < 0 or (wanted is not None and number < last):
        raise VideoError(
            f"{path} has {number + 1} frames"
            + ("." if wanted is None else f"; frame {last} was asked for.")
        )
    order = range(number + 1) if indices is None else indices
    first = found[order[0]]
    if any(frame.shape != first.shape for frame in found.values()):
        raise VideoError(f"{path} changes its picture size on the way.")
    return np.stack([found[index] for index in order])


def count_frames(path: Path | str) -> int:
    """Frames of a video, counted by decoding it; nothing is kept in memory.

    Raises:
        VideoError: The file cannot be decoded.
    """
    return sum(1 for _ in _decoded(Path(path), 0.0, math.inf))


def write_frames(path: Path, frames: Iterable[Frame], frames_per_second: int) -> None:
    """Encode frames as a video file: H.264 for .mp4, MPEG-4 tagged XVID for .avi.

    Args:
        path: Ends in .mp4 or .avi.
        frames: uint8 `[H, W, 3]` in RGB, all of one size with even sides.
        frames_per_second: Of the file.

    Raises:
        RunError: The disk is full or the folder cannot be written.
    """
    h264 = path.suffix == ".mp4" and "libx264" in av.codecs_available
    options = {"preset": "ultrafast", "crf": "16"} if h264 else {}
    try:
        with av.open(str(path.absolute()), "w") as container:
            stream = container.add_stream(
                "libx264" if h264 else "mpeg4", rate=frames_per_second, options=options
            )
            stream.pix_fmt = "yuv420p"
            stream.codec_context.thread_count = 1
            if not h264:
                stream.bit_rate = MPEG4_BITS_PER_SECOND
            if path.suffix == ".avi":
                stream.codec_context.codec_tag = "XVID"
            for number, pixels in enumerate(frames):
                if number == 0:
                    stream.height, stream.width = pixels.shape[:2]
                container.mux(stream.encode(VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
    except av.error.FFmpegError as error:
        raise runs.disk_error(path, OSError(error.errno, error.strerror)) from error


def _decoded(
    path: Path, start_seconds: float, end_seconds: float
) -> Generator[tuple[float, VideoFrame], None, None]:
    """Decoded frames with the second that each is shown at."""
    _check_file(path)
    count = num_packets = 0
    first: float | None = None
    try:
        # Only local files: a playlist in disguise must not reach out into the network.
        with av.open(str(path.absolute()), options={"protocol_whitelist": "file"}) as container:
            stream = _video_stream(container, path)
            for packet in container.demux(stream):
                num_packets += packet.size > 0
                for frame in packet.decode():
                    time = float(count) if frame.time is None else float(frame.time)
                    first = time if first is None else first
                    count += 1
                    seconds = time - first
                    if seconds >= end_seconds - ROUNDING_SECONDS:
                        return
                    if seconds >= start_seconds - ROUNDING_SECONDS:
                        yield seconds, frame
            announced = stream.frames
    except av.error.MemoryError as error:
        raise VideoError(f"{path} needs more memory to decode than there is.") from error
    except av.error.FFmpegError as error:
        reason = error.strerror or str(error)
        if count:
            raise VideoError(
                f"{path} is cut off or damaged: the decoder gave up after {count} frames "
                f"({reason})."
            ) from error
        raise VideoError(f"{path} is no video that can be decoded ({reason}).") from error
    if num_packets < CUT_OFF_SHARE * announced - 1:
        raise VideoError(f"{path} is cut off: it announces {announced} frames and holds {count}.")


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise VideoError(f"{path} is a folder, not a video file.")
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty (0 bytes).")
    except FileNotFoundError as error:
        raise VideoError(f"{path} does not exist.") from error
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror or error}.") from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first moving picture; a cover picture in a music file is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            stream.thread_type = "NONE"
            return stream
    kinds = sorted({stream.type for stream in container.streams})
    inside = f"only {', '.join(kinds)}" if kinds else "no stream at all"
    raise VideoError(f"{path} has no video stream; it holds {inside}.")


def _pixels(frame: VideoFrame, short_side: int | None) -> Frame:
    """RGB `[H, W, 3]`, resized in the same call, turned upright as a player would."""
    width, height = frame.width, frame.height
    if short_side is not None:
        scale = short_side / min(width, height)
        width, height = max(round(width * scale), 1), max(round(height * scale), 1)
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height, threads=1)
    turns = round(frame.rotation / 90) % 4  # quarter turns counter-clockwise, as FFmpeg counts
    return np.ascontiguousarray(np.rot90(pixels, turns)).astype(np.uint8, copy=False)
