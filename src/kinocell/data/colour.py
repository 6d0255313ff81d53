"""What is done to the colours of clips: pure functions on float `[N, 3, T, H, W]`, 0 to 255.

Every clip of a batch has its own strength, the same for all its frames; statistics are those of the
whole clip, so that nothing flickers. Brightness, contrast, saturation, solarize, posterize,
autocontrast, equalize and sharpness are Pillow's operations, without rounding in between.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

GREY = (299 / 1000, 587 / 1000, 114 / 1000)
"""Share of red, green and blue in a grey picture (ITU-R BT.601)."""

LEVELS = 256


def per_clip(values: Tensor, clips: Tensor) -> Tensor:
    """One number per clip `[N]`, ready to meet the clips `[N, C, T, H, W]`."""
    return values.to(clips.device, clips.dtype, non_blocking=True).view(-1, 1, 1, 1, 1)


def blend(other: Tensor, clips: Tensor, factors: Tensor) -> Tensor:
    """From `other` (factor 0) over the clips (1) to beyond them; cut off at 0 and 255.

    Args:
        other: Broadcast against `clips`.
        clips: `[N, 3, T, H, W]`.
        factors: `[N]`.
    """
    return (other + per_clip(factors, clips) * (clips - other)).clamp_(0, 255)


def grey(clips: Tensor) -> Tensor:
    """The clips without colour, `[N, 1, T, H, W]`."""
    red, green, blue = _channels(clips)
    return red * GREY[0] + green * GREY[1] + blue * GREY[2]


def _channels(clips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return clips[:, 0:1], clips[:, 1:2], clips[:, 2:3]


def brightness(clips: Tensor, factors: Tensor) -> Tensor:
    """0 is black, 1 changes nothing."""
    return blend(clips.new_zeros(()), clips, factors)


def contrast(clips: Tensor, factors: Tensor) -> Tensor:
    """0 is the clip's mean grey everywhere, 1 changes nothing."""
    return blend(grey(clips).mean(dim=(1, 2, 3, 4), keepdim=True), clips, factors)


def saturation(clips: Tensor, factors: Tensor) -> Tensor:
    """0 is grey, 1 changes nothing."""
    return blend(grey(clips), clips, factors)


def hue(clips: Tensor, turns: Tensor) -> Tensor:
    """Colours turned around the colour circle: 1/3 makes green of red, 1 changes nothing.

    Value and saturation of the HSV cone stay.
    """
    value, low = clips.amax(1, keepdim=True), clips.amin(1, keepdim=True)
    chroma = value - low
    red, green, blue = _channels(clips)
    safe = chroma.clamp(min=1e-6)
    sector = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sector = sector + 6 * per_clip(turns, clips)
    channels = [
        value - chroma * torch.minimum(place, 4 - place).clamp_(0, 1)
        for place in (torch.remainder(sector + offset, 6) for offset in (5, 3, 1))
    ]
    return torch.cat(channels, dim=1)


def solarize(clips: Tensor, thresholds: Tensor) -> Tensor:
    """What is at least as bright as the threshold (0 to 256) is turned into its negative."""
    return torch.where(clips >= per_clip(thresholds, clips), 255 - clips, clips)


def posterize(clips: Tensor, bits: Tensor) -> Tensor:
    """Only the highest bits (1 to 8) of each byte are kept."""
    step = 2.0 ** (8 - per_clip(bits, clips))
    return (clips / step).floor_() * step


def autocontrast(clips: Tensor) -> Tensor:
    """Each channel stretched so that the clip's darkest value is 0 and its brightest 255."""
    low, high = (reach(clips, dim=(2, 3, 4), keepdim=True) for reach in (torch.amin, torch.amax))
    stretched = (clips - low) * (255 / (high - low).clamp(min=1e-6))
    return torch.where(high > low, stretched, clips)


def equalize(clips: Tensor) -> Tensor:
    """Each channel mapped so that all levels are about equally frequent in the clip.

    A level becomes the number of darker values, and half a step more, in steps of
    (all values - those of the brightest level) / 255; where that is less than one, nothing is done.
    """
    num_clips, channels = clips.shape[:2]
    # Merged over [T, H, W] by reshape: a copy where channels lie last, and the same either way.
    levels = clips.round().clamp_(0, 255).long().reshape(num_clips * channels, -1)
    counts = levels.new_zeros(num_clips * channels, LEVELS)
    counts.scatter_add_(1, levels, torch.ones_like(levels))
    brightest = counts.gather(1, levels.amax(1, keepdim=True))
    step = (levels.shape[1] - brightest) // 255
    darker = counts.cumsum(1) - counts
    table = ((darker + step // 2) // step.clamp(min=1)).clamp_(0, 255)
    mapped = torch.where(step > 0, table.gather(1, levels), levels)
    return mapped.view(clips.shape).to(clips.dtype)


def sharpness(clips: Tensor, factors: Tensor) -> Tensor:
    """0 is blurred (each pixel 5 parts, its eight neighbours 1 part each), 1 changes nothing.

    The pixels at the edge of a frame are not blurred.
    """
    blurred = clips.clone()
    if min(clips.shape[-2:]) > 2:
        inner = clips[..., 1:-1, 1:-1]
        means = functional.avg_pool3d(clips, (1, 3, 3), stride=1)
        blurred[..., 1:-1, 1:-1] = (9 * means + 4 * inner) / 13
    return blend(blurred, clips, factors)
