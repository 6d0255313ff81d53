from __future__ import annotations

import pytest
import torch
from torch import nn

from kinocell.baselines.stc import ChannelCorrelation, stc_resnet_18
from kinocell.errors import ConfigError


def test_another_clip_length_is_refused_with_the_rule() -> None:
    with torch.device("meta"):
        network = stc_resnet_18(5, 8)
    with pytest.raises(ConfigError, match=r"built for clips of 8 frames and got 16: .* frames x"):
        network(torch.empty(1, 3, 16, 32, 32, device="meta"))


def test_output_is_the_mean_of_the_two_scaled_maps() -> None:
    torch.manual_seed(0)
    block = ChannelCorrelation(16, 2)
    for branch, logit in ((block.temporal, 0.0), (block.spatial, 100.0)):
        last = branch.get_submodule("2")
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, logit)
    x = torch.rand(1, 16, 2, 3, 3)
    assert torch.allclose(block(x), (0.5 * x + 1.0 * x) / 2)


def test_temporal_branch_sees_channels_and_spatial_branch_frames_of_channels() -> None:
    block = ChannelCorrelation(32, 4)
    shapes = [tuple(weight.shape) for weight in block.parameters() if weight.dim() == 2]
    assert shapes == [(2, 32), (32, 2), (8, 128), (32, 8)]
