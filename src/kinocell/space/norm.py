"""Batch norm: the search network's (no affine, no averages) and the final network's.

PyTorch's CPU kernel for narrow clips in channels-last memory runs mostly in one thread; the same
sums over a wide view of the same memory are up to three times faster (docs/results.md), and batch
norm was 39 % of a search step. For more channels, on other devices and in other memory formats
PyTorch's own runs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5
NARROW = 8
"""Channels up to which ours is faster (docs/decisions/0021)."""
WIDE = 128
"""Columns of the view that is summed: wide enough for vector instructions."""


def batch_normalise(
    x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None, eps: float = EPS
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise by the statistics of the batch.

    Args:
        x: `[n, c, t, h, w]`.
        scale: Factor per channel `[c]`; None is 1.
        shift: Added per channel `[c]`; None is 0.
        eps: Added to the variance.

    Returns:
        The normalised clips, and mean and variance (biased) `[c]`, which carry no gradient.
    """
    channels = x.shape[1]
    scale = x.new_ones(channels) if scale is None else scale
    shift = x.new_zeros(channels) if shift is None else shift
    result: tuple[Tensor, Tensor, Tensor] = _BatchNormalise.apply(x, scale, shift, eps)  # type: ignore[no-untyped-call]
    return result


def has_fast_path(x: Tensor) -> bool:
    """Whether `batch_normalise` is the faster way for this tensor.

    Never in half precision, in which its sums would lose their digits; PyTorch's are in fp32.
    """
    return (
        x.device.type == "cpu"
        and x.shape[1] <= NARROW
        and x.dtype in (torch.float32, torch.float64)
        and x.is_contiguous(memory_format=torch.channels_last_3d)
    )


def _flat(x: Tensor) -> Tensor:
    """`[n, c, t, h, w]` -> `[n * t * h * w, c]`; a view in channels-last memory."""
    return x.permute(0, 2, 3, 4, 1).reshape(-1, x.shape[1])


def _widen(flat: Tensor) -> tuple[Tensor, int]:
    """`[m, c]` -> `[m / k, k * c]` and k: the same memory in longer rows."""
    m, c = flat.shape
    k = 1
    while k * c < WIDE and m % (2 * k) == 0:
        k *= 2
    return flat.reshape(m // k, k * c), k


def _column_means(wide: Tensor, k: int) -> Tensor:
    """Means per channel `[c]` of a widened `[m / k, k * c]`."""
    return wide.mean(dim=0).view(k, -1).mean(dim=0)


class _BatchNormalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide, k = _widen(_flat(x))
        mean = _column_means(wide, k)
        centred = wide - mean.repeat(k)
        variance = _column_means(centred.square(), k)
        deviation = torch.rsqrt(variance + eps)
        y = torch.empty_like(x)  # its own memory, not a view: sums are added to it in place
        torch.addcmul(
            shift.repeat(k), centred, (deviation * scale).repeat(k), out=_widen(_flat(y))[0]
        )
        ctx.save_for_backward(x, scale, mean, deviation)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, mean, deviation = ctx.saved_tensors
        wide, k = _widen(_flat(x))
        slope = _flat(gradient).reshape(wide.shape)
        if torch.is_grad_enabled():
            # Second derivatives (the exact strategy): the statistics depend on x too.
            mean = _column_means(wide, k)
            variance = _column_means((wide - mean.repeat(k)).square(), k)
            deviation = torch.rsqrt(variance + ctx.eps)
        # With z = (x - mean) * deviation and means over the batch:
        #   dx = scale * deviation * (slope - mean(slope) - z * mean(slope * z))
        # sorted by slope, x and constants, so that memory is passed over as rarely as possible.
        count = wide.numel() // x.shape[1]
        mean_slope = _column_means(slope, k)
        mean_product = (_column_means(slope * wide, k) - mean * mean_slope) * deviation
        grad_x = None
        if ctx.needs_input_grad[0]:
            factor = scale * deviation
            along_x = -factor * deviation * mean_product
            constant = -factor * mean_slope - along_x * mean
            grad = torch.addcmul(constant.repeat(k), slope, factor.repeat(k))
            grad_x = _like(torch.addcmul(grad, wide, along_x.repeat(k)), x)
        grad_scale = mean_product * count if ctx.needs_input_grad[1] else None
        grad_shift = mean_slope * count if ctx.needs_input_grad[2] else None
        return grad_x, grad_scale, grad_shift, None


def _like(wide: Tensor, x: Tensor) -> Tensor:
    """Back to `[n, c, t, h, w]`, channels last in memory."""
    n, c, t, h, w = x.shape
    return wide.reshape(n, t, h, w, c).permute(0, 4, 1, 2, 3)


class SearchNorm(nn.Module):
    """Batch norm while searching: no affine, no running averages, always batch statistics.

    So an architecture step leaves no trace in the network (method, section 3).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Normalise `[n, c, t, h, w]`; `scale` `[c]` is folded into the normalisation."""
        if has_fast_path(x):
            return batch_normalise(x, scale)[0]
        return F.batch_norm(x, None, None, weight=scale, training=True, eps=EPS)


class BatchNorm(nn.BatchNorm3d):
    """Batch norm of the final network: affine, with running averages; PyTorch's own, faster."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `[n, c, t, h, w]`."""
        if not (self.training and has_fast_path(x)):
            return super().forward(x)
        y, mean, variance = batch_normalise(x, self.weight, self.bias, self.eps)
        self._follow(mean, variance, x.numel() // x.shape[1])
        return y

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running averages; the running variance is the unbiased one, as in PyTorch."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)
