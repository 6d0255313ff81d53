"""What is done to the pixels of a clip: pure functions on `[C, T, H, W]` and `[N, C, T, H, W]`.

No randomness of its own and no files: a random box takes its generator as an argument.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

MEAN = (0.45, 0.45, 0.45)
STD = (0.225, 0.225, 0.225)
"""Of natural video in RGB, on a scale from 0 to 1; the same for every data set."""


class Box(NamedTuple):
    """A square cut out of a frame, in pixels."""

    top: int
    left: int
    side: int


def crop_side(height: int, width: int, fraction: float) -> int:
    """Side of the square that is `fraction` of the short side, at least 1 px.

    >>> crop_side(128, 171, 0.875)
    112
    """
    short = min(height, width)
    return min(max(round(fraction * short), 1), short)


def centre_box(height: int, width: int, fraction: float) -> Box:
    """The square in the middle of a frame."""
    side = crop_side(height, width, fraction)
    return Box((height - side) // 2, (width - side) // 2, side)


def random_box(
    height: int,
    width: int,
    fraction_min: float,
    fraction_max: float,
    generator: torch.Generator,
) -> Box:
    """A square of random size anywhere in a frame; always takes three draws."""
    size, down, right = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    side = crop_side(height, width, fraction_min + size * (fraction_max - fraction_min))
    top = min(int(down * (height - side + 1)), height - side)
    left = min(int(right * (width - side + 1)), width - side)
    return Box(top, left, side)


def crop(clip: Tensor, box: Box) -> Tensor:
    """The same square of every frame; a view, nothing is copied.

    Args:
        clip: `[..., H, W]`.
        box: Inside the frame.
    """
    return clip[..., box.top : box.top + box.side, box.left : box.left + box.side]


def centre_crop(clip: Tensor, fraction: float) -> Tensor:
    """The middle square of every frame of a clip `[..., H, W]`."""
    return crop(clip, centre_box(clip.shape[-2], clip.shape[-1], fraction))


def resize(clip: Tensor, size_px: int) -> Tensor:
    """A clip `[C, T, H, W]` with frames of `size_px` x `size_px`: bilinear, antialiased.

    A clip that has that size already comes back as it is. uint8 stays uint8.
    """
    if clip.shape[-2:] == (size_px, size_px):
        return clip
    frames = clip.transpose(0, 1)  # [T, C, H, W]: time takes the place of the batch
    resized = functional.interpolate(
        frames, size=(size_px, size_px), mode="bilinear", antialias=True
    )
    return resized.transpose(0, 1)


def flip(clip: Tensor) -> Tensor:
    """Left and right exchanged in every frame of a clip `[..., H, W]`."""
    return clip.flip(-1)


def normalise(clips: Tensor) -> Tensor:
    """uint8 clips `[N, 3, T, H, W]` as floats of about mean 0 and standard deviation 1."""
    shape = (1, 3, 1, 1, 1)
    mean = torch.tensor(MEAN, device=clips.device).mul(255).view(shape)
    scale = torch.tensor(STD, device=clips.device).mul(255).reciprocal().view(shape)
    return (clips - mean).mul_(scale)


def difference(pairs: Tensor) -> Tensor:
    """How much each frame changes: `[N, C, 2T, H, W]` of frames and their successors -> T.

    >>> difference(torch.tensor([1.0, 4.0, 7.0, 5.0]).view(1, 1, 4, 1, 1)).flatten()
    tensor([ 3., -2.])
    """
    if pairs.shape[2] % 2:
        raise ValueError(f"{pairs.shape[2]} frames do not make pairs.")
    return pairs[:, :, 1::2] - pairs[:, :, 0::2]
