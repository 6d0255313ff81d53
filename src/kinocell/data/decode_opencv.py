"""Video file to frames with OpenCV, for machines without PyAV: sequential, never seeks.

OpenCV hides what FFmpeg says of damage: pictures that were patched up, and where decoding gave
up. So less is found here than by `decode_pyav`; a file that is cut off still is.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from functools import partial
from pathlib import Path

# Only local files: a playlist in disguise must not reach out into the network. OpenCV has no
# argument for this; it reads the variable when a file is opened.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "protocol_whitelist;file")
# Otherwise FFmpeg writes to the terminal (AV_LOG_QUIET); every fault is raised here.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from kinocell.data.decoded import (
    CUT_OFF_SHARE,
    DecodedFrame,
    Frame,
    check_size,
    ends_early,
)
from kinocell.errors import VideoError

NAME = f"OpenCV {cv2.__version__}"

COUNTED_SUFFIXES = (".avi", ".mp4", ".m4v", ".mov")
"""Their headers hold a number of frames."""

TIMED_SUFFIXES = (".mkv", ".webm", ".flv")
"""Their headers hold a length, of which OpenCV makes up a number of frames."""

MILLISECONDS = 1000.0


def decoded(path: Path) -> Generator[DecodedFrame, None, None]:
    """All frames in the order in which they are shown.

    Raises:
        VideoError: No video, pictures that are too large, or fewer frames than the file lists.
    """
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise VideoError(f"{path} is no video that OpenCV can open.")
        height, width = (
            int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
        )
        check_size(path, height, width)
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # turned in `decoded`, as for all decoders
        turns = -round(capture.get(cv2.CAP_PROP_ORIENTATION_META) / 90) % 4  # clockwise there
        announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        interval_seconds = 1 / max(capture.get(cv2.CAP_PROP_FPS), 1.0)
        count, first, before = 0, 0.0, 0.0
        while capture.grab():
            time = capture.get(cv2.CAP_PROP_POS_MSEC) / MILLISECONDS
            if count and not time:  # the last ones of a file with B-frames come without a time
                time = before + interval_seconds
            first, before = first if count else time, time
            picture = _picture(capture, path, count)
            yield DecodedFrame(
                time - first, picture.shape[0], picture.shape[1], turns, partial(_pixels, picture)
            )
            count += 1
    finally:
        capture.release()
    suffix = path.suffix.lower()
    if suffix in COUNTED_SUFFIXES and count < CUT_OFF_SHARE * announced - 1:
        raise VideoError(
            f"{path} is cut off: it announces {announced:.0f} frames and holds {count}.",
            "truncated",
        )
    length, end = announced * interval_seconds, before - first + interval_seconds
    if suffix in TIMED_SUFFIXES and ends_early(end, count, length):
        raise VideoError(
            f"{path} is cut off: it announces {length:.1f} seconds and ends after {end:.1f}.",
            "truncated",
        )


def _picture(capture: cv2.VideoCapture, path: Path, count: int) -> Frame:
    """The grabbed frame in OpenCV's order of colours."""
    read, picture = capture.retrieve()
    if not read:
        raise VideoError(f"{path} is damaged: frame {count} has no picture.", "damaged")
    return np.asarray(picture, np.uint8)


def _pixels(picture: Frame, height: int, width: int) -> Frame:
    if picture.shape[:2] != (height, width):
        smaller = height < picture.shape[0]
        # Averages where pixels are lost, as FFmpeg's bilinear does; no averaging where none are.
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=how), np.uint8)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
