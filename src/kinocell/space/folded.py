"""A network ready for use: each batch norm behind a convolution is folded into that convolution.

The same logits to rounding, without the passes over memory; it cannot be trained any more.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn

from kinocell.space.layers import Conv
from kinocell.space.norm import BatchNorm
from kinocell.space.ops import ConvOperator


def folded(network: nn.Module) -> nn.Module:
    """A copy of a network in which convolutions do what the batch norms behind them did.

    A batch norm behind something else (a pool) stays. Other networks than kinocell's own come back
    as a plain copy.
    """
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, ConvOperator):
            last = module.convs[-1]
            if isinstance(last, Conv) and isinstance(module.norm, BatchNorm):
                _fold(last, module.norm)
                module.norm = nn.Identity()
        elif isinstance(module, nn.Sequential):
            for number, (before, after) in enumerate(pairwise(list(module))):
                if isinstance(before, Conv) and isinstance(after, BatchNorm):
                    _fold(before, after)
                    module[number + 1] = nn.Identity()
    return network


@torch.no_grad()
def _fold(conv: Conv, norm: BatchNorm) -> None:
    """gamma (Wx - mean) / deviation + beta  as one convolution with a bias."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    conv.weight.mul_(factor.view(-1, 1, 1, 1, 1))
    conv.bias = nn.Parameter(norm.bias - norm.running_mean * factor)
