"""Frames to a video file, with PyAV: what the embedded data set is written with.

Reading is `decode`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kinocell import runs
from kinocell.data.decoded import Frame
from kinocell.errors import ConfigError

MPEG4_BITS_PER_SECOND = 1_500_000


def write_frames(path: Path, frames: Iterable[Frame], frames_per_second: int) -> None:
    """Encode frames as a video file: H.264 for .mp4, MPEG-4 tagged XVID for .avi.

    Args:
        path: Ends in .mp4 or .avi.
        frames: uint8 `[H, W, 3]` in RGB, all of one size with even sides.
        frames_per_second: Of the file.

    Raises:
        ConfigError: PyAV is not installed.
        RunError: The disk is full or the folder cannot be written.
    """
    try:
        import av
        from av.video.frame import VideoFrame
    except ImportError as error:
        raise ConfigError(
            "The embedded videos are written with PyAV, which is not installed. Name videos of "
            "your own with --data, or `pip install av`."
        ) from error
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
