"""R(2+1)D-18: a 3D-ResNet-18 whose 3x3x3 convolutions are split into space and time.

Tran et al.: *A Closer Look at Spatiotemporal Convolutions for Action Recognition* (CVPR 2018,
section 3.5 and table 1). The rule for the width between the two parts can be read in two ways, so
both are here: once per block from the block's input, as the published 31.5 M weights have it, or
anew for each convolution.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from kinocell.baselines.blocks import Triple, conv_norm, projection
from kinocell.baselines.resnet3d import residual, resnet


def middle_width(channels: int, out_channels: int) -> int:
    """The width that gives 1x3x3 and 3x1x1 together as many weights as one 3x3x3 has.

    >>> middle_width(64, 64)
    144
    """
    return 27 * channels * out_channels // (9 * channels + 3 * out_channels)


def split_conv(channels: int, middle: int, out_channels: int, stride: Triple) -> nn.Sequential:
    """1x3x3 with the spatial stride, norm, ReLU, 3x1x1 with the temporal one, norm."""
    t, h, w = stride
    return nn.Sequential(
        conv_norm(channels, middle, (1, 3, 3), stride=(1, h, w), activation=nn.ReLU()),
        conv_norm(middle, out_channels, (3, 1, 1), stride=(t, 1, 1)),
    )


def _branch(channels: int, out: int, stride: Triple, *, per_block: bool) -> nn.Module:
    first = middle_width(channels, out)
    second = first if per_block else middle_width(out, out)
    return nn.Sequential(
        split_conv(channels, first, out, stride),
        nn.ReLU(),
        split_conv(out, second, out, (1, 1, 1)),
    )


def _r2plus1d(num_classes: int, *, per_block: bool) -> nn.Module:
    stem = nn.Sequential(
        conv_norm(3, 45, (1, 7, 7), stride=(1, 2, 2), activation=nn.ReLU()),
        conv_norm(45, 64, (3, 1, 1), activation=nn.ReLU()),
    )
    branch = partial(_branch, per_block=per_block)
    block = partial(residual, branch=branch, shortcut=projection)
    return resnet(stem, [block] * 4, 18, num_classes)


def r2plus1d_18(num_classes: int, clip_frames: int) -> nn.Module:
    """R(2+1)D-18, middle widths once per block (the published 31.5 M)."""
    del clip_frames
    return _r2plus1d(num_classes, per_block=True)


def r2plus1d_18_per_conv(num_classes: int, clip_frames: int) -> nn.Module:
    """R(2+1)D-18, middle widths for each convolution (33.2 M)."""
    del clip_frames
    return _r2plus1d(num_classes, per_block=False)
