"""A decoded frame as every decoder hands it over, and the bounds that hold for all of them.

No decoder is known here; which one is used is decided in `decode`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinocell.data.container_size import missing_bytes
from kinocell.errors import VideoError

MOST_PIXELS = 2**26
"""Of a picture: 8192 x 8192. A damaged header asks for gigabytes."""

LONGEST_SIDE_PX = 16384
"""Of a picture, also once it is resized: a long, narrow one grows with its short side."""

CUT_OFF_SHARE = 0.95
"""A file that holds fewer than this share of the frames or seconds it announces is cut off."""

END_SLACK_SECONDS = 0.2
END_SLACK_FRAMES = 2
"""The end of a video is known so well: not every file says how long its last frame is shown."""

Frame = NDArray[np.uint8]


class DecodedFrame(NamedTuple):
    """A frame that lies in the decoder's memory; making pixels of it is up to the reader."""

    seconds: float
    """When it is shown, from the first frame."""

    height: int
    width: int
    """As it is stored, before turning."""

    quarter_turns: int
    """Counter-clockwise, to stand upright."""

    pixels: Callable[[int, int], Frame]
    """RGB `[H, W, 3]` in this height and width, not turned."""


def upright(frame: DecodedFrame, short_side: int | None, name: Path) -> Frame:
    """RGB `[H, W, 3]`, resized in one step with the colours, turned as a player would.

    Raises:
        VideoError: The resized picture would be too large: a very long, very narrow one.
    """
    height, width = resized(frame.height, frame.width, short_side)
    check_size(name, height, width)
    pixels = np.rot90(frame.pixels(height, width), frame.quarter_turns)
    return np.ascontiguousarray(pixels).astype(np.uint8, copy=False)


def resized(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Height and width where the shorter side has `short_side` pixels.

    >>> resized(240, 320, 128)
    (128, 171)
    """
    if short_side is None:
        return height, width
    scale = short_side / min(height, width)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def ends_early(end_seconds: float, num_frames: int, announced_seconds: float) -> bool:
    """Whether a video ends clearly before its header says.

    >>> ends_early(2.32, num_frames=58, announced_seconds=2.4)
    False
    >>> ends_early(1.84, num_frames=46, announced_seconds=2.4)
    True
    """
    frame_seconds = end_seconds / max(num_frames, 1)
    slack = max(END_SLACK_FRAMES * frame_seconds, END_SLACK_SECONDS)
    return end_seconds + slack < CUT_OFF_SHARE * announced_seconds


def check_size(name: Path, height: int, width: int) -> None:
    """Refuse what would fill the memory, before anything is allocated.

    Raises:
        VideoError: More than `MOST_PIXELS`, or a side above `LONGEST_SIDE_PX`.
    """
    if height * width > MOST_PIXELS or max(height, width) > LONGEST_SIDE_PX:
        raise VideoError(
            f"{name} has pictures of {width}x{height} pixels, more than 2**26 = 8192 x 8192 or "
            f"{LONGEST_SIDE_PX} on a side. If it is not damaged, make it smaller first.",
            "too large",
        )


def check_file(path: Path) -> None:
    """Refuse what is no whole file, before a decoder sees it.

    Raises:
        VideoError: A file that is missing, a folder, empty, or shorter than it says it is.
    """
    try:
        if path.is_dir():
            raise VideoError(f"{path} is a folder, not a video file.", "missing")
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty (0 bytes).", "empty")
        missing = missing_bytes(path)
    except FileNotFoundError as error:
        raise VideoError(f"{path} does not exist.", "missing") from error
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror or error}.", "missing") from error
    if missing:
        raise VideoError(
            f"{path} is cut off: the last {missing} bytes of what it announces are missing.",
            "truncated",
        )
