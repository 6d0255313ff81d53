"""Batch norm: the search network's (no affine, no averages) and the final network's.

PyTorch's CPU kernel for narrow clips in channels-last memory runs mostly in one thread; the same
sums over a wide view of the same memory are up to three times faster (docs/results.md), and batch
norm was 39 % of a search step. For more channels, on other devices and in other memory formats
PyTorch's own runs.

`synchronise` makes the statistics those of a batch that several processes share. How they talk is
not known here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OfAll = Callable[[Tensor], Tensor]
"""A process's own values to those of all processes, one row each; differentiable."""

EPS = 1e-5
NARROW = 8
"""Channels up to which ours is faster (docs/decisions/0021)."""
WIDE = 128
"""Columns of the view that is summed: wide enough for vector instructions."""


def batch_normalise(
    x: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    eps: float = EPS,
    of_all: OfAll | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise by the statistics of the batch.

    Args:
        x: `[n, c, t, h, w]`.
        scale: Factor per channel `[c]`; None is 1.
        shift: Added per channel `[c]`; None is 0.
        eps: Added to the variance.
        of_all: Where several processes hold equal parts of the batch: how one hears of the others.

    Returns:
        The normalised clips, and mean and variance (biased) `[c]`, which carry no gradient.
    """
    channels = x.shape[1]
    scale = x.new_ones(channels) if scale is None else scale
    shift = x.new_zeros(channels) if shift is None else shift
    values = (x, scale, shift)
    if x.dtype in (torch.bfloat16, torch.float16):  # in which sums would lose their digits
        values = (x.float(), scale.float(), shift.float())
    y, mean, variance = _BatchNormalise.apply(*values, eps, of_all)  # type: ignore[no-untyped-call]
    return y.to(x.dtype), mean, variance


def has_fast_path(x: Tensor) -> bool:
    """Whether `batch_normalise` is the faster way for this tensor.

    Never in half precision, in which its sums would lose their digits; PyTorch's are in fp32. Nor
    in a graph, for which PyTorch's own is the better material.
    """
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
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
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float, of_all: OfAll | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide, k = _widen(_flat(x))
        mean = _column_means(wide, k)
        centred = wide - mean.repeat(k)
        variance = _column_means(centred.square(), k)
        if of_all is not None:
            own, (mean, variance) = mean, _whole(mean, variance, of_all)
            centred += (own - mean).repeat(k)
        deviation = torch.rsqrt(variance + eps)
        y = torch.empty_like(x)  # its own memory, not a view: sums are added to it in place
        torch.addcmul(
            shift.repeat(k), centred, (deviation * scale).repeat(k), out=_widen(_flat(y))[0]
        )
        ctx.save_for_backward(x, scale, mean, deviation)
        ctx.eps, ctx.of_all = eps, of_all
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
            if ctx.of_all is not None:
                mean, variance = _whole(mean, variance, ctx.of_all)
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
            whole_slope, whole_product = mean_slope, mean_product
            if ctx.of_all is not None:  # scale and shift get only what this process adds to them
                whole_slope, whole_product = ctx.of_all(
                    torch.stack([mean_slope, mean_product])
                ).mean(0)
            along_x = -factor * deviation * whole_product
            constant = -factor * whole_slope - along_x * mean
            grad = torch.addcmul(constant.repeat(k), slope, factor.repeat(k))
            grad_x = _like(torch.addcmul(grad, wide, along_x.repeat(k)), x)
        grad_scale = mean_product * count if ctx.needs_input_grad[1] else None
        grad_shift = mean_slope * count if ctx.needs_input_grad[2] else None
        return grad_x, grad_scale, grad_shift, None, None


def _whole(mean: Tensor, variance: Tensor, of_all: OfAll) -> tuple[Tensor, Tensor]:
    """Mean and variance of a batch, of which each process holds an equal part, from those of ours.

    Exact far from zero too, as two passes are, with one message.
    """
    means, variances = of_all(torch.stack([mean, variance])).unbind(1)
    whole = means.mean(0)
    return whole, (variances + (means - whole).square()).mean(0)


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
        self.of_all: OfAll | None = None
        """Set while several processes share the batch; see `synchronise`."""

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Normalise `[n, c, t, h, w]`; `scale` `[c]` is folded into the normalisation."""
        if self.of_all is not None:
            x = x.contiguous(memory_format=torch.channels_last_3d)
            return batch_normalise(x, scale, of_all=self.of_all)[0]
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


class SharedBatchNorm(BatchNorm):
    """Any of PyTorch's batch norms, over a batch of which each of several processes has a part.

    The same parameters and averages under the same names. PyTorch's own `SyncBatchNorm` needs a
    GPU, and has no second derivatives.

    Args:
        norm: That it takes the place of; of clips, images or vectors.
        of_all: How a process hears of the others.
        parts: How many processes there are.
    """

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm, of_all: OfAll, parts: int):
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.of_all: OfAll | None = of_all
        self.parts = parts
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `[n, c, ...]`."""
        if not self.training or self.of_all is None:
            averages = self.running_mean, self.running_var
            return F.batch_norm(
                x, *averages, self.weight, self.bias, training=self.training, eps=self.eps
            )
        flat = x.reshape(*x.shape[:2], -1, 1, 1).contiguous(memory_format=torch.channels_last_3d)
        y, mean, variance = batch_normalise(flat, self.weight, self.bias, self.eps, self.of_all)
        self._follow(mean, variance, self.parts * x.numel() // x.shape[1])
        return y.reshape(x.shape)


def synchronise(network: nn.Module, of_all: OfAll, parts: int) -> None:
    """Let all batch norms of a network see the whole batch, of which this process has a part.

    Args:
        network: Changed in place; its parameters and buffers stay the same objects.
        of_all: How a process hears of the others.
        parts: Processes that have one.
    """
    for module in list(network.modules()):
        if isinstance(module, SearchNorm):
            module.of_all = of_all
        for name, child in list(module.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(module, name, SharedBatchNorm(child, of_all, parts))


@contextlib.contextmanager
def apart(network: nn.Module) -> Iterator[None]:
    """While the block runs, a network takes the batches of this process for whole ones."""
    norms = [m for m in network.modules() if isinstance(m, SearchNorm | SharedBatchNorm)]
    before = [norm.of_all for norm in norms]
    for norm in norms:
        norm.of_all = None
    try:
        yield
    finally:
        for norm, of_all in zip(norms, before, strict=True):
            norm.of_all = of_all
