"""Optimizers and learning-rate schedules, all PyTorch's own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

ONECYCLE_WARMUP = 0.25
"""Share of the steps in which the one-cycle rises (Smith 2018)."""


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """Learning rate at `step` of `steps`: half a cosine from `start` to `end`.

    >>> cosine(0, 10, 1.0, 0.0), cosine(10, 10, 1.0, 0.0)
    (1.0, 0.0)
    """
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(step / max(steps, 1), 1.0)))


def onecycle(step: int, steps: int, peak: float) -> float:
    """Learning rate at `step` of `steps`: cosine up to `peak`, cosine down to 0."""
    rise = ONECYCLE_WARMUP * steps
    if step < rise:
        return cosine(round(rise - step), round(rise), peak, peak / 25)
    return cosine(step - round(rise), steps - round(rise), peak, 0.0)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The same rate for all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def sgd(
    parameters: Iterable[nn.Parameter], *, learning_rate: float, momentum: float, decay: float
) -> torch.optim.SGD:
    """SGD with momentum and L2 decay, not Nesterov."""
    return torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum, weight_decay=decay)


def alpha_adam(alphas: Tensor, *, learning_rate: float, decay: float) -> torch.optim.Adam:
    """Adam for architecture parameters, betas (0.5, 0.999) (DARTS)."""
    return torch.optim.Adam([alphas], lr=learning_rate, betas=(0.5, 0.999), weight_decay=decay)


def optimizer_drift(optimizer: torch.optim.SGD, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What SGD will add to the gradient in its next step: momentum and weight decay.

    The step is lr * (gradient + decay * w + momentum * buffer). Only the gradient depends on
    alpha, so the unrolled step needs the rest as a constant.
    """
    group = optimizer.param_groups[0]
    drift = {}
    for name, weight in weights.items():
        total = group["weight_decay"] * weight.detach()
        buffer = optimizer.state.get(weight, {}).get("momentum_buffer")
        if buffer is not None:  # absent before the first step
            total = total + group["momentum"] * buffer
        drift[name] = total
    return drift
