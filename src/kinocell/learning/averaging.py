"""A moving average of a network's weights, which is what is tested in their place.

PyTorch's `AveragedModel` keeps it; here is only how fast it follows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def follow_share(count: int, decay: float) -> float:
    """The share of the newest weights in the average, when `count` are in it already.

    1 - `decay`, and more in the first steps, so that a short training does not end with weights of
    its beginning: TensorFlow's rule, min(decay, (1 + n) / (10 + n)).

    >>> follow_share(8, 0.999), round(follow_share(100_000, 0.999), 6)
    (0.5, 0.001)
    """
    return 1 - min(decay, (1 + count) / (10 + count))


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """An average that `update_parameters(network)` moves towards the weights of each step.

    The first call copies. What batch norm has counted is averaged along: the statistics belong to
    weights of the same age.

    Args:
        network: Is copied.
        decay: Of the average in the long run, below 1.
    """

    @torch.no_grad()
    def follow(averages: Tensors, newest: Tensors, count: Tensor | int) -> None:
        share = follow_share(int(count), decay)
        for average, new in zip(averages, newest, strict=True):
            if average.is_floating_point():
                average.lerp_(new, share)
            else:  # how many batches a norm has seen
                average.copy_(new)

    return AveragedModel(network, multi_avg_fn=follow, use_buffers=True)
