"""Frames to the bytes that the frame store keeps: JPEG, or raw uint8.

Which file is decoded and what happens when it cannot be is `parts`; reading back is `frames`.
"""

from __future__ import annotations

import itertools
import zlib
from array import array
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from kinocell.errors import VideoError

Codec = Literal["jpeg", "raw"]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedVideo:
    """What is known of a video whose encoded frames lie in a file, one after the other."""

    num_frames: int
    source_frames: int
    """Frames that were decoded; more than `num_frames` where only some are kept."""
    height: int
    width: int
    fps: float
    """Of the video, whatever is kept of it."""
    seconds: float
    num_bytes: int
    crc32: int
    """Of the encoded frames and then, as int64, where each ends."""


def evenly_spaced(num_frames: int, keep: int) -> range | frozenset[int]:
    """The middle frame of each of `keep` equal slots; all frames where there are no more.

    These are the frames that testing with `keep` frames per clip takes (`sampling`), so it sees
    the same whether they or all frames were kept.

    >>> sorted(evenly_spaced(10, keep=4))
    [1, 3, 6, 8]
    """
    if keep == 0 or num_frames <= keep:
        return range(num_frames)
    edges = [slot * num_frames // keep for slot in range(keep + 1)]
    return frozenset((start + stop) // 2 for start, stop in itertools.pairwise(edges))


def encode_frames(
    frames: Iterable[tuple[float, Pixels | Callable[[], Pixels]]],
    codec: Codec,
    jpeg_quality: int,
    name: str,
    out: BinaryIO,
    wanted: Collection[int] | None = None,
) -> EncodedVideo:
    """Encode frames as they come, so that never more than one is in memory.

    Args:
        frames: The second that each frame is shown at, and its pixels `[H, W, 3]` or a function
            that makes them, called for the wanted ones only.
        codec: jpeg or raw.
        jpeg_quality: 1 to 100.
        name: Of the video, for messages.
        out: Gets the encoded frames, and after them where each ends, as int64.
        wanted: The numbers of the frames to keep; None keeps all.

    Raises:
        VideoError: The picture size changes within the video.
        OSError: `out` cannot be written.
    """
    seconds = array("d")
    ends = array("q")
    end = crc32 = 0
    shape: tuple[int, ...] = ()
    for number, (second, frame) in enumerate(frames):
        seconds.append(second)
        if wanted is not None and number not in wanted:
            continue
        pixels = frame() if callable(frame) else frame
        shape = shape or pixels.shape
        if pixels.shape != shape:
            raise VideoError(
                f"{name} changes its picture size after {number} frames.", "size changes"
            )
        data = _encoded(pixels, codec, jpeg_quality)
        out.write(data)
        crc32 = zlib.crc32(data, crc32)
        end += len(data)
        ends.append(end)
    if not seconds:
        raise VideoError(f"{name} has no frames.")
    out.write(ends.tobytes())
    crc32 = zlib.crc32(ends.tobytes(), crc32)
    # The times need not be sorted: packed B-frames are not.
    span = max(seconds) - min(seconds)
    fps = (len(seconds) - 1) / span if span > 0 else 0.0
    height, width = shape[:2] if shape else (0, 0)
    return EncodedVideo(
        num_frames=len(ends),
        source_frames=len(seconds),
        height=height,
        width=width,
        fps=fps,
        seconds=len(seconds) / fps if fps else 0.0,
        num_bytes=end,
        crc32=crc32,
    )


def _encoded(pixels: Pixels, codec: Codec, jpeg_quality: int) -> bytes:
    if codec == "raw":
        return pixels.tobytes()
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels),
        quality=jpeg_quality,
        colorspace="RGB",
        colorsubsampling="420",
    )
    return encoded
