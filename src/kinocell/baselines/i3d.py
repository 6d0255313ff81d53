"""I3D: the Inception-v1 network with its 2D kernels inflated to 3D, RGB stream.

Carreira, Zisserman: *Quo Vadis, Action Recognition?* (CVPR 2017, section 2.4 and figure 3). From
scratch; the paper starts from ImageNet. Padding is TensorFlow's "same": where it is uneven, the
longer side is behind. Assumed: convolutions drawn by He's rule, which batch norm forgives.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinocell.baselines.blocks import ONE, Classifier, Triple, kaiming

EPS = 1e-3
DROPOUT = 0.5
WIDTHS = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
"""Of each Mixed module: 1x1x1 | 1x1x1, 3x3x3 | 1x1x1, 3x3x3 | 1x1x1 behind the pool."""


def padded(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Padding with zeros so that ceil(size / stride) values come out."""
    pads: list[int] = []
    for size, k, s in zip(x.shape[2:], kernel, stride, strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        pads = [total // 2, total - total // 2, *pads]  # F.pad counts from the last axis
    return F.pad(x, pads)


class Unit(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self, channels: int, out_channels: int, kernel: Triple = ONE, *, stride: Triple = ONE
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out_channels, kernel, stride, bias=False)
        self.norm = nn.BatchNorm3d(out_channels, eps=EPS)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(padded(x, self.kernel, self.stride))))


class Pool(nn.Module):
    """Max pool; its input comes from a ReLU, so zeros are as good a padding as any."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(padded(x, self.kernel, self.stride), self.kernel, self.stride)


class Mixed(nn.Module):
    """The inflated Inception module: four branches side by side."""

    def __init__(self, channels: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        single, reduced, wide, reduced_2, wide_2, pooled = widths
        self.branches = nn.ModuleList(
            [
                Unit(channels, single),
                nn.Sequential(Unit(channels, reduced), Unit(reduced, wide, (3, 3, 3))),
                nn.Sequential(Unit(channels, reduced_2), Unit(reduced_2, wide_2, (3, 3, 3))),
                nn.Sequential(Pool((3, 3, 3), ONE), Unit(channels, pooled)),
            ]
        )
        self.out_channels = single + wide + wide_2 + pooled

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def i3d(num_classes: int, clip_frames: int) -> nn.Module:
    """I3D: inflated Inception-v1, the RGB stream."""
    del clip_frames
    layers: list[nn.Module] = [
        Unit(3, 64, (7, 7, 7), stride=(2, 2, 2)),
        Pool((1, 3, 3), (1, 2, 2)),
        Unit(64, 64),
        Unit(64, 192, (3, 3, 3)),
        Pool((1, 3, 3), (1, 2, 2)),
    ]
    pools = {"4b": Pool((3, 3, 3), (2, 2, 2)), "5b": Pool((2, 2, 2), (2, 2, 2))}
    channels = 192
    for name, widths in WIDTHS.items():
        if name in pools:
            layers.append(pools[name])
        mixed = Mixed(channels, widths)
        layers.append(mixed)
        channels = mixed.out_channels
    return kaiming(nn.Sequential(*layers, Classifier(channels, num_classes, dropout=DROPOUT)))
