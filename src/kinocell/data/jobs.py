"""Making clips: which frames and which pixels of a video, and the jobs that fill whole batches.

Where jobs run is `loading`; what is made of the batches is `clips`. A clip of the training stream
is a function of (seed, its position in the stream), so it does not matter who makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinocell.config import AugmentConfig, ClipsConfig
from kinocell.data import augmentation, sampling, transforms
from kinocell.data.transforms import Box

EPOCH_ORDER, CLIP_DRAWS, AUGMENT_DRAWS = 0, 1, 2
"""Names of the random streams, so that they never share a seed."""

NOTHING_MORE = AugmentConfig()


class FrameSource(Protocol):
    """Where frames come from: a frame store, or the video files themselves."""

    num_frames: NDArray[np.int64]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]

    def read(self, video: int, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Frames of one video as uint8 `[T, H, W, 3]`, in the order asked."""


def num_clip_frames(clips: ClipsConfig) -> int:
    """T, the frames that the network sees of one clip: Ns x Nr."""
    return clips.segments * clips.frames_per_segment


def clip_indices(
    num_frames: int,
    clips: ClipsConfig,
    generator: torch.Generator | None = None,
    *,
    span_min: float = 1.0,
) -> list[int]:
    """The frames to read for one clip; the centred one without a generator.

    Args:
        num_frames: Of the video.
        clips: Segments, frames per segment, input.
        generator: Draws a frame of each slot.
        span_min: Below 1 a part of the video is drawn first, and the slots are cut from that.
    """
    start, stop = 0, num_frames
    if generator is not None and span_min < 1:
        start, stop = sampling.random_span(num_frames, span_min, generator)
    indices = sampling.segment_indices(
        stop - start, clips.segments, clips.frames_per_segment, generator
    )
    return _with_successors([start + index for index in indices], num_frames, clips)


def view_clip_indices(num_frames: int, clips: ClipsConfig, views: int) -> list[list[int]]:
    """The frames to read for each of several test clips of one video."""
    found = sampling.view_indices(num_frames, clips.segments, clips.frames_per_segment, views)
    return [_with_successors(indices, num_frames, clips) for indices in found]


def _with_successors(indices: list[int], num_frames: int, clips: ClipsConfig) -> list[int]:
    if clips.input == "difference":
        return sampling.adjacent_pairs(indices, num_frames)
    return indices


def random_cut(
    height: int,
    width: int,
    clips: ClipsConfig,
    generator: torch.Generator,
    *,
    aspect_max: float = 1.0,
) -> tuple[Box, bool]:
    """What is cut out of all frames of a training clip, and whether it is mirrored."""
    box = transforms.random_box(
        height, width, clips.crop_min, clips.crop_max, generator, aspect_max=aspect_max
    )
    return box, clips.flip and bool(torch.rand((), generator=generator) < 0.5)


def clip_tensor(
    frames: NDArray[np.uint8],
    clips: ClipsConfig,
    *,
    size_px: int | None = None,
    cut: tuple[Box, bool] | None = None,
) -> Tensor:
    """Frames `[T, H, W, 3]` cropped, resized and flipped: uint8 `[3, T, size, size]`.

    Args:
        frames: As stored.
        clips: Crop and size.
        size_px: Other than `clips.size_px`, if given.
        cut: From `random_cut`. None crops the centre.
    """
    height, width = frames.shape[1:3]
    box, mirrored = cut or (transforms.centre_box(height, width, clips.crop_max), False)
    clip = torch.from_numpy(frames).permute(3, 0, 1, 2)
    clip = transforms.resize(transforms.crop(clip, box), size_px or clips.size_px)
    return transforms.flip(clip) if mirrored else clip


def view_clips(
    frames: NDArray[np.uint8], clips: ClipsConfig, crops: int, *, size_px: int | None = None
) -> list[Tensor]:
    """The test clips that are cut out of the frames of one view, one per crop.

    Args:
        frames: `[T, H, W, 3]`, as stored.
        clips: Crop and size.
        crops: How many squares; one is the centre.
        size_px: Other than `clips.size_px`, if given.
    """
    height, width = frames.shape[1:3]
    boxes = transforms.crop_boxes(height, width, clips.crop_max, crops)
    return [clip_tensor(frames, clips, size_px=size_px, cut=(box, False)) for box in boxes]


class TrainingJob:
    """Batch number `step` of the training stream.

    It gives the rows `[N]`, the cuts `[N, 5]` (top, left, height, width, mirrored) and the draws
    of the augmentation `[N, D]` beside the pixels.

    Args:
        source: The frames.
        rows: Videos to draw from.
        clips: Which frames, crop, flip, size.
        augment: What else is varied.
        batch_size: Clips per batch.
        seed: Of the order and of all draws.
        size_px: Side of the clips.
        part: Which of `parts` equal parts of every batch is made.
        parts: Processes that share the batches; `batch_size` is a multiple of it.
        uncut: The frames are left as they are, and cut on the device; they have one size.
        frame_shape: What `source` gives for a frame, where it is not its pixels.
    """

    def __init__(
        self,
        source: FrameSource,
        rows: NDArray[np.int64],
        clips: ClipsConfig,
        augment: AugmentConfig,
        *,
        batch_size: int,
        seed: int,
        size_px: int,
        uncut: bool,
        frame_shape: tuple[int, ...] | None = None,
        part: int = 0,
        parts: int = 1,
    ) -> None:
        self._source, self._rows, self._clips, self._augment = source, rows, clips, augment
        self._batch_size, self._seed, self._size_px, self._uncut = batch_size, seed, size_px, uncut
        self._count = batch_size // parts
        self._offset = part * self._count
        self._epoch, self._order = -1, rows
        size = (size_px, size_px)
        if uncut:
            size = (int(source.heights[rows[0]]), int(source.widths[rows[0]]))
        shape = frame_shape or (*size, 3)
        self.shape: tuple[int, ...] = (self._count, _frames_read(clips), *shape)

    def __call__(
        self, step: int, out: NDArray[np.uint8], at: NDArray[np.int64]
    ) -> tuple[NDArray[Any], ...]:
        first = step * self._batch_size + self._offset
        positions = range(first, first + self._count)
        rows = np.array([self._row(position) for position in positions])
        cuts = np.empty((self._count, 5), np.int64)
        for place, position in enumerate(positions):
            at[0] = rows[place]
            cuts[place] = self._make(position, int(rows[place]), out[place])
        if not augmentation.changes_pixels(self._augment):
            return rows, cuts
        draws = [
            augmentation.draws([self._seed, AUGMENT_DRAWS, position], self._augment)
            for position in positions
        ]
        return rows, cuts, np.stack(draws)

    def _make(self, position: int, row: int, out: NDArray[np.uint8]) -> tuple[int, ...]:
        source, generator = self._source, _generator(self._seed, CLIP_DRAWS, position)
        indices = clip_indices(
            int(source.num_frames[row]), self._clips, generator, span_min=self._augment.span_min
        )
        frames = source.read(row, indices)
        height, width = int(source.heights[row]), int(source.widths[row])
        cut = random_cut(
            height, width, self._clips, generator, aspect_max=self._augment.crop_aspect
        )
        if self._uncut:
            out[:] = frames
        else:
            _copy(clip_tensor(frames, self._clips, size_px=self._size_px, cut=cut), out)
        return (*cut[0], int(cut[1]))

    def _row(self, position: int) -> int:
        epoch, place = divmod(position, len(self._rows))
        if epoch != self._epoch:
            generator = _generator(self._seed, EPOCH_ORDER, epoch)
            self._order = self._rows[torch.randperm(len(self._rows), generator=generator).numpy()]
            self._epoch = epoch
        return int(self._order[place])


class TestJob:
    """Batch number `step` of the test clips; gives the rows.

    Row 0 view 0 crop 0, row 0 view 0 crop 1, ..., row 0 view 1 crop 0, ...

    Args:
        source: The frames.
        rows: Videos to test.
        clips: Which frames, crop.
        batch_size: Clips per batch; the last may have fewer.
        views: Clips per video.
        crops: Squares cut out of each.
        size_px: Side of the clips.
    """

    __test__ = False  # pytest: this is no test

    def __init__(
        self,
        source: FrameSource,
        rows: NDArray[np.int64],
        clips: ClipsConfig,
        *,
        batch_size: int,
        views: int,
        crops: int,
        size_px: int,
    ) -> None:
        self._source, self._rows, self._clips = source, rows, clips
        self._batch_size, self._size_px = batch_size, size_px
        self._views, self._crops = views, crops
        self.shape: tuple[int, ...] = (batch_size, _frames_read(clips), size_px, size_px, 3)

    def __call__(
        self, step: int, out: NDArray[np.uint8], at: NDArray[np.int64]
    ) -> tuple[NDArray[Any], ...]:
        first = step * self._batch_size
        stop = min(first + self._batch_size, len(self._rows) * self._views * self._crops)
        numbers, crops = np.divmod(np.arange(first, stop), self._crops)
        places, views = np.divmod(numbers, self._views)
        rows = self._rows[places]
        for number in np.unique(numbers).tolist():  # the crops of a view share their frames
            wanted = np.flatnonzero(numbers == number)
            at[0] = row = int(rows[wanted[0]])
            num_frames = int(self._source.num_frames[row])
            view = view_clip_indices(num_frames, self._clips, self._views)[views[wanted[0]]]
            frames = self._source.read(row, view)
            found = view_clips(frames, self._clips, self._crops, size_px=self._size_px)
            for place in wanted.tolist():
                _copy(found[crops[place]], out[place])
        return (rows,)


def _frames_read(clips: ClipsConfig) -> int:
    return sampling.clip_length(clips.segments, clips.frames_per_segment, clips.input)


def _copy(clip: Tensor, out: NDArray[np.uint8]) -> None:
    """A clip `[3, T, H, W]` into memory that lies as frames `[T, H, W, 3]`."""
    torch.from_numpy(out).permute(3, 0, 1, 2).copy_(clip)


def _generator(seed: int, stream: int, number: int) -> torch.Generator:
    """A generator of its own for each (seed, stream, number)."""
    state = np.random.SeedSequence([seed, stream, number]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
