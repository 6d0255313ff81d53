"""X3D: a thin network grown along one axis at a time, depthwise in space and time.

Feichtenhofer: *X3D: Expanding Architectures for Efficient Video Recognition* (CVPR 2020, section
3.1, tables 1 and 3). XS, S and M are the same weights: they differ in the clips that the paper
gives them, so here in name only. The last norm of a block starts at zero, as in the paper's code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinocell.baselines.blocks import (
    Residual,
    SqueezeExcite,
    Triple,
    conv,
    conv_norm,
    kaiming,
    width_of_eights,
)

STAGES = ((3, 54, 24), (5, 108, 48), (11, 216, 96), (7, 432, 192))
"""Blocks, inner width, output width."""
STEM, HEAD, HIDDEN = 24, 432, 2048
EXCITE = 1 / 16
DROPOUT = 0.5


def _block(channels: int, inner: int, out: int, stride: Triple, *, excite: bool) -> nn.Module:
    depthwise = conv_norm(inner, inner, (3, 3, 3), stride=stride, groups=inner)
    width = width_of_eights(inner * EXCITE)
    squeeze = SqueezeExcite(inner, width, activation=nn.ReLU(), gate=nn.Sigmoid())
    last = conv_norm(inner, out)
    norm = last[1]
    assert isinstance(norm, nn.BatchNorm3d)
    nn.init.zeros_(norm.weight)
    branch = nn.Sequential(
        conv_norm(channels, inner, activation=nn.ReLU()),
        depthwise,
        squeeze if excite else nn.Identity(),
        nn.SiLU(),
        last,
    )
    shortcut: nn.Module = nn.Identity()
    if channels != out:
        shortcut = conv_norm(channels, out, stride=stride)
    elif stride != (1, 1, 1):
        shortcut = conv(channels, out, stride=stride)  # without norm, as the published weights
    return Residual(branch, shortcut)


class _Head(nn.Module):
    """1x1x1, global average pool, a wide layer, linear."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.last = conv_norm(channels, HEAD, activation=nn.ReLU())
        self.hidden = nn.Linear(HEAD, HIDDEN, bias=False)
        self.dropout = nn.Dropout(DROPOUT)
        self.linear = nn.Linear(HIDDEN, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.relu(self.hidden(self.last(x).mean(dim=(2, 3, 4))))
        logits: Tensor = self.linear(self.dropout(wide))
        return logits


def _x3d(num_classes: int) -> nn.Module:
    layers: list[nn.Module] = [
        conv(3, STEM, (1, 3, 3), stride=(1, 2, 2)),
        conv_norm(STEM, STEM, (5, 1, 1), groups=STEM, activation=nn.ReLU()),
    ]
    channels = STEM
    for num_blocks, inner, out in STAGES:
        for index in range(num_blocks):
            stride = (1, 2, 2) if index == 0 else (1, 1, 1)
            layers.append(_block(channels, inner, out, stride, excite=index % 2 == 0))
            channels = out
    return kaiming(nn.Sequential(*layers, _Head(channels, num_classes)))


def x3d_xs(num_classes: int, clip_frames: int) -> nn.Module:
    """X3D-XS; the paper feeds it 4 frames of 160 px."""
    del clip_frames
    return _x3d(num_classes)


def x3d_s(num_classes: int, clip_frames: int) -> nn.Module:
    """X3D-S: the weights of XS; the paper feeds it 13 frames of 160 px."""
    del clip_frames
    return _x3d(num_classes)


def x3d_m(num_classes: int, clip_frames: int) -> nn.Module:
    """X3D-M: the weights of XS; the paper feeds it 16 frames of 224 px."""
    del clip_frames
    return _x3d(num_classes)
