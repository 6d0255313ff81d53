"""All frames of some videos in a GPU's memory, where clips are cut out of them.

What makes a clip is `jobs`; here the loader passes on the numbers of frames in the place of their
pixels, so that a step's clips travel as a few hundred bytes. The same clips to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinocell.console import progress, say
from kinocell.data.disk_space import size_text
from kinocell.data.file_frames import FileFrames
from kinocell.data.frames import FrameStore
from kinocell.errors import ConfigError

MARGIN = 0.5
"""Share of the free memory that frames may take; the rest is for the networks."""

NUMBER_BYTES = 8


class FrameNumbers:
    """A frame source that gives the numbers of frames, as bytes `[T, 1, 1, 8]`.

    Args:
        store: Where the videos are.
        first: int64 `[videos]`: number of each video's first frame.
    """

    frame_shape = (1, 1, NUMBER_BYTES)

    def __init__(self, store: FrameStore | FileFrames, first: NDArray[np.int64]) -> None:
        self.num_frames, self.heights, self.widths = (
            np.asarray(column) for column in (store.num_frames, store.heights, store.widths)
        )
        self._first = first

    def read(self, video: int, indices: Sequence[int]) -> NDArray[np.uint8]:
        """The numbers of frames of one video, in the order asked."""
        numbers: NDArray[np.int64] = self._first[video] + np.asarray(indices, np.int64)
        packed: NDArray[np.uint8] = numbers.view(np.uint8).reshape(-1, *self.frame_shape)
        return packed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resident:
    """Frames on a device."""

    frames: Tensor
    """uint8 `[F, H, W, 3]`, all of one size."""

    numbers: FrameNumbers
    """In the place of the store that they come from."""

    def clips(self, numbers: Tensor) -> Tensor:
        """Uncut clips, uint8 `[N, 3, T, H, W]`, of what a job has made of `numbers`.

        Args:
            numbers: uint8 `[N, 8, T, 1, 1]`, as a batch's clips lie.
        """
        flat = numbers.permute(0, 2, 3, 4, 1).contiguous().flatten(2).view(torch.int64)
        places = flat.squeeze(2).to(self.frames.device, non_blocking=True)
        return self.frames[places].permute(0, 4, 1, 2, 3)


def resident(
    store: FrameStore | FileFrames,
    rows: NDArray[np.int64],
    device: torch.device,
    *,
    mode: Literal["auto", "on", "off"],
    free_bytes: int | None,
) -> Resident | None:
    """Load the frames of these videos, where that is wanted and they fit.

    Args:
        store: The frames.
        rows: Videos.
        device: A GPU.
        mode: "auto": where they fit; "on": or an error.
        free_bytes: Of the device.

    Returns:
        None where frames are to be loaded batch by batch.

    Raises:
        ConfigError: "on", and they do not fit, or have several sizes, or the device is no GPU.
    """
    size = resident_bytes(store, rows, device, mode=mode, free_bytes=free_bytes)
    if not size:
        return None
    say(f"frames: {size_text(size)} are loaded into the memory of {device}")
    return loaded(store, rows, device)


def resident_bytes(
    store: FrameStore | FileFrames,
    rows: NDArray[np.int64],
    device: torch.device,
    *,
    mode: Literal["auto", "on", "off"],
    free_bytes: int | None,
) -> int:
    """What the frames take that `resident` would load, with the same arguments and errors."""
    if mode == "off":
        return 0
    if why_not := _obstacle(store, rows, device, free_bytes):
        if mode == "on":
            raise ConfigError(f"resident is on, but {why_not}. Use --resident auto.")
        return 0
    return _size(store, rows)


def _obstacle(
    store: FrameStore | FileFrames,
    rows: NDArray[np.int64],
    device: torch.device,
    free_bytes: int | None,
) -> str:
    """Why frames cannot be resident, or an empty string."""
    if device.type != "cuda":
        return "the device is a CPU, which has the store in its memory as far as there is room"
    if not one_size(store, rows):
        return "the videos have frames of several sizes"
    room, size = MARGIN * (free_bytes or 0), _size(store, rows)
    if size > room:
        return (
            f"the frames take {size_text(size)} and {size_text(room)} are to be had on {device}; "
            "--frames-per-video in `prepare` keeps fewer"
        )
    return ""


def one_size(store: FrameStore | FileFrames, rows: NDArray[np.int64]) -> bool:
    """Whether the frames of these videos are all as high and as wide."""
    heights, widths = store.heights[rows], store.widths[rows]
    return bool((heights == heights[0]).all() and (widths == widths[0]).all())


def _size(store: FrameStore | FileFrames, rows: NDArray[np.int64]) -> int:
    return int((store.num_frames[rows] * store.heights[rows] * store.widths[rows] * 3).sum())


def loaded(
    store: FrameStore | FileFrames, rows: NDArray[np.int64], device: torch.device
) -> Resident:
    """The frames of these videos, all of one size, on any device."""
    counts = store.num_frames[rows]
    first = np.full(len(store), -1, np.int64)
    first[rows] = np.cumsum(counts) - counts
    shape = (int(counts.sum()), int(store.heights[rows[0]]), int(store.widths[rows[0]]), 3)
    frames = torch.empty(shape, dtype=torch.uint8, device=device)
    for row in progress(rows.tolist(), label="load", total=len(rows), unit="videos"):
        start, count = int(first[row]), int(store.num_frames[row])
        frames[start : start + count] = torch.from_numpy(store.read(row, range(count))).to(device)
    return Resident(frames=frames, numbers=FrameNumbers(store, first))
