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

from torch import nn

from kinocell.baselines.blocks import MaxPool, Triple, conv, kaiming

GROUPS = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Output channels of the convolutions in front of each pool."""
LAST: Triple = (1, 4, 4)
"""What is left of a clip of 8 or 16 frames of 112 px."""
HIDDEN = 4096
DROPOUT = 0.5


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
    layers += [nn.AdaptiveAvgPool3d(LAST), nn.Flatten()]
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
