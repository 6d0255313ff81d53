"""TSN: a 2D ResNet-50 on each frame, its answers averaged.

Wang et al.: *Temporal Segment Networks* (ECCV 2016, section 3.1), RGB, average consensus; the
network is that of He et al. (2016, table 1), with the stride in a block's first convolution. A 2D
convolution of frames is a 3D one of depth 1, and the average of linear answers is the answer to the
average, so the blocks of the 3D networks serve here. From scratch; the paper starts from ImageNet.
"""

from __future__ import annotations

from torch import nn

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
from kinocell.baselines.resnet3d import DEPTHS, EXPANSION

DROPOUT = 0.5
"""The paper's 0.8 is for fine-tuning; a guess for training from scratch."""


def frame_bottleneck(channels: int, out_channels: int, stride: Triple) -> nn.Module:
    """1x1 with the stride, 3x3, 1x1 to four times the width; frame by frame."""
    width = out_channels // EXPANSION
    branch = nn.Sequential(
        conv_norm(channels, width, stride=stride, activation=nn.ReLU()),
        conv_norm(width, width, (1, 3, 3), activation=nn.ReLU()),
        conv_norm(width, out_channels),
    )
    return Residual(branch, projection(channels, out_channels, stride))


def tsn_resnet_50(num_classes: int, clip_frames: int) -> nn.Module:
    """TSN: ResNet-50 on every frame, averaged; knows nothing of the order of frames."""
    del clip_frames
    layers: list[nn.Module] = [
        conv_norm(3, 64, (1, 7, 7), stride=(1, 2, 2), activation=nn.ReLU()),
        MaxPool((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
    ]
    channels = 64
    for i, num_blocks in enumerate(DEPTHS[50]):
        out, stride = 64 * EXPANSION * 2**i, ONE if i == 0 else (1, 2, 2)
        layers.append(stage(frame_bottleneck, num_blocks, channels, out, stride))
        channels = out
    return kaiming(nn.Sequential(*layers, Classifier(channels, num_classes, dropout=DROPOUT)))
