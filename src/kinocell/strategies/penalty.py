"""What is added to the held-out loss: functions of the mixing weights alone."""

from __future__ import annotations

from torch import Tensor


def none(mixing_weights: Tensor) -> Tensor:
    """Nothing."""
    return mixing_weights.new_zeros(())
