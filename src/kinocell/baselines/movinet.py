"""MoViNet-A0 base: a searched mobile network, the smallest of its family, without stream buffers.

Kondratyuk et al.: *MoViNets: Mobile Video Networks for Efficient Video Recognition* (CVPR 2021,
table 15 of the appendix). Global average pools stand where the paper pools over its own clip size.
Guesses: padding is symmetric, and the learned scalar of each block starts at zero, as in ReZero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinocell.baselines.blocks import (
    SqueezeExcite,
    Triple,
    conv_norm,
    kaiming,
    width_of_eights,
)

STEM, LAST, HIDDEN = 8, 480, 2048
DROPOUT = 0.2
EXCITE = 1 / 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One block of the table."""

    out: int
    inner: int
    kernel: Triple
    stride: int = 1


ROWS = (
    Row(out=8, inner=24, kernel=(1, 5, 5), stride=2),
    Row(out=32, inner=80, kernel=(3, 3, 3), stride=2),
    Row(out=32, inner=80, kernel=(3, 3, 3)),
    Row(out=32, inner=80, kernel=(3, 3, 3)),
    Row(out=56, inner=184, kernel=(5, 3, 3), stride=2),
    Row(out=56, inner=112, kernel=(3, 3, 3)),
    Row(out=56, inner=184, kernel=(3, 3, 3)),
    Row(out=56, inner=184, kernel=(5, 3, 3)),
    Row(out=56, inner=184, kernel=(3, 3, 3)),
    Row(out=56, inner=184, kernel=(3, 3, 3)),
    Row(out=56, inner=184, kernel=(3, 3, 3)),
    Row(out=104, inner=384, kernel=(5, 3, 3), stride=2),
    Row(out=104, inner=280, kernel=(1, 5, 5)),
    Row(out=104, inner=280, kernel=(1, 5, 5)),
    Row(out=104, inner=344, kernel=(1, 5, 5)),
)


class Halve(nn.Module):
    """Average pool 3x3 with stride 2, frame by frame; padding is not counted."""

    def forward(self, x: Tensor) -> Tensor:
        frames = x.flatten(1, 2)
        halved = F.avg_pool2d(frames, 3, stride=2, padding=1, count_include_pad=False)
        return halved.view(*x.shape[:3], *halved.shape[2:])


class MobileBlock(nn.Module):
    """Inverted bottleneck: widen, depthwise, squeeze-and-excite, narrow; times a scalar, summed."""

    def __init__(self, channels: int, row: Row) -> None:
        super().__init__()
        stride: Triple = (1, row.stride, row.stride)
        self.branch = nn.Sequential(
            conv_norm(channels, row.inner, activation=nn.Hardswish()),
            conv_norm(
                row.inner,
                row.inner,
                row.kernel,
                stride=stride,
                groups=row.inner,
                activation=nn.Hardswish(),
            ),
            SqueezeExcite(
                row.inner,
                width_of_eights(row.inner * EXCITE),
                activation=nn.Hardswish(),
                gate=nn.Hardsigmoid(),
            ),
            conv_norm(row.inner, row.out),
        )
        shortcut: list[nn.Module] = []
        if row.stride != 1:
            shortcut.append(Halve())
        if row.stride != 1 or channels != row.out:
            shortcut.append(conv_norm(channels, row.out))
        self.shortcut = nn.Sequential(*shortcut)
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shortcut(x) + self.scale * self.branch(x)
        return y


class _Head(nn.Module):
    """1x1x1, global average pool, a wide layer, linear."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.last = conv_norm(channels, LAST, activation=nn.Hardswish())
        self.classifier = nn.Sequential(
            nn.Linear(LAST, HIDDEN),
            nn.Hardswish(),
            nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.last(x).mean(dim=(2, 3, 4)))
        return logits


def movinet_a0(num_classes: int, clip_frames: int) -> nn.Module:
    """MoViNet-A0 base."""
    del clip_frames
    layers: list[nn.Module] = [
        conv_norm(3, STEM, (1, 3, 3), stride=(1, 2, 2), activation=nn.Hardswish())
    ]
    channels = STEM
    for row in ROWS:
        layers.append(MobileBlock(channels, row))
        channels = row.out
    return kaiming(nn.Sequential(*layers, _Head(channels, num_classes)))
