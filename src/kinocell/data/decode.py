"""Video file to uint8 frames, and back: the only file that knows a decoder (PyAV).

Decoding is sequential and in one thread: seeking returns frames one or two too early on files
like UCF101's (Xvid in AVI with packed B-frames). Frames are counted, never taken from a header.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from kinocell import runs
from kinocell.errors import VideoError

DECODER = f"PyAV {av.__version__}"
"""Part of the key of the frame store."""

CUT_OFF_SHARE = 0.95
"""A file that holds fewer than this share of the frames it announces is cut off."""

MOST_PIXELS = 2**26
"""Of one frame, as coded: 8192 x 8192. A decoder keeps up to 16 frames of 1.5 bytes per pixel."""

LONGEST_SIDE_PX = 16384
"""Of a frame once resized."""

ROUNDING_SECONDS = 1e-6
"""Files keep times as fractions: a frame at 1.2 seconds is not in front of 1.2000000000000002."""

MPEG4_BITS_PER_SECOND = 1_500_000

Frame = NDArray[np.uint8]


class TimedFrame(NamedTuple):
    """A decoded frame `[H, W, 3]` and when it is shown, in seconds from the first frame."""

    seconds: float
    pixels: Frame


class LazyFrame(NamedTuple):
    """A decoded frame whose pixels `[H, W, 3]` are made when they are asked for."""

    seconds: float
    pixels: Callable[[], Frame]


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
    lazy = lazy_frames(path, short_side, start_seconds=start_seconds, end_seconds=end_seconds)
    for seconds, pixels in lazy:
        yield TimedFrame(seconds, pixels())


def lazy_frames(
    path: Path | str,
    short_side: int | None = None,
    *,
    start_seconds: float = 0.0,
    end_seconds: float = math.inf,
) -> Iterator[LazyFrame]:
    """As `stream_frames`, for who needs all times but not all pixels: resizing costs the most.

    A frame's pixels have to be asked for before the next frame is.

    Raises:
        VideoError: As `stream_frames`; `pixels` too, where a resized frame would be too long.
    """
    nothing = True
    resizer = VideoReformatter()  # keeps its tables from frame to frame
    for seconds, frame in _decoded(Path(path), start_seconds, end_seconds):
        nothing = False
        yield LazyFrame(seconds, functools.partial(_pixels, frame, short_side, resizer, path))
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
    resizer = VideoReformatter()
    for number, (_, frame) in enumerate(frames):
        if wanted is None or number in wanted:
            found[number] = _pixels(frame, short_side, resizer, path)
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


def count_packets(
    path: Path | str, *, start_seconds: float = 0.0, end_seconds: float = math.inf
) -> int:
    """How many frames a video seems to have: nothing is decoded, so it is quick but no promise.

    Raises:
        VideoError: The file cannot be opened.
    """
    path = Path(path)
    _check_file(path)
    times: list[float] = []
    try:
        with _opened(path) as container:
            for packet in container.demux(_video_stream(container, path)):
                if packet.size > 0:
                    time = None if packet.pts is None else packet.pts * packet.time_base
                    times.append(len(times) if time is None else float(time))
    except av.error.FFmpegError as error:
        if not times:
            raise VideoError(f"{path} is no video that can be decoded ({error}).") from error
    first = min(times, default=0.0)
    return sum(start_seconds <= time - first < end_seconds for time in times)


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
        with _opened(path) as container:
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
                    # Times may be damaged and run backwards: no frame of a whole file is left out.
                    if start_seconds == 0 or seconds >= start_seconds - ROUNDING_SECONDS:
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


def _opened(path: Path) -> InputContainer:
    return av.open(
        str(path.absolute()),
        # Only local files: a playlist in disguise must not reach out into the network.
        options={"protocol_whitelist": "file"},
        metadata_errors="replace",
    )


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
            if stream.codec_context is None:
                raise VideoError(f"{path} has pictures of a kind that no decoder is known for.")
            _check_size(stream, path)
            stream.thread_type = "NONE"
            # The size may also change on the way.
            stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
            return stream
    kinds = sorted({stream.type for stream in container.streams})
    inside = f"only {', '.join(kinds)}" if kinds else "no stream at all"
    raise VideoError(f"{path} has no video stream; it holds {inside}.")


def _check_size(stream: VideoStream, path: Path) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MOST_PIXELS:
        raise VideoError(
            f"{path} claims frames of {width} x {height} pixels; more than {MOST_PIXELS} pixels "
            "are not decoded."
        )


def _pixels(
    frame: VideoFrame, short_side: int | None, resizer: VideoReformatter, path: Path | str
) -> Frame:
    """RGB `[H, W, 3]`, resized in the same call, turned upright as a player would."""
    width, height = frame.width, frame.height
    if short_side is not None:
        scale = short_side / min(width, height)
        width, height = max(round(width * scale), 1), max(round(height * scale), 1)
    if max(width, height) > LONGEST_SIDE_PX:
        raise VideoError(
            f"{path} has frames of {frame.width} x {frame.height} pixels; with a short side of "
            f"{short_side} they would be {width} x {height}, and {LONGEST_SIDE_PX} is the limit."
        )
    small = resizer.reformat(frame, width=width, height=height, format="rgb24", threads=1)
    pixels = small.to_ndarray()
    turns = round(frame.rotation / 90) % 4  # quarter turns counter-clockwise, as FFmpeg counts
    return np.ascontiguousarray(np.rot90(pixels, turns)).astype(np.uint8, copy=False)
