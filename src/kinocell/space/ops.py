"""The operators that a connection can be: each a spatial part and a temporal part.

Nothing about where they stand. To add one, write a builder and a row in `OPS`.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from kinocell.space.layers import Conv, Norm, average_pool, batch_norm, max_pool

Mid = Literal["equal", "matched"]

ZERO = "zero"
"""The operator whose weight takes part in the softmax and whose output is never computed."""


class Builder(Protocol):
    """Makes an operator that keeps the shape `[n, channels, t, h, w]` of its input.

    `norm` makes the normalisation (another one while searching), `mid` is the rule for the width
    between the spatial and the temporal part. An operator that needs neither ignores them.
    """

    def __call__(self, channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module: ...


def mid_channels(channels: int, out_channels: int, mid: Mid) -> int:
    """Width between a 1x3x3 and a 3x1x1 convolution.

    "matched" gives the pair as many weights as a 3x3x3 convolution has (Tran et al. 2018, R(2+1)D).

    >>> mid_channels(8, 8, "equal"), mid_channels(8, 8, "matched")
    (8, 18)
    """
    if mid == "equal":
        return out_channels
    return 27 * channels * out_channels // (9 * channels + 3 * out_channels)


Stage = tuple[tuple[int, int, int], int]
"""One convolution: its kernel (t, h, w) and its spatial dilation."""

CONV_STAGES: dict[str, tuple[Stage, ...]] = {
    "conv_1": (((1, 1, 1), 1),),
    "conv_3": (((1, 3, 3), 1), ((3, 1, 1), 1)),
    "sep_conv_3": (((1, 1, 3), 1), ((1, 3, 1), 1), ((3, 1, 1), 1)),
    "dil_conv_3": (((1, 3, 3), 2), ((3, 1, 1), 1)),
}
"""The convolutions of each operator, in order; shared with the banks of the search network."""


def stage_widths(name: str, channels: int, mid: Mid) -> list[int]:
    """Channels before, between and after the convolutions of an operator."""
    stages = CONV_STAGES[name]
    # Only the pairs have a spatial part worth widening; the three 1D filters stay at C.
    between = mid_channels(channels, channels, mid) if len(stages) == 2 else channels
    return [channels] + [between] * (len(stages) - 1) + [channels]


class ConvOperator(nn.Module):
    """ReLU, one to three convolutions, BN."""

    def __init__(self, name: str, channels: int, norm: Norm, mid: Mid) -> None:
        super().__init__()
        widths = stage_widths(name, channels, mid)
        self.convs = nn.Sequential(
            *(
                Conv(before, after, kernel, dilation=dilation)
                for (kernel, dilation), before, after in zip(
                    CONV_STAGES[name], widths[:-1], widths[1:], strict=True
                )
            )
        )
        self.norm = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.behind_relu(torch.relu(x))

    def behind_relu(self, active: Tensor) -> Tensor:
        """The rest, for a source whose ReLU is already there: operators share it."""
        y: Tensor = self.norm(self.convs(active))
        return y


def conv_1(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    """ReLU, pointwise 1x1x1, BN."""
    return ConvOperator("conv_1", channels, norm, mid)


def conv_3(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    """ReLU, spatial 1x3x3, temporal 3x1x1, BN."""
    return ConvOperator("conv_3", channels, norm, mid)


def sep_conv_3(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    """ReLU, three 1D filters 1x1x3, 1x3x1, 3x1x1, BN (the paper's SpeConv 3)."""
    return ConvOperator("sep_conv_3", channels, norm, mid)


def dil_conv_3(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    """ReLU, spatial 1x3x3 with dilation 2 (a 5x5 field), temporal 3x1x1, BN."""
    return ConvOperator("dil_conv_3", channels, norm, mid)


class _Pool(nn.Module):
    """Max or average over 3x3x3, stride 1, same size."""

    def __init__(self, kind: Literal["max", "average"]) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        return max_pool(x) if self.kind == "max" else average_pool(x)


def max_pool_3(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    """Max pool 3x3 over space, then 3 over time, BN."""
    del mid
    return nn.Sequential(_Pool("max"), norm(channels))


def avg_pool_3(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    """Average pool 3x3 over space, then 3 over time, padding not counted, BN."""
    del mid
    return nn.Sequential(_Pool("average"), norm(channels))


def skip(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    """Identity."""
    del channels, norm, mid
    return nn.Identity()


class _Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def zero(channels: int, norm: Norm = batch_norm, mid: Mid = "equal") -> nn.Module:
    """No connection."""
    del channels, norm, mid
    return _Zero()


def field_of_view(builder: Builder) -> tuple[int, int, int]:
    """How far an operator looks: extent of its input (t, h, w) that one output value depends on.

    Measured, so that it holds for an operator of your own too: gradients of the central output of
    random clips.
    """
    size = 13
    generator = torch.Generator().manual_seed(0)
    operator = builder(2, norm=nn.Identity).eval()
    clips = torch.rand(32, 2, size, size, size, generator=generator).requires_grad_()
    centre = operator(clips)[:, :, size // 2, size // 2, size // 2]
    if not centre.requires_grad:
        return (0, 0, 0)
    (gradient,) = torch.autograd.grad(centre.sum(), clips)
    seen = gradient.abs().sum(dim=(0, 1)) > 0
    extents = []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        places = seen.any(dim=others[1]).any(dim=others[0]).nonzero().flatten()
        extents.append(int(places.max() - places.min()) + 1 if len(places) else 0)
    return (extents[0], extents[1], extents[2])


OPS: dict[str, Builder] = {
    "conv_1": conv_1,
    "conv_3": conv_3,
    "sep_conv_3": sep_conv_3,
    "dil_conv_3": dil_conv_3,
    "max_pool_3": max_pool_3,
    "avg_pool_3": avg_pool_3,
    "skip": skip,
    ZERO: zero,
}
