"""What one network costs on one device: all that is counted, and the time at two batch sizes.

How each number comes about is in `space/cost.py`; tables of several networks are in `cost.py`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn

from kinocell.console import progress
from kinocell.learning.device import device_name
from kinocell.space.cost import (
    WARM_UP,
    ClipShape,
    Costs,
    Latency,
    costs,
    forward_milliseconds,
    summarised,
)

BATCH_SIZES = (1, 8)
REPEATS = 15
"""Timed passes per batch size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The costs of one network at one clip shape."""

    clip_shape: ClipShape
    costs: Costs
    latencies: tuple[Latency, ...]
    """At each of `BATCH_SIZES`; empty where no time was measured."""
    device: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "clip_shape": list(self.clip_shape),
            **dataclasses.asdict(self.costs),
            "latencies": [dataclasses.asdict(latency) for latency in self.latencies],
            "device": self.device,
        }


def measured(
    network: nn.Module,
    clip_shape: ClipShape,
    *,
    device: torch.device,
    label: str,
    repeats: int = REPEATS,
) -> Measured:
    """Count and time a network; it stays in the mode (training or not) that it is in.

    Args:
        network: Already on `device`.
        clip_shape: One clip, `[c, t, h, w]`.
        device: Where it is timed.
        label: In front of the progress bar.
        repeats: Timed passes per batch size; 0 measures no time.
    """
    was_training = network.training
    network.eval()
    latencies = tuple(
        _latency(network, clip_shape, device, batch_size, repeats, label)
        for batch_size in (BATCH_SIZES if repeats else ())
    )
    network.train(was_training)
    return Measured(
        clip_shape=clip_shape,
        costs=costs(network, clip_shape),
        latencies=latencies,
        device=device_name(device),
    )


def _latency(
    network: nn.Module,
    clip_shape: ClipShape,
    device: torch.device,
    batch_size: int,
    repeats: int,
    label: str,
) -> Latency:
    clips = torch.zeros(batch_size, *clip_shape, device=device)
    passes = WARM_UP + repeats
    shown = progress(
        islice(forward_milliseconds(network, clips), passes),
        label=f"{label}, batch {batch_size}",
        total=passes,
        unit="passes",
    )
    return summarised(list(shown), batch_size)
