"""The layers that all operators are made of: (2+1)D convolution, pooling, two batch norms.

No operator and no wiring here. Every function takes clips `[N, C, T, H, W]` in any memory format
and computes the same numbers; in `torch.channels_last_3d` a spatial kernel is a 2D convolution
over the frames and a temporal one a 2D convolution over (time, position), both without a copy,
which on a CPU is about six times faster than `conv3d` at 4 channels (docs/results.md).

While a network is being exported, all of them are the plain 3D operations: what runs the exported
file has kernels of its own for those.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from kinocell.space.norm import BatchNorm

Norm = Callable[[int], nn.Module]
"""Makes the normalisation for that many channels."""

BLOCK_DIAGONAL_CHANNELS = 8
"""On a CPU, grouped convolutions of at most this width run faster as one block-diagonal one."""


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    dilation: int = 1,
    stride: int = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve with "same" padding; stride and dilation are spatial.

    Args:
        x: Clips `[n, c, t, h, w]`.
        weight: Kernels `[out, c / groups, kt, kh, kw]`, odd; kt is 1 or kh and kw are.
        bias: `[out]`, if any.
        dilation: Of the spatial part.
        stride: Of the spatial part.
        groups: As in `torch.nn.functional.conv3d`.
    """
    _, _, kt, kh, kw = weight.shape
    exporting = torch.compiler.is_exporting()
    if not exporting and stride > 1 and kh == kw == 1:
        # The same numbers from a quarter of the pixels; and the backward pass of a strided 1x1
        # convolution at 4 channels in channels-last memory crashes in torch 2.13 on the CPU.
        # (A slice would do, but its gradient comes back in another memory format.)
        x, stride = unfold_time(F.avg_pool2d(fold_time(x), 1, stride=stride), x.shape[2]), 1
    _, _, t, h, w = x.shape
    if (
        not exporting
        and groups > 1
        and x.device.type == "cpu"
        and weight.shape[1] <= BLOCK_DIAGONAL_CHANNELS
    ):
        weight, groups = _block_diagonal(weight, groups), 1
    if exporting or _format(x) != torch.channels_last_3d:
        return F.conv3d(
            x,
            weight,
            bias,
            stride=(1, stride, stride),
            padding=(kt // 2, dilation * (kh // 2), dilation * (kw // 2)),
            dilation=(1, dilation, dilation),
            groups=groups,
        )
    if kt == 1:
        y = F.conv2d(
            fold_time(x),
            weight.squeeze(2),
            bias,
            stride=stride,
            padding=(dilation * (kh // 2), dilation * (kw // 2)),
            dilation=dilation,
            groups=groups,
        )
        return unfold_time(y, t)
    if kh != 1 or kw != 1 or stride != 1:
        raise ValueError(f"A kernel is spatial or temporal, not both: {tuple(weight.shape)}.")
    y = F.conv2d(fold_space(x), weight.squeeze(4), bias, padding=(kt // 2, 0), groups=groups)
    return unfold_space(y, h, w)


def _format(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last_3d)
    return torch.channels_last_3d if last else torch.contiguous_format


def _block_diagonal(weight: Tensor, groups: int) -> Tensor:
    """Grouped kernels as one dense kernel with zeros between the groups."""
    out, inner, *kernel = weight.shape
    blocks = weight.view(groups, out // groups, 1, inner, *kernel)
    eye = torch.eye(groups, dtype=weight.dtype, device=weight.device)
    dense = blocks * eye.view(groups, 1, groups, 1, 1, 1, 1)
    return dense.reshape(out, groups * inner, *kernel)


def fold_time(x: Tensor) -> Tensor:
    """`[n, c, t, h, w]` -> `[n * t, c, h, w]`; a view in channels-last memory."""
    n, c, t, h, w = x.shape
    return x.transpose(1, 2).reshape(n * t, c, h, w)


def unfold_time(x: Tensor, frames: int) -> Tensor:
    """The way back from `fold_time`."""
    return x.view(-1, frames, *x.shape[1:]).transpose(1, 2)


def fold_space(x: Tensor) -> Tensor:
    """`[n, c, t, h, w]` -> `[n, c, t, h * w]`; a view in channels-last memory."""
    return x.flatten(3)


def unfold_space(x: Tensor, height: int, width: int) -> Tensor:
    """The way back from `fold_space`."""
    return x.reshape(*x.shape[:3], height, width)


def max_pool(x: Tensor) -> Tensor:
    """Spatial 3x3, then temporal 3, stride 1; the same as one 3x3x3 maximum."""
    if torch.compiler.is_exporting():
        return F.max_pool3d(x, 3, stride=1, padding=1)
    _, _, t, h, w = x.shape
    y = unfold_time(_largest_around(fold_time(x), (3, 3)), t)
    return unfold_space(_largest_around(fold_space(y), (3, 1)), h, w)


def _largest_around(x: Tensor, kernel: tuple[int, int]) -> Tensor:
    learning = torch.is_grad_enabled() and x.requires_grad
    if torch.compiler.is_compiling() or not learning:  # a compiler decides itself what to keep
        return F.max_pool2d(x, kernel, stride=1, padding=_half(kernel))
    y: Tensor = _LargestAround.apply(x, kernel)  # type: ignore[no-untyped-call]
    return y


class _LargestAround(Function):
    """`F.max_pool2d` with stride 1 that keeps less for the backward pass.

    PyTorch keeps 8 bytes per value to say which one was the largest, and what it pooled: three
    times the clip. Two bytes are enough for maps of up to 32,768 positions, four for all others.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: tuple[int, int]) -> Tensor:
        y, places = F.max_pool2d(x, kernel, stride=1, padding=_half(kernel), return_indices=True)
        few = x.shape[2] * x.shape[3] <= torch.iinfo(torch.int16).max + 1
        ctx.save_for_backward(places.to(torch.int16 if few else torch.int32))
        ctx.kernel = kernel
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        # Of the input it is asked for no more than size and memory format, which are these.
        alike = torch.empty_like(places, dtype=gradient.dtype)
        pooled = torch.ops.aten.max_pool2d_with_indices_backward(
            gradient, alike, ctx.kernel, (1, 1), _half(ctx.kernel), (1, 1), False, places.long()
        )
        return pooled, None


def _half(kernel: tuple[int, int]) -> tuple[int, int]:
    return kernel[0] // 2, kernel[1] // 2


def average_pool(x: Tensor) -> Tensor:
    """Spatial 3x3, then temporal 3, stride 1; padding is not counted."""
    if torch.compiler.is_exporting() and min(x.shape[2:]) >= 3:  # which it asks for, padded or not
        return F.avg_pool3d(x, 3, stride=1, padding=1, count_include_pad=False)
    _, _, t, h, w = x.shape
    y = F.avg_pool2d(fold_time(x), 3, stride=1, padding=1, count_include_pad=False)
    z = fold_space(unfold_time(y, t))
    z = F.avg_pool2d(z, (3, 1), stride=1, padding=(1, 0), count_include_pad=False)
    return unfold_space(z, h, w)


class Conv(nn.Module):
    """A convolution, either spatial (1 x k x k) or temporal (k x 1 x 1).

    It has a bias only where `folded` has given it one.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: tuple[int, int, int],
        *,
        dilation: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.dilation, self.stride, self.groups = dilation, stride, groups
        self.weight = nn.Parameter(torch.empty(out_channels, channels // groups, *kernel))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # PyTorch's own default for convs
        self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        return conv(
            x,
            self.weight,
            self.bias,
            dilation=self.dilation,
            stride=self.stride,
            groups=self.groups,
        )


def batch_norm(channels: int) -> nn.Module:
    """Batch norm of the final network: affine, with running averages."""
    return BatchNorm(channels)
