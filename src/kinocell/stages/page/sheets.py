"""Contact sheets: clips as rows of frames in one picture, and that picture as PNG.

Which clips, and what is said of them, is `show`'s business.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinocell.data.transforms import MEAN, STD

GAP_PX = 2
"""Between frames and between rows, in white."""

GREY = 127.5
"""No change, in a picture of differences."""

Pixels = NDArray[np.uint8]


def seen_pixels(inputs: Tensor, kind: Literal["rgb", "difference"]) -> Pixels:
    """What the network is given, as pixels again: float `[N, 3, T, H, W]` -> `[N, T, H, W, 3]`.

    Frames come back exactly. A difference lies around grey at half its size, so that the largest
    ones, from black to white, still fit.
    """
    scaled = inputs * (STD * 255)
    scaled = scaled + MEAN * 255 if kind == "rgb" else scaled / 2 + GREY
    found: Pixels = scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1).numpy()
    return found


def sheet(clips: Sequence[Pixels]) -> Pixels:
    """Clips `[T, H, W, 3]` of one size below each other: `[rows, columns, 3]`.

    Row r, frame t begins at pixel `(r (H + GAP_PX), t (W + GAP_PX))`.
    """
    num_frames, height, width = clips[0].shape[:3]
    shape = len(clips) * (height + GAP_PX) - GAP_PX, num_frames * (width + GAP_PX) - GAP_PX, 3
    picture = np.full(shape, 255, np.uint8)
    for row, clip in enumerate(clips):
        top = row * (height + GAP_PX)
        for time, frame in enumerate(clip):
            left = time * (width + GAP_PX)
            picture[top : top + height, left : left + width] = frame
    return picture


def png(picture: Pixels) -> bytes:
    """A picture `[H, W, 3]` as PNG (W3C PNG, 3rd edition): 8-bit RGB, rows unfiltered.

    The standard library does it, so that it needs no video encoder.
    """
    height, width = picture.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = picture.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
