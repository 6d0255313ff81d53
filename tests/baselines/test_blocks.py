from __future__ import annotations

import pytest
import torch
from torch import nn

from kinocell.baselines import blocks
from kinocell.baselines.blocks import ONE


def test_zero_channels_keeps_every_second_value_and_adds_channels_of_zeros() -> None:
    x = torch.arange(2 * 4 * 4 * 4.0).view(1, 2, 4, 4, 4)
    y = blocks.zero_channels(2, 5, (2, 2, 2))(x)
    assert y.shape == (1, 5, 2, 2, 2)
    assert torch.equal(y[:, :2], x[:, :, ::2, ::2, ::2])
    assert not y[:, 2:].any()


def test_zero_channels_passes_gradients_to_the_values_that_it_keeps() -> None:
    x = torch.zeros(1, 1, 2, 2, 2, requires_grad=True)
    blocks.zero_channels(1, 3, (2, 2, 2))(x).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("shortcut", [blocks.zero_channels, blocks.projection])
def test_shortcut_is_the_identity_where_the_shape_stays(shortcut: blocks.Block) -> None:
    assert isinstance(shortcut(4, 4, ONE), nn.Identity)


def test_residual_is_the_relu_of_the_sum() -> None:
    x = torch.tensor([-3.0, 1.0])
    assert blocks.Residual(nn.Identity(), nn.Identity())(x).tolist() == [0, 2]


def test_max_pool_shortens_its_kernel_to_a_short_clip() -> None:
    pool = blocks.MaxPool((2, 2, 2), padding=(0, 0, 0))
    x = torch.arange(4.0).view(1, 1, 1, 2, 2)
    assert pool(x).flatten().tolist() == [3]
    long = torch.arange(8.0).view(1, 1, 2, 2, 2)
    assert pool(long).flatten().tolist() == [7]


def test_squeeze_and_excite_scales_each_channel_by_one_number() -> None:
    torch.manual_seed(0)
    block = blocks.SqueezeExcite(3, 2, activation=nn.ReLU(), gate=nn.Sigmoid())
    x = torch.rand(2, 3, 2, 4, 4) + 0.5
    ratio = (block(x) / x).flatten(2)
    assert torch.allclose(ratio, ratio[:, :, :1].expand_as(ratio))
    assert ((ratio > 0) & (ratio < 1)).all()


def test_classifier_averages_over_time_and_space() -> None:
    head = blocks.Classifier(2, 3)
    x = torch.rand(1, 2, 3, 4, 5)
    assert torch.allclose(head(x), head.linear(x.flatten(2).mean(dim=2)))


def test_kaiming_draws_with_the_deviation_of_the_formula() -> None:
    torch.manual_seed(0)
    layer = nn.Conv3d(16, 32, 3)
    blocks.kaiming(nn.Sequential(layer))
    assert float(layer.weight.detach().std()) == pytest.approx((2 / (32 * 27)) ** 0.5, rel=0.02)
    assert layer.bias is not None
    assert not layer.bias.any()
