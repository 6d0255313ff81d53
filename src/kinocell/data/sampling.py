"""Which frames of a video make a clip: pure index arithmetic.

Nothing here touches a file or a pixel.
"""

from __future__ import annotations

import itertools
from typing import Literal

import torch


def slots(num_frames: int, num_slots: int) -> list[tuple[int, int]]:
    """The video cut into equal slots `[floor(i n / s), floor((i + 1) n / s))`.

    A slot is empty where the video has fewer frames than there are slots.

    >>> slots(num_frames=10, num_slots=4)
    [(0, 2), (2, 5), (5, 7), (7, 10)]
    """
    if num_frames < 1 or num_slots < 1:
        raise ValueError(f"{num_frames} frames cannot be cut into {num_slots} slots.")
    edges = [i * num_frames // num_slots for i in range(num_slots + 1)]
    return list(itertools.pairwise(edges))


def segment_indices(
    num_frames: int,
    segments: int,
    frames_per_segment: int,
    generator: torch.Generator | None = None,
) -> list[int]:
    """One frame from each of `segments x frames_per_segment` slots, in the order of time.

    A video with fewer frames than slots repeats frames.

    Args:
        num_frames: Frames in the video, at least 1.
        segments: Ns, the equal segments that the video is cut into.
        frames_per_segment: Nr, the equal slots that each segment is cut into.
        generator: Draws a frame of each slot, all equally likely. None takes the slot's centre.

    >>> segment_indices(16, segments=4, frames_per_segment=2)
    [1, 3, 5, 7, 9, 11, 13, 15]
    >>> segment_indices(3, segments=4, frames_per_segment=2)
    [0, 0, 0, 1, 1, 1, 2, 2]
    """
    cut = slots(num_frames, segments * frames_per_segment)
    if generator is None:
        return [_point(start, stop, 1, 2) for start, stop in cut]
    draws = torch.rand(len(cut), generator=generator, dtype=torch.float64).tolist()
    return [
        min(start + int(draw * (stop - start)), max(stop - 1, start))
        for (start, stop), draw in zip(cut, draws, strict=True)
    ]


def random_span(
    num_frames: int, fraction_min: float, generator: torch.Generator
) -> tuple[int, int]:
    """A part `[start, stop)` of the video, anywhere: shorter clips show the action slower.

    Args:
        num_frames: Frames in the video, at least 1.
        fraction_min: The shortest part, as a fraction of the video; all lengths up to the whole
            are equally likely.
        generator: Gives two numbers.
    """
    size, shift = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    length = max(round(num_frames * (fraction_min + size * (1 - fraction_min))), 1)
    start = min(int(shift * (num_frames - length + 1)), num_frames - length)
    return start, start + length


def view_indices(
    num_frames: int, segments: int, frames_per_segment: int, views: int
) -> list[list[int]]:
    """The frames of each test view: view v of V takes the point (v + 0.5) / V of every slot.

    One view is what `segment_indices` gives without a generator.

    >>> view_indices(8, segments=2, frames_per_segment=1, views=2)
    [[1, 5], [3, 7]]
    """
    if views < 1:
        raise ValueError(f"{views} views: there must be at least one.")
    cut = slots(num_frames, segments * frames_per_segment)
    return [
        [_point(start, stop, 2 * view + 1, 2 * views) for start, stop in cut]
        for view in range(views)
    ]


def clip_length(segments: int, frames_per_segment: int, kind: Literal["rgb", "difference"]) -> int:
    """Frames that must be read for one clip: a difference needs two for each that it shows."""
    return segments * frames_per_segment * (2 if kind == "difference" else 1)


def adjacent_pairs(indices: list[int], num_frames: int) -> list[int]:
    """Each index followed by the frame after it; the last frame of a video is paired backwards.

    >>> adjacent_pairs([0, 4, 9], num_frames=10)
    [0, 1, 4, 5, 8, 9]
    """
    pairs: list[int] = []
    for index in indices:
        first = max(min(index, num_frames - 2), 0)
        pairs += [first, min(first + 1, num_frames - 1)]
    return pairs


def _point(start: int, stop: int, numerator: int, denominator: int) -> int:
    """The frame at a fraction below 1 of `[start, stop)`; `start` where the slot is empty."""
    return start + (stop - start) * numerator // denominator
