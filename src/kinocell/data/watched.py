"""Frame sources for looking at a stream of clips: one remembers what is read, one is blank.

They stand in the place of a frame store for as long as clips are made in this process.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kinocell.data.file_frames import FileFrames
from kinocell.data.frames import FrameStore


class WatchedFrames:
    """A frame source that remembers which frames were read."""

    def __init__(self, source: FrameStore | FileFrames) -> None:
        self._source = source
        self._reads: list[tuple[int, tuple[int, ...]]] = []
        self.num_frames, self.heights, self.widths = (
            source.num_frames,
            source.heights,
            source.widths,
        )

    def read(self, video: int, indices: Sequence[int]) -> NDArray[np.uint8]:
        """As the source does it."""
        self._reads.append((video, tuple(int(index) for index in indices)))
        return self._source.read(video, indices)

    def taken(self) -> list[tuple[int, tuple[int, ...]]]:
        """(video, frames) of every reading since this was last asked."""
        reads, self._reads = self._reads, []
        return reads


class BlankFrames:
    """A frame source for finding out the order of videos: one black pixel for any frame."""

    def __init__(self, num_videos: int) -> None:
        self.num_frames = np.ones(num_videos, np.int64)
        self.heights = self.widths = self.num_frames

    def read(self, _video: int, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Black."""
        return np.zeros((len(indices), 1, 1, 3), np.uint8)
