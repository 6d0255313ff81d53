"""From architecture parameters to mixing weights. Pure functions."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def initial_alphas(num_edges: int, num_ops: int, generator: torch.Generator) -> Tensor:
    """1e-3 times standard normal, `[edges, operators]` (DARTS, Liu et al. 2019)."""
    return 1e-3 * torch.randn(num_edges, num_ops, generator=generator)


def softmax(alphas: Tensor) -> Tensor:
    """Mixing weights `[edges, operators]`: each connection's row sums to 1."""
    return alphas.softmax(dim=-1)


def entropy(mixing_weights: Tensor) -> Tensor:
    """Mean entropy of the connections, in nats; log(operators) at the start, 0 when decided."""
    products: Tensor = torch.special.xlogy(mixing_weights, mixing_weights)
    return -products.sum(dim=-1).mean()


def max_entropy(num_ops: int) -> float:
    """Entropy of a connection that prefers no operator, in nats."""
    return math.log(num_ops)
