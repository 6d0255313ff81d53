"""Video file to frames with PyAV, which carries FFmpeg: sequential, strict about damage.

One thread and no seeking: seeking returns frames one or two too early on files like UCF101's
(Xvid in AVI with packed B-frames). What is asked of frames is in `decode`.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from kinocell.data.decoded import (
    CUT_OFF_SHARE,
    MOST_PIXELS,
    DecodedFrame,
    Frame,
    check_size,
    ends_early,
)
from kinocell.errors import VideoError

NAME = f"PyAV {av.__version__}"

ENDS_IN_HEADER = ("matroska", "mov,", "flv")
"""Formats whose length is written down, and not guessed from the size of the file."""


def decoded(path: Path) -> Generator[DecodedFrame, None, None]:
    """All frames in the order in which they are shown.

    Raises:
        VideoError: No video, no video stream, pictures that are too large, a frame that is
            damaged, or fewer frames than the file lists.
    """
    count = 0
    first: float | None = None
    try:
        with _opened(path) as container:
            stream = _video_stream(container, path)
            held = _Held(container, stream)
            resizer = VideoReformatter()  # keeps its tables from frame to frame
            for packet in container.demux():
                held.add(packet)
                if packet.stream.index != stream.index:
                    continue
                for frame in packet.decode():
                    assert isinstance(frame, VideoFrame)
                    # The decoder has filled what it could not read with what was there before.
                    if frame.is_corrupt:
                        raise VideoError(f"{path} is damaged: frame {count} has errors.", "damaged")
                    time = float(count) if frame.time is None else float(frame.time)
                    first = time if first is None else first
                    count += 1
                    yield _frame(frame, time - first, resizer)
            held.check(path, count)
    except av.error.MemoryError as error:
        raise VideoError(
            f"{path} needs more memory to decode than there is.", "too large"
        ) from error
    except av.error.FFmpegError as error:
        reason = error.strerror or str(error)
        if count:
            raise VideoError(
                f"{path} is damaged: the decoder gave up after {count} frames ({reason}).",
                "damaged",
            ) from error
        raise VideoError(f"{path} is no video that can be decoded ({reason}).") from error


def listed_seconds(path: Path) -> list[float]:
    """When each packet of a file is shown; nothing is decoded, so this is quick but no promise.

    Raises:
        VideoError: The file cannot be opened.
    """
    times: list[float] = []
    try:
        with _opened(path) as container:
            for packet in container.demux(_video_stream(container, path)):
                if packet.size == 0:
                    continue
                if packet.pts is None or packet.time_base is None:
                    times.append(float(len(times)))
                else:
                    times.append(float(packet.pts * packet.time_base))
    except av.error.FFmpegError as error:
        if not times:
            raise VideoError(f"{path} is no video that can be decoded ({error}).") from error
    return times


def _opened(path: Path) -> InputContainer:
    return av.open(
        str(path.absolute()),
        # Only local files: a playlist in disguise must not reach out into the network.
        options={"protocol_whitelist": "file"},
        metadata_errors="replace",
    )


def _frame(frame: VideoFrame, seconds: float, resizer: VideoReformatter) -> DecodedFrame:
    turns = round(frame.rotation / 90) % 4  # counter-clockwise, as FFmpeg counts
    pixels = partial(_pixels, frame, resizer)
    return DecodedFrame(seconds, frame.height, frame.width, turns, pixels)


def _pixels(frame: VideoFrame, resizer: VideoReformatter, height: int, width: int) -> Frame:
    small = resizer.reformat(frame, width=width, height=height, format="rgb24", threads=1)
    return np.asarray(small.to_ndarray(), np.uint8)


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first moving picture; a cover picture in a music file is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if getattr(stream, "codec_context", None) is None:  # unlike what its type says
                raise VideoError(f"{path} is coded in a way that FFmpeg does not know.")
            check_size(path, stream.height or 0, stream.width or 0)
            stream.thread_type = "NONE"
            stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
            return stream
    kinds = sorted({stream.type for stream in container.streams})
    inside = f"only {', '.join(kinds)}" if kinds else "no stream at all"
    raise VideoError(f"{path} has no video stream; it holds {inside}.", "no video stream")


class _Held:
    """What a file announces, against what it turns out to hold."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._video = stream.index
        self._announced = stream.frames
        self._listed = sum(entry.size > 0 for entry in stream.index_entries)
        self._seconds = 0.0
        if not stream.frames and container.format.name.startswith(ENDS_IN_HEADER):
            start = container.start_time or 0
            self._seconds = ((container.duration or 0) + start) / av.time_base
        self._packets = 0
        self._end_seconds = 0.0

    def add(self, packet: av.Packet[Stream]) -> None:
        """Of any stream: sound may be longer than the picture."""
        self._packets += packet.stream.index == self._video and packet.size > 0
        if packet.pts is not None and packet.time_base is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            self._end_seconds = max(self._end_seconds, end)

    def check(self, path: Path, count: int) -> None:
        """Refuse a file with a hole, or one whose end is missing.

        An index knows best: an avi counts pauses as frames, so its header announces too many.
        """
        if self._listed and self._listed >= self._packets - 1:
            expected = float(self._listed)
        else:
            expected = CUT_OFF_SHARE * self._announced
        if self._packets < expected - 1:
            raise VideoError(
                f"{path} is cut off: it announces {self._announced} frames and holds {count}.",
                "truncated",
            )
        if ends_early(self._end_seconds, self._packets, self._seconds):
            raise VideoError(
                f"{path} is cut off: it announces {self._seconds:.1f} seconds and ends after "
                f"{self._end_seconds:.1f}.",
                "truncated",
            )
