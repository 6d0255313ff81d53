from __future__ import annotations

import pytest
import torch
from torch import nn

from kinocell.space.ops import CONV_STAGES, OPS, Mid, field_of_view, mid_channels

FIELDS = {
    "conv_1": (1, 1, 1),
    "conv_3": (3, 3, 3),
    "sep_conv_3": (3, 3, 3),
    "dil_conv_3": (3, 5, 5),
    "max_pool_3": (3, 3, 3),
    "avg_pool_3": (3, 3, 3),
    "skip": (1, 1, 1),
    "zero": (0, 0, 0),
}


def test_there_are_the_eight_operators_of_the_paper() -> None:
    assert list(OPS) == list(FIELDS)


@pytest.mark.parametrize("name", OPS)
def test_every_operator_keeps_the_shape_of_its_input(name: str) -> None:
    clip = torch.randn(2, 4, 6, 8, 8)
    assert OPS[name](channels=4)(clip).shape == clip.shape


@pytest.mark.parametrize("name", OPS)
def test_field_of_view_is_the_one_of_the_method(name: str) -> None:
    assert field_of_view(OPS[name]) == FIELDS[name]


@pytest.mark.parametrize("name", CONV_STAGES)
@pytest.mark.parametrize("mid", ["equal", "matched"])
def test_weights_are_as_many_as_counted_by_hand(name: str, mid: Mid) -> None:
    c = 8
    between = {"equal": 8, "matched": 18}[mid]
    by_hand = {
        "conv_1": c * c,
        "conv_3": 9 * c * between + 3 * between * c,
        "sep_conv_3": 3 * 3 * c * c,
        "dil_conv_3": 9 * c * between + 3 * between * c,
    }[name]
    norm = 2 * c
    operator = OPS[name](channels=c, mid=mid)
    assert sum(p.numel() for p in operator.parameters()) == by_hand + norm


def test_matched_width_gives_the_weights_of_a_3d_convolution() -> None:
    for c in (8, 16, 32, 64):
        m = mid_channels(c, c, "matched")
        assert 12 * c * m <= 27 * c * c < 12 * c * (m + 1)


def test_every_operator_that_moves_passes_gradients() -> None:
    for name, builder in OPS.items():
        clip = torch.randn(2, 3, 4, 5, 5, requires_grad=True)
        result = builder(channels=3)(clip)
        assert result.requires_grad == (name != "zero")
        if result.requires_grad:
            (gradient,) = torch.autograd.grad((result**2 * torch.rand(5)).sum(), clip)
            assert bool(gradient.any())


def test_average_pool_does_not_count_padding() -> None:
    pool = OPS["avg_pool_3"](1, norm=nn.Identity)
    torch.testing.assert_close(pool(torch.ones(1, 1, 3, 4, 4)), torch.ones(1, 1, 3, 4, 4))
