"""P3D-ResNets: bottlenecks whose 3x3x3 convolution is a spatial and a temporal one, in three ways.

Qiu, Yao, Mei: *Learning Spatio-Temporal Representation with Pseudo-3D Residual Networks* (ICCV
2017, section 3, figure 3). The layout follows the public port: the stride stands in the first 1x1x1
convolution, a max-pool halves time behind each of the first three stages, the last stage is 2D.
Assumed for short clips: one frame is not pooled any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Literal

from torch import Tensor, nn

from kinocell.baselines.blocks import (
    ONE,
    Classifier,
    MaxPool,
    Residual,
    Triple,
    conv_norm,
    kaiming,
    projection,
    stage,
)
from kinocell.baselines.resnet3d import EXPANSION
from kinocell.baselines.tsn import frame_bottleneck

Kind = Literal["A", "B", "C"]

DEPTHS = {63: (3, 4, 6, 3), 131: (3, 4, 23, 3), 199: (3, 8, 36, 3)}
"""Blocks per stage; a block has four layers where it is split, three in the last stage."""
DROPOUT = 0.5


class Pseudo3D(nn.Module):
    """A spatial S and a temporal T: T(S(x)), S(x) + T(x), or S(x) + T(S(x)) (figure 3)."""

    def __init__(self, width: int, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.spatial = conv_norm(width, width, (1, 3, 3), activation=nn.ReLU())
        self.temporal = conv_norm(width, width, (3, 1, 1), activation=nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        seen: Tensor = self.spatial(x)
        followed: Tensor = self.temporal(x if self.kind == "B" else seen)
        return followed if self.kind == "A" else seen + followed


def _p3d(depth: int, num_classes: int) -> nn.Module:
    kinds: Iterator[Kind] = cycle(("A", "B", "C"))

    def mixed_bottleneck(channels: int, out: int, stride: Triple) -> nn.Module:
        width = out // EXPANSION
        branch = nn.Sequential(
            conv_norm(channels, width, stride=stride, activation=nn.ReLU()),
            Pseudo3D(width, next(kinds)),
            conv_norm(width, out),
        )
        return Residual(branch, projection(channels, out, stride))

    layers: list[nn.Module] = [
        conv_norm(3, 64, (1, 7, 7), stride=(1, 2, 2), activation=nn.ReLU()),
        MaxPool((2, 3, 3), stride=(2, 2, 2), padding=(0, 1, 1)),
    ]
    channels = 64
    for i, num_blocks in enumerate(DEPTHS[depth]):
        last = i == 3
        out, stride = 64 * EXPANSION * 2**i, ONE if i == 0 else (1, 2, 2)
        block = frame_bottleneck if last else mixed_bottleneck
        layers.append(stage(block, num_blocks, channels, out, stride))
        if not last:
            layers.append(MaxPool((2, 1, 1), padding=(0, 0, 0)))
        channels = out
    return kaiming(nn.Sequential(*layers, Classifier(channels, num_classes, dropout=DROPOUT)))


def p3d_63(num_classes: int, clip_frames: int) -> nn.Module:
    """P3D on a ResNet-50."""
    del clip_frames
    return _p3d(63, num_classes)


def p3d_131(num_classes: int, clip_frames: int) -> nn.Module:
    """P3D on a ResNet-101."""
    del clip_frames
    return _p3d(131, num_classes)


def p3d_199(num_classes: int, clip_frames: int) -> nn.Module:
    """P3D on a ResNet-152, the paper's."""
    del clip_frames
    return _p3d(199, num_classes)
