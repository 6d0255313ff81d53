"""C3D: eight 3x3x3 convolutions, five pools, two wide layers.

Tran et al.: *Learning Spatiotemporal Features with 3D Convolutional Networks* (ICCV 2015, section
3.2 and figure 3). The 3D-ConvNet of the I3D paper is made of the same parts, see `convnet3d.py`.

The first wide layer expects 512 x 1 x 4 x 4 values, which is what clips of 16 frames of 112 px
give. Assumed for others: a clip is not pooled over time any more once it is down to one frame, and
what is behind the last pool is averaged (or repeated) to 1 x 4 x 4, which changes nothing at 112 px
and up to 16 frames. Assumed too: weights are drawn by He's rule, also those of the wide layers, and
not from the fixed Gaussians of the public code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinocell.baselines.blocks import MaxPool, Triple, conv, kaiming

GROUPS = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Output channels of the convolutions in front of each pool."""
LAST: Triple = (1, 4, 4)
"""What is left of a clip of 8 or 16 frames of 112 px."""
HIDDEN = 4096
DROPOUT = 0.5


class AverageTo(nn.Module):
    """What is there, averaged or repeated to a fixed size, as `nn.AdaptiveAvgPool3d` does."""

    def __init__(self, size: Triple) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_exporting():
            return nn.functional.adaptive_avg_pool3d(x, self.size)
        # ONNX has no such pool; along each axis it is a product with a fixed matrix.
        for axis, size in zip((2, 3, 4), self.size, strict=True):
            x = (x.movedim(axis, -1) @ _shares(x.shape[axis], size).to(x)).movedim(-1, axis)
        return x


def _shares(length: int, size: int) -> Tensor:
    """How much of each of `length` values is in each of `size` means: columns sum to 1."""
    shares = torch.zeros(length, size, dtype=torch.float64)
    for mean in range(size):
        start, stop = mean * length // size, -(-(mean + 1) * length // size)
        shares[start:stop, mean] = 1 / (stop - start)
    return shares


def c3d_layers(num_classes: int, *, first_pool: Triple, batch_norm: bool) -> nn.Module:
    """The network with a choice of the first pool, and of batch norm behind every layer."""
    layers: list[nn.Module] = []
    channels = 3
    for index, group in enumerate(GROUPS):
        for width in group:
            layers.append(conv(channels, width, (3, 3, 3), bias=True))
            layers += [*([nn.BatchNorm3d(width)] if batch_norm else []), nn.ReLU()]
            channels = width
        last = index == len(GROUPS) - 1
        kernel = first_pool if index == 0 else (2, 2, 2)
        layers.append(MaxPool(kernel, padding=(0, 1, 1) if last else (0, 0, 0)))
    layers += [AverageTo(LAST), nn.Flatten()]
    width = channels * LAST[0] * LAST[1] * LAST[2]
    for _ in range(2):
        wide = nn.Linear(width, HIDDEN)
        nn.init.kaiming_normal_(wide.weight)
        norm = [nn.BatchNorm1d(HIDDEN)] if batch_norm else []
        layers += [wide, *norm, nn.ReLU(), nn.Dropout(DROPOUT)]
        width = HIDDEN
    return kaiming(nn.Sequential(*layers, nn.Linear(width, num_classes)))


def c3d(num_classes: int, clip_frames: int) -> nn.Module:
    """C3D: eight convolutions with bias and no norm, two layers of 4096."""
    del clip_frames
    return c3d_layers(num_classes, first_pool=(1, 2, 2), batch_norm=False)
