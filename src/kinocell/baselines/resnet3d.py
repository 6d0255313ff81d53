"""3D-ResNets: residual networks of 3x3x3 convolutions, with two stems and two shortcuts.

Hara, Kataoka, Satoh: *Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?*
(CVPR 2018, section 3.2 and table 1). The stem without a pool, which gives the 33.2 M weights of
the searched network's paper, is R3D-18 of Tran et al. (CVPR 2018, table 1). Blocks split into
space and time are in `r2plus1d.py` and `p3d.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from kinocell.baselines.blocks import (
    ONE,
    Block,
    Classifier,
    MaxPool,
    Residual,
    Triple,
    conv_norm,
    kaiming,
    projection,
    stage,
    zero_channels,
)

DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Blocks per stage."""
EXPANSION = 4
"""Output channels of a bottleneck over those of its 3x3x3 convolution."""

Shortcut = Callable[[int, int, Triple], nn.Module]


def basic_branch(channels: int, out_channels: int, stride: Triple) -> nn.Sequential:
    """Two 3x3x3 convolutions, the first one with the stride."""
    return nn.Sequential(
        conv_norm(channels, out_channels, (3, 3, 3), stride=stride, activation=nn.ReLU()),
        conv_norm(out_channels, out_channels, (3, 3, 3)),
    )


def bottleneck_branch(channels: int, out_channels: int, stride: Triple) -> nn.Sequential:
    """1x1x1, 3x3x3 with the stride, 1x1x1 to four times the width."""
    width = out_channels // EXPANSION
    return nn.Sequential(
        conv_norm(channels, width, activation=nn.ReLU()),
        conv_norm(width, width, (3, 3, 3), stride=stride, activation=nn.ReLU()),
        conv_norm(width, out_channels),
    )


def residual(
    channels: int, out_channels: int, stride: Triple, *, branch: Block, shortcut: Shortcut
) -> nn.Module:
    """One residual block of a branch and a shortcut."""
    return Residual(
        branch(channels, out_channels, stride), shortcut(channels, out_channels, stride)
    )


def paper_stem() -> nn.Module:
    """3x7x7, no pool: time keeps its length."""
    return conv_norm(3, 64, (3, 7, 7), stride=(1, 2, 2), activation=nn.ReLU())


def hara_stem() -> nn.Module:
    """7x7x7, then a max-pool that halves time too."""
    return nn.Sequential(
        conv_norm(3, 64, (7, 7, 7), stride=(1, 2, 2), activation=nn.ReLU()),
        MaxPool((3, 3, 3), stride=(2, 2, 2), padding=ONE),
    )


def resnet(
    stem: nn.Module, blocks: Sequence[Block], depth: int, num_classes: int, *, expansion: int = 1
) -> nn.Module:
    """Stem, four stages of 64 to 512 channels, global average pool, linear.

    Args:
        stem: Gives 64 channels.
        blocks: What makes the residual blocks of each stage.
        depth: Which row of `DEPTHS`.
        num_classes: Outputs of the classifier.
        expansion: Factor on the widths of the stages.
    """
    widths = [64, *(64 * expansion * 2**i for i in range(4))]
    stages = [
        stage(block, num, channels, out, ONE if i == 0 else (2, 2, 2))
        for i, (block, num, channels, out) in enumerate(
            zip(blocks, DEPTHS[depth], widths[:-1], widths[1:], strict=True)
        )
    ]
    return kaiming(nn.Sequential(stem, *stages, Classifier(widths[-1], num_classes)))


def _hara(depth: int, shortcut: Shortcut, num_classes: int) -> nn.Module:
    basic = depth == 18
    branch = basic_branch if basic else bottleneck_branch
    block = partial(residual, branch=branch, shortcut=shortcut)
    return resnet(hara_stem(), [block] * 4, depth, num_classes, expansion=1 if basic else EXPANSION)


def resnet3d_18(num_classes: int, clip_frames: int) -> nn.Module:
    """3D-ResNet-18 of the paper's table (R3D-18): 3x7x7 stem without pool, projection shortcuts."""
    del clip_frames
    block = partial(residual, branch=basic_branch, shortcut=projection)
    return resnet(paper_stem(), [block] * 4, 18, num_classes)


def resnet3d_18_hara_a(num_classes: int, clip_frames: int) -> nn.Module:
    """3D-ResNet-18 of Hara et al.: 7x7x7 stem with max-pool, shortcuts A (zeros)."""
    del clip_frames
    return _hara(18, zero_channels, num_classes)


def resnet3d_18_hara_b(num_classes: int, clip_frames: int) -> nn.Module:
    """3D-ResNet-18 of Hara et al.: 7x7x7 stem with max-pool, shortcuts B (projections)."""
    del clip_frames
    return _hara(18, projection, num_classes)


def resnet3d_50_hara(num_classes: int, clip_frames: int) -> nn.Module:
    """3D-ResNet-50 of Hara et al., shortcuts B."""
    del clip_frames
    return _hara(50, projection, num_classes)


def resnet3d_101_hara(num_classes: int, clip_frames: int) -> nn.Module:
    """3D-ResNet-101 of Hara et al., shortcuts B."""
    del clip_frames
    return _hara(101, projection, num_classes)


def resnet3d_101_hara_a(num_classes: int, clip_frames: int) -> nn.Module:
    """3D-ResNet-101 of Hara et al., shortcuts A."""
    del clip_frames
    return _hara(101, zero_channels, num_classes)
