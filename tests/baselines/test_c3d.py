from __future__ import annotations

import pytest
import torch
from torch import nn

from kinocell.baselines.c3d import c3d
from kinocell.baselines.convnet3d import convnet3d
from kinocell.baselines.table import Baseline


@pytest.mark.parametrize("build", [c3d, convnet3d])
@pytest.mark.parametrize("clip_frames", [8, 16])
def test_pooling_to_the_wide_layer_changes_nothing_at_112_px(
    build: Baseline, clip_frames: int
) -> None:
    with torch.device("meta"):
        network = build(5, clip_frames).eval()
    assert isinstance(network, nn.Sequential)
    x = torch.empty(1, 3, clip_frames, 112, 112, device="meta")
    for layer in network:
        if isinstance(layer, nn.AdaptiveAvgPool3d):
            break
        x = layer(x)
    assert x.shape == (1, 512, 1, 4, 4)
