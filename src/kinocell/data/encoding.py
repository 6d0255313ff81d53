"""Frames to the bytes that the frame store keeps: JPEG, or raw uint8.

Reading them back is `frames`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from kinocell.errors import VideoError


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedVideo:
    """A video's frames, ready to be appended."""

    num_frames: int
    height: int
    width: int
    fps: float
    seconds: float
    sizes: tuple[int, ...]
    """Bytes of each encoded frame."""
    data: bytes
    """The encoded frames, one after the other."""


def encode_frames(
    frames: Iterator[tuple[float, NDArray[np.uint8]]],
    codec: Literal["jpeg", "raw"],
    jpeg_quality: int,
    name: str,
) -> EncodedVideo:
    """Encode frames as they come, so that only the encoded ones are in memory.

    Args:
        frames: The second that each frame is shown at, and its pixels `[H, W, 3]`.
        codec: jpeg or raw.
        jpeg_quality: 1 to 100.
        name: Of the video, for messages.

    Raises:
        VideoError: The picture size changes within the video.
    """
    seconds: list[float] = []
    encoded: list[bytes] = []
    shape: tuple[int, ...] = ()
    for second, pixels in frames:
        shape = shape or pixels.shape
        if pixels.shape != shape:
            raise VideoError(
                f"{name} changes its picture size after {len(seconds)} frames.", "size changes"
            )
        seconds.append(second)
        if codec == "jpeg":
            encoded.append(
                simplejpeg.encode_jpeg(
                    pixels, quality=jpeg_quality, colorspace="RGB", colorsubsampling="420"
                )
            )
        else:
            encoded.append(pixels.tobytes())
    if not seconds:
        raise VideoError(f"{name} has no frames.")
    span = max(seconds) - min(seconds)  # the times need not be sorted: packed B-frames are not
    fps = (len(seconds) - 1) / span if span > 0 else 0.0
    return EncodedVideo(
        num_frames=len(seconds),
        height=shape[0],
        width=shape[1],
        fps=fps,
        seconds=len(seconds) / fps if fps else 0.0,
        sizes=tuple(map(len, encoded)),
        data=b"".join(encoded),
    )
