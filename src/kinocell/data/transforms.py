"""Where a clip is cut and how it is scaled: pure functions on `[C, T, H, W]` and `[N, C, T, H, W]`.

No files, and no randomness of its own: a random box takes its generator as an argument. Colours
are `colour`, what hides or mixes clips is `mixing`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

MEAN = 0.45
STD = 0.225
"""Of natural video, on a scale from 0 to 1; the same for all channels and every data set."""

FILL = MEAN * 255
"""What is shown where a clip shows nothing: 0 once it is normalised."""


class Box(NamedTuple):
    """A rectangle cut out of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int


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
    return Box((height - side) // 2, (width - side) // 2, side, side)


def crop_boxes(height: int, width: int, fraction: float, crops: int) -> list[Box]:
    """Squares spread evenly along the long side of a frame; a single one is the centred square.

    Across, all are centred. Of a square frame with `fraction` 1 they are the same.

    >>> [(box.top, box.left) for box in crop_boxes(128, 171, 0.875, 3)]
    [(8, 0), (8, 29), (8, 59)]
    """
    centred = centre_box(height, width, fraction)
    if crops == 1:
        return [centred]
    room = max(height, width) - centred.height
    places = [room * number // (crops - 1) for number in range(crops)]
    if height > width:
        return [centred._replace(top=place) for place in places]
    return [centred._replace(left=place) for place in places]


def random_box(
    height: int,
    width: int,
    fraction_min: float,
    fraction_max: float,
    generator: torch.Generator,
    *,
    aspect_max: float = 1.0,
) -> Box:
    """A box of random size and shape anywhere in a frame.

    Args:
        height: Of the frame.
        width: Of the frame.
        fraction_min: Smallest side, as a fraction of the frame's short side.
        fraction_max: Largest side.
        generator: Gives three numbers for a square, four for another shape.
        aspect_max: Width is 1 / `aspect_max` to `aspect_max` times the height, as often wide as
            tall; the area stays that of the square. A box that does not fit is made smaller.
    """
    draws = torch.rand(4 if aspect_max > 1 else 3, generator=generator, dtype=torch.float64)
    size, down, right, *shape = draws.tolist()
    side = crop_side(height, width, fraction_min + size * (fraction_max - fraction_min))
    box_height = box_width = side
    if shape:
        root = math.sqrt(aspect_max ** (2 * shape[0] - 1))
        fitting = min(1.0, height * root / side, width / (side * root))
        box_height = min(max(round(side / root * fitting), 1), height)
        box_width = min(max(round(side * root * fitting), 1), width)
    top = min(int(down * (height - box_height + 1)), height - box_height)
    left = min(int(right * (width - box_width + 1)), width - box_width)
    return Box(top, left, box_height, box_width)


def crop(clip: Tensor, box: Box) -> Tensor:
    """The same box of every frame; a view, nothing is copied.

    Args:
        clip: `[..., H, W]`.
        box: Inside the frame.
    """
    return clip[..., box.top : box.top + box.height, box.left : box.left + box.width]


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


def resized_boxes(clips: Tensor, boxes: Tensor, mirrored: Tensor, size_px: int) -> Tensor:
    """A box of its own cut out of every clip, resized and perhaps mirrored: all at once.

    The same as `crop`, `resize` and `flip` clip by clip, to one level of 255: bilinear and
    antialiased. Made for a GPU: both directions are a matrix product.

    Args:
        clips: uint8 `[N, C, T, H, W]`.
        boxes: int64 `[N, 4]`: top, left, height, width.
        mirrored: bool `[N]`.
        size_px: Side of the result.

    Returns:
        uint8 `[N, C, T, size_px, size_px]`.
    """
    top, left, height, width = boxes.unbind(1)
    rows = _resize_weights(top, height, clips.shape[-2], size_px)
    columns = _resize_weights(left, width, clips.shape[-1], size_px)
    columns = torch.where(mirrored.view(-1, 1, 1), columns.flip(1), columns)
    tall = torch.einsum("nyh,ncthw->nctyw", rows, clips.float())
    small = torch.einsum("nxw,nctyw->nctyx", columns, tall)
    return small.add_(0.5).clamp_(0, 255).to(torch.uint8)


def _resize_weights(starts: Tensor, lengths: Tensor, full: int, size_px: int) -> Tensor:
    """How much of each source pixel is in each target pixel: `[N, size_px, full]`, rows sum to 1.

    A triangle around the target's centre, as wide as the step between targets and at least one
    pixel to both sides, cut off at the ends of the box.
    """
    start, length = (values.view(-1, 1, 1).float() for values in (starts, lengths))
    step = length / size_px
    targets = torch.arange(size_px, device=starts.device).view(1, -1, 1) + 0.5
    pixels = torch.arange(full, device=starts.device).view(1, 1, -1) + 0.5
    distance = (pixels - (start + targets * step)).abs() / step.clamp(min=1)
    inside = (pixels > start) & (pixels < start + length)
    weights = (1 - distance).clamp_(min=0) * inside
    return weights / weights.sum(-1, keepdim=True)


def affine(clips: Tensor, matrices: Tensor) -> Tensor:
    """Each clip turned, sheared or moved, all its frames alike; FILL where it has no pixels.

    Args:
        clips: float `[N, C, T, H, W]`, 0 to 255.
        matrices: `[N, 2, 3]`: where a pixel of the result comes from. Right and down are positive,
            -1 and 1 are the edges of the frame.
    """
    frames = clips.transpose(1, 2)  # [N, T, C, H, W]
    sizes = [len(clips), 1, *clips.shape[-2:]]
    grid = functional.affine_grid(matrices.to(clips, non_blocking=True), sizes, align_corners=False)
    moved = functional.grid_sample(
        frames.flatten(0, 1) - FILL,
        grid.repeat_interleave(frames.shape[1], 0),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    return (moved + FILL).view(frames.shape).transpose(1, 2)


def normalise(clips: Tensor) -> Tensor:
    """Clips `[N, 3, T, H, W]` from 0 to 255 as floats of about mean 0 and standard deviation 1."""
    # Rounded as float32, where the arithmetic is done.
    mean = float(torch.tensor(MEAN).mul(255))
    scale = float(torch.tensor(STD).mul(255).reciprocal())
    out = torch.empty_like(clips, dtype=torch.float32)
    if clips.device.type != "cpu" or torch.compiler.is_exporting():
        return out.copy_(clips).sub_(mean).mul_(scale)
    # Clip by clip: what the next pass reads is still in the cache. Ten times faster than mixing
    # bytes and floats in one subtraction, to the same bits.
    for target, clip in zip(out, clips, strict=True):
        target.copy_(clip).sub_(mean).mul_(scale)
    return out


def difference(pairs: Tensor) -> Tensor:
    """How much each frame changes: `[N, C, 2T, H, W]` of frames and their successors -> T.

    >>> difference(torch.tensor([1.0, 4.0, 7.0, 5.0]).view(1, 1, 4, 1, 1)).flatten()
    tensor([ 3., -2.])
    """
    if pairs.shape[2] % 2:
        raise ValueError(f"{pairs.shape[2]} frames do not make pairs.")
    return pairs[:, :, 1::2] - pairs[:, :, 0::2]
