from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kinocell.space import layers

SHAPES = [(2, 4, 5, 7, 9), (1, 4, 1, 6, 6), (3, 8, 4, 1, 5)]


def clip(shape: tuple[int, ...], *, last: bool) -> Tensor:
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    form = torch.channels_last_3d if last else torch.contiguous_format
    return x.contiguous(memory_format=form)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kernel", [(1, 1, 1), (1, 3, 3), (3, 1, 1), (1, 1, 3), (1, 3, 1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_convolution_is_conv3d(
    shape: tuple[int, ...], kernel: tuple[int, int, int], groups: int, last: bool
) -> None:
    x = clip(shape, last=last)
    weight = torch.randn(8, shape[1] // groups, *kernel, dtype=torch.float64)
    padding = tuple(k // 2 for k in kernel)
    expected = F.conv3d(x, weight, padding=padding, groups=groups)
    torch.testing.assert_close(layers.conv(x, weight, groups=groups), expected)


@pytest.mark.parametrize("last", [True, False])
def test_dilation_and_stride_are_spatial(last: bool) -> None:
    x = clip((2, 4, 5, 9, 11), last=last)
    weight = torch.randn(6, 4, 1, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(
        layers.conv(x, weight, dilation=2),
        F.conv3d(x, weight, padding=(0, 2, 2), dilation=(1, 2, 2)),
    )
    torch.testing.assert_close(
        layers.conv(x, weight, stride=2), F.conv3d(x, weight, padding=(0, 1, 1), stride=(1, 2, 2))
    )


@pytest.mark.parametrize("size", [56, 57, 8])
@pytest.mark.parametrize("channels", [3, 4, 6, 8])
def test_strided_pointwise_convolution_is_conv3d_and_survives_its_backward_pass(
    channels: int, size: int
) -> None:
    """In float32, channels last, 4 channels: PyTorch's own crashes the process here."""
    x = torch.randn(2, channels, 4, size, size).contiguous(memory_format=torch.channels_last_3d)
    x.requires_grad_()
    weight = torch.randn(16, channels, 1, 1, 1, requires_grad=True)
    ours = torch.autograd.grad(layers.conv(x, weight, stride=2).square().sum(), (x, weight))
    plain = F.conv3d(x[..., ::2, ::2].contiguous(), weight)
    theirs = torch.autograd.grad(plain.square().sum(), (x, weight))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-3, rtol=1e-4)


def test_a_kernel_over_space_and_time_is_refused_in_channels_last() -> None:
    with pytest.raises(ValueError, match="spatial or temporal"):
        layers.conv(clip((1, 2, 3, 4, 4), last=True), torch.zeros(2, 2, 3, 3, 3).double())


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_pools_are_the_3d_pools(shape: tuple[int, ...], last: bool) -> None:
    x = clip(shape, last=last)
    torch.testing.assert_close(layers.max_pool(x), F.max_pool3d(x, 3, stride=1, padding=1))
    # Not counting the padding: the sum of 27 over the number of them that are inside.
    sums = F.avg_pool3d(F.pad(x, (1,) * 6), 3, stride=1)
    inside = F.avg_pool3d(F.pad(torch.ones_like(x), (1,) * 6), 3, stride=1)
    torch.testing.assert_close(layers.average_pool(x), sums / inside)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("shape", [*SHAPES, (1, 1, 2, 182, 182)])  # more than 2 bytes can count
def test_gradient_of_the_largest_is_pytorchs_but_keeps_two_bytes_a_pool(
    shape: tuple[int, ...], last: bool
) -> None:
    x = clip(shape, last=last).float().requires_grad_()
    upstream = torch.randn_like(x)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = layers.max_pool(x)
    (ours,) = torch.autograd.grad(y, x, upstream)
    _, _, t, h, w = shape
    z = layers.unfold_time(F.max_pool2d(layers.fold_time(x), 3, stride=1, padding=1), t)
    z = F.max_pool2d(layers.fold_space(z), (3, 1), stride=1, padding=(1, 0))
    (plain,) = torch.autograd.grad(layers.unfold_space(z, h, w), x, upstream)
    assert torch.equal(ours, plain)
    assert ours.stride() == plain.stride()
    largest = max(h * w, t * h * w)
    assert sum(tensor.nbytes for tensor in kept) <= (4 if largest <= 2**15 else 8) * x.numel()


def test_gradient_of_the_largest_can_be_differentiated_again() -> None:
    x = clip((1, 2, 3, 4, 4), last=True).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda v: layers.max_pool(v).square(), x)


def test_results_stay_in_channels_last_memory() -> None:
    x = clip((2, 4, 5, 6, 6), last=True)
    weight = torch.randn(8, 4, 1, 3, 3, dtype=torch.float64)
    for y in (layers.conv(x, weight), layers.max_pool(x), layers.average_pool(x)):
        assert y.is_contiguous(memory_format=torch.channels_last_3d)


def test_convolutions_start_as_pytorchs_own_do() -> None:
    torch.manual_seed(0)
    ours = layers.Conv(8, 8, (1, 3, 3)).weight.detach()
    bound = (8 * 9) ** -0.5
    assert float(ours.abs().max()) <= bound * (1 + 1e-6)
    assert float(ours.std()) == pytest.approx(bound / 3**0.5, rel=0.1)


@pytest.mark.parametrize("shape", SHAPES)
def test_exported_operations_are_the_same_numbers(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = clip(shape, last=True)
    weights = [
        torch.randn(8, shape[1] // groups, *kernel, dtype=torch.float64)
        for groups in (1, 2)
        for kernel in ((1, 1, 1), (1, 3, 3), (3, 1, 1))
    ]

    def everything() -> list[Tensor]:
        convs = [layers.conv(x, weight, groups=shape[1] // weight.shape[1]) for weight in weights]
        strided = [layers.conv(x, weight, stride=2) for weight in weights[:2]]
        dilated = layers.conv(x, weights[1], dilation=2)
        return [*convs, *strided, dilated, layers.max_pool(x), layers.average_pool(x)]

    expected = everything()
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for plain, quick in zip(everything(), expected, strict=True):
        torch.testing.assert_close(plain, quick)
