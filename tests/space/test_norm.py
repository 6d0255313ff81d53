from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinocell.space.norm import BatchNorm, SearchNorm, batch_normalise

SHAPES = [(2, 3, 2, 3, 5), (1, 4, 3, 4, 4), (2, 1, 2, 3, 3), (3, 24, 2, 4, 2)]


def clip(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 2 + 3
    return x.contiguous(memory_format=torch.channels_last_3d).requires_grad_()


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_pytorchs_batch_norm(shape: tuple[int, ...]) -> None:
    x, scale, shift = clip(shape), torch.rand(shape[1]).double(), torch.rand(shape[1]).double()
    y, mean, variance = batch_normalise(x, scale, shift)
    torch.testing.assert_close(y, F.batch_norm(x, None, None, scale, shift, training=True))
    torch.testing.assert_close(mean, x.detach().mean(dim=(0, 2, 3, 4)))
    torch.testing.assert_close(variance, x.detach().var(dim=(0, 2, 3, 4), correction=0))


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_first_and_second_derivatives_are_right(shape: tuple[int, ...]) -> None:
    scale = torch.rand(shape[1], dtype=torch.float64, requires_grad=True)
    shift = torch.rand(shape[1], dtype=torch.float64, requires_grad=True)

    def normalised(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return batch_normalise(x, scale, shift)[0]

    inputs = (clip(shape), scale, shift)
    assert torch.autograd.gradcheck(normalised, inputs)
    assert torch.autograd.gradgradcheck(normalised, inputs)


def test_float32_is_as_exact_as_pytorchs_own_far_from_zero() -> None:
    """A mean of 30 standard deviations: the one-pass formula would lose half of the digits."""
    x64 = (torch.randn(4, 4, 4, 16, 16, dtype=torch.float64) + 30).contiguous(
        memory_format=torch.channels_last_3d
    )
    truth = F.batch_norm(x64, None, None, training=True)
    x32 = x64.float().contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(batch_normalise(x32)[0].double(), truth, atol=1e-4, rtol=1e-4)


def test_search_norm_has_no_state_and_folds_the_scale() -> None:
    norm = SearchNorm(3)
    assert not list(norm.parameters())
    assert not norm.state_dict()
    x, scale = clip((2, 3, 2, 4, 4)), torch.tensor([0.5, 0.0, 2.0]).double()
    torch.testing.assert_close(norm(x, scale), norm(x) * scale.view(-1, 1, 1, 1))
    plain = x.detach().contiguous()
    torch.testing.assert_close(norm(x).detach(), norm(plain))


def test_batch_norm_of_the_final_network_follows_the_same_averages_as_pytorchs() -> None:
    ours, theirs = BatchNorm(4), nn.BatchNorm3d(4)
    for seed in range(3):
        torch.manual_seed(seed)
        x = torch.randn(2, 4, 3, 5, 5).contiguous(memory_format=torch.channels_last_3d)
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
