"""3D-ConvNet: C3D as the I3D paper trains it, the 79 M row of the searched network's table.

Carreira, Zisserman: *Quo Vadis, Action Recognition?* (CVPR 2017, section 2.2): batch norm behind
all convolutional and fully connected layers, and a first pool that halves time too. What is assumed
for other clip sizes is in `c3d.py`. Batch norm of the wide layers cannot train on a batch of one.
"""

from __future__ import annotations

from torch import nn

from kinocell.baselines.c3d import c3d_layers


def convnet3d(num_classes: int, clip_frames: int) -> nn.Module:
    """3D-ConvNet of the I3D paper: C3D with batch norm behind every layer."""
    del clip_frames
    return c3d_layers(num_classes, first_pool=(2, 2, 2), batch_norm=True)
