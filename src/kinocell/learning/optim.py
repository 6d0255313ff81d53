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


def warm_cosine(step: int, steps: int, warmup: int, peak: float) -> float:
    """Learning rate at `step` of `steps`: a line up to `peak` in the first `warmup`, cosine to 0.

    The first step learns already (Goyal et al., Accurate, large minibatch SGD, 2017, section 2.2).

    >>> [warm_cosine(step, 12, 4, 1.0) for step in (0, 3, 4, 8)]
    [0.25, 1.0, 1.0, 0.5]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return cosine(step - warmup, steps - warmup, peak, 0.0)


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
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    momentum: float,
    decay: float,
    decay_norms: bool = True,
) -> torch.optim.SGD:
    """SGD with momentum and L2 decay, not Nesterov.

    Args:
        parameters: All that are trained.
        learning_rate: Of the first step.
        momentum: Of SGD.
        decay: Of SGD.
        decay_norms: Else only kernels and matrices decay; vectors, which are the scales and shifts
            of norms and the biases, do not (He et al., Bag of tricks for image classification with
            convolutional neural networks, 2018, section 3.1).
    """
    if decay_norms:
        return torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum, weight_decay=decay)
    everything = list(parameters)
    groups = [
        {"params": [each for each in everything if each.ndim > 1], "weight_decay": decay},
        {"params": [each for each in everything if each.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum)


def alpha_adam(alphas: Tensor, *, learning_rate: float, decay: float) -> torch.optim.Adam:
    """Adam for architecture parameters, betas (0.5, 0.999) (DARTS)."""
    return torch.optim.Adam([alphas], lr=learning_rate, betas=(0.5, 0.999), weight_decay=decay)


def optimizer_drift(optimizer: torch.optim.SGD, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What SGD will add to the gradient in its next step: momentum and weight decay.

    The step is lr * (gradient + decay * w + momentum * buffer). Only the gradient depends on
    alpha, so the unrolled step needs the rest as a constant.
    """
    group = optimizer.param_groups[0]
    plain = [weight.detach() for weight in weights.values()]
    drift = dict(zip(weights, torch._foreach_mul(plain, group["weight_decay"]), strict=True))
    buffers = {
        name: buffer
        for name, weight in weights.items()
        if (buffer := optimizer.state.get(weight, {}).get("momentum_buffer")) is not None
    }
    if buffers:  # absent before the first step
        momentum = torch._foreach_mul(list(buffers.values()), group["momentum"])
        torch._foreach_add_([drift[name] for name in buffers], momentum)
    return drift
