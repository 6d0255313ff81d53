"""A moving average of a network's weights, which is what is tested in their place.

How a network is trained is not here.
"""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor, nn


def follow_share(count: int, decay: float) -> float:
    """The share of the newest weights in the average, when `count` are in it already.

    1 - `decay`, and more in the first steps, so that a short training does not end with weights of
    its beginning: TensorFlow's rule, min(decay, (1 + n) / (10 + n)).

    >>> follow_share(8, 0.999), round(follow_share(100_000, 0.999), 6)
    (0.5, 0.001)
    """
    return 1 - min(decay, (1 + count) / (10 + count))


class MovingAverage(nn.Module):
    """An average that `update_parameters(network)` moves towards the weights of each step.

    The first call copies. What batch norm has counted is averaged along: the statistics belong to
    weights of the same age. A state dict is that of PyTorch's `AveragedModel`, which asks the GPU
    how many weights are in the average; here the CPU knows.

    Args:
        network: Is copied.
        decay: Of the average in the long run, below 1.
    """

    n_averaged: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.module = copy.deepcopy(network)
        self.register_buffer("n_averaged", torch.tensor(0))  # stays on the CPU

    @torch.no_grad()
    def update_parameters(self, network: nn.Module) -> None:
        """One step of the network later."""
        average, newest = _tensors(self.module), _tensors(network)
        count = int(self.n_averaged)
        self.n_averaged += 1
        if count == 0:
            torch._foreach_copy_(average, newest)
            return
        (own, counts), (new, new_counts) = _parted(average), _parted(newest)
        torch._foreach_lerp_(own, new, follow_share(count, self.decay))
        if counts:  # of the batches that norms have seen
            torch._foreach_copy_(counts, new_counts)


def _parted(tensors: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Those with fractions, and those that count."""
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    return floating, [tensor for tensor in tensors if not tensor.is_floating_point()]


def _tensors(network: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in itertools.chain(network.parameters(), network.buffers())]
