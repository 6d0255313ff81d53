"""What hides a part of a clip or mixes it with another: pure functions on `[N, C, T, H, W]`.

Boxes are int64 `[N, 4]`: top, left, height, width; the same place in all frames (a tube). A box
without height or width changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kinocell.data.colour import per_clip


def placed_boxes(
    shares: Tensor, aspects: Tensor, downs: Tensor, rights: Tensor, height: int, width: int
) -> Tensor:
    """Boxes of a share of the frame's area, made smaller where they do not fit.

    Args:
        shares: `[N]`, 0 to 1, of the area.
        aspects: `[N]`: height by width, relative to the frame's.
        downs: `[N]`, in [0, 1): place between the highest and the lowest.
        rights: `[N]`, in [0, 1): place between the leftmost and the rightmost.
        height: Of the frame.
        width: Of the frame.

    Returns:
        int64 `[N, 4]`, inside the frame.
    """
    heights = (height * (shares * aspects).sqrt()).round().clamp(max=height).long()
    widths = (width * (shares / aspects).sqrt()).round().clamp(max=width).long()
    tops = torch.minimum((downs * (height - heights + 1)).long(), height - heights)
    lefts = torch.minimum((rights * (width - widths + 1)).long(), width - widths)
    return torch.stack([tops, lefts, heights, widths], dim=1)


def inside(boxes: Tensor, clips: Tensor) -> Tensor:
    """Which pixels are in the box of their clip: bool `[N, 1, 1, H, W]`."""
    on_device = boxes.to(clips.device, non_blocking=True)
    top, left, height, width = (v.view(-1, 1) for v in on_device.unbind(1))
    rows = torch.arange(clips.shape[-2], device=clips.device)
    columns = torch.arange(clips.shape[-1], device=clips.device)
    in_rows = (rows >= top) & (rows < top + height)
    in_columns = (columns >= left) & (columns < left + width)
    return (in_rows.unsqueeze(2) & in_columns.unsqueeze(1))[:, None, None]


def erase(clips: Tensor, boxes: Tensor, value: float) -> Tensor:
    """The boxes filled with one value (Zhong et al., Random erasing data augmentation, 2017)."""
    return clips.masked_fill(inside(boxes, clips), value)


def mixup(clips: Tensor, targets: Tensor, own_shares: Tensor) -> tuple[Tensor, Tensor]:
    """Each clip laid over the one before it (Zhang et al., mixup, 2017).

    Args:
        clips: `[N, C, T, H, W]`; the first clip gets the last one.
        targets: float `[N, K]`.
        own_shares: `[N]`: the weight of the clip itself, 0 to 1.
    """
    share, own = per_clip(own_shares, clips), own_shares.to(targets, non_blocking=True).view(-1, 1)
    return (
        clips * share + clips.roll(1, 0) * (1 - share),
        targets * own + targets.roll(1, 0) * (1 - own),
    )


def cutmix(clips: Tensor, targets: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """A box of the clip before pasted into each clip (Yun et al., CutMix, 2019).

    The targets are mixed by the area that was really pasted.

    Args:
        clips: `[N, C, T, H, W]`; the first clip gets a box of the last one.
        targets: float `[N, K]`.
        boxes: int64 `[N, 4]`.
    """
    area = clips.shape[-2] * clips.shape[-1]
    pasted = (boxes[:, 2] * boxes[:, 3] / area).to(targets, non_blocking=True).view(-1, 1)
    return (
        torch.where(inside(boxes, clips), clips.roll(1, 0), clips),
        targets * (1 - pasted) + targets.roll(1, 0) * pasted,
    )
