"""Blocks that several baselines share: convolution with norm, residual sum, pooling, classifier.

No whole network here. Clips are `[n, c, t, h, w]`, triples are (time, height, width).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Triple = tuple[int, int, int]

ONE: Triple = (1, 1, 1)

Block = Callable[[int, int, Triple], nn.Module]
"""Makes a residual block from input channels, output channels and stride."""


def same(kernel: Triple) -> Triple:
    """The padding with which an odd kernel of stride 1 keeps the size."""
    return (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)


def conv(
    channels: int,
    out_channels: int,
    kernel: Triple = ONE,
    *,
    stride: Triple = ONE,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv3d:
    """A convolution padded to keep the size at stride 1."""
    return nn.Conv3d(channels, out_channels, kernel, stride, same(kernel), groups=groups, bias=bias)


def conv_norm(
    channels: int,
    out_channels: int,
    kernel: Triple = ONE,
    *,
    stride: Triple = ONE,
    groups: int = 1,
    activation: nn.Module | None = None,
) -> nn.Sequential:
    """Convolution without bias, batch norm, and the activation if there is one."""
    layers = [
        conv(channels, out_channels, kernel, stride=stride, groups=groups),
        nn.BatchNorm3d(out_channels),
    ]
    return nn.Sequential(*layers, *([activation] if activation is not None else []))


class Residual(nn.Module):
    """`relu(branch(x) + shortcut(x))` (He et al. 2016, Eq. 1)."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.branch(x) + self.shortcut(x))


def projection(channels: int, out_channels: int, stride: Triple) -> nn.Module:
    """Shortcut B: a strided 1x1x1 convolution with norm where the shape changes."""
    if channels == out_channels and stride == ONE:
        return nn.Identity()
    return conv_norm(channels, out_channels, stride=stride)


class ZeroChannels(nn.Module):
    """Shortcut A: every stride-th value, and channels of zeros behind; nothing to learn.

    Gradients pass through it. Hara's code detaches them (it reads `.data`), which is a slip.
    """

    def __init__(self, channels: int, out_channels: int, stride: Triple) -> None:
        super().__init__()
        self.stride, self.missing_channels = stride, out_channels - channels

    def forward(self, x: Tensor) -> Tensor:
        t, h, w = self.stride
        return F.pad(x[:, :, ::t, ::h, ::w], (0, 0, 0, 0, 0, 0, 0, self.missing_channels))


def zero_channels(channels: int, out_channels: int, stride: Triple) -> nn.Module:
    """Shortcut A where the shape changes, otherwise the identity."""
    if channels == out_channels and stride == ONE:
        return nn.Identity()
    return ZeroChannels(channels, out_channels, stride)


def stage(
    block: Block, num_blocks: int, channels: int, out_channels: int, stride: Triple
) -> nn.Sequential:
    """Residual blocks in a row; the first one changes width and resolution."""
    first = block(channels, out_channels, stride)
    rest = [block(out_channels, out_channels, ONE) for _ in range(num_blocks - 1)]
    return nn.Sequential(first, *rest)


class MaxPool(nn.Module):
    """Max pool whose kernel is never longer than its input, so that short clips pass too."""

    def __init__(self, kernel: Triple, *, stride: Triple | None = None, padding: Triple) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride or kernel, padding

    def forward(self, x: Tensor) -> Tensor:
        sizes = [size + 2 * pad for size, pad in zip(x.shape[2:], self.padding, strict=True)]
        kernel = [min(k, size) for k, size in zip(self.kernel, sizes, strict=True)]
        return F.max_pool3d(x, kernel, self.stride, self.padding)


class SqueezeExcite(nn.Module):
    """Each channel scaled by what all channels' means say (Hu et al. 2018)."""

    def __init__(
        self, channels: int, width: int, *, activation: nn.Module, gate: nn.Module
    ) -> None:
        super().__init__()
        self.scale = nn.Sequential(
            nn.Conv3d(channels, width, 1), activation, nn.Conv3d(width, channels, 1), gate
        )

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = self.scale(x.mean(dim=(2, 3, 4), keepdim=True))
        return x * scale


def width_of_eights(width: float) -> int:
    """A width rounded to a multiple of 8, at least 8 and at least 90 % (Sandler et al. 2018).

    >>> [width_of_eights(width) for width in (3.4, 13.5, 27)]
    [8, 16, 32]
    """
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * width else rounded + 8


class Classifier(nn.Module):
    """Mean over time and space, dropout, linear."""

    def __init__(self, channels: int, num_classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[n, classes]` of `[n, channels, t, h, w]`."""
        logits: Tensor = self.linear(self.dropout(x.mean(dim=(2, 3, 4))))
        return logits


def kaiming(network: nn.Module) -> nn.Module:
    """The network with every convolution drawn anew, normal by fan-out (He et al. 2015)."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
