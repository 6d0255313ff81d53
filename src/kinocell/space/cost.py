"""What a network costs: parameters, MiB, multiply-adds, milliseconds. For any `nn.Module`.

Counts are made on a copy of the network on the `meta` device, where nothing is computed; only
`forward_milliseconds` runs it. How a table of costs looks is not here.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

BYTES_PER_WEIGHT = 4
MIB = 2**20
WARM_UP = 3
"""Passes that are not counted: the first ones choose kernels and allocate memory."""

ClipShape = tuple[int, int, int, int]
"""Of one clip: channels, frames, height, width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds for one batch on one device."""

    median_milliseconds: float
    p90_milliseconds: float
    batch_size: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What can be counted of a network without running it, for clips of one shape."""

    parameters: int
    weights_mib: float
    momentum_checkpoint_mib: float
    multiply_adds: int
    activations_mib: float


def costs(network: nn.Module, clip_shape: ClipShape) -> Costs:
    """All counts of a network at once."""
    return Costs(
        parameters=num_parameters(network),
        weights_mib=weights_mib(network),
        momentum_checkpoint_mib=momentum_checkpoint_mib(network),
        multiply_adds=multiply_adds(network, clip_shape),
        activations_mib=activations_mib(network, clip_shape),
    )


def num_parameters(network: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def weights_mib(network: nn.Module) -> float:
    """Trainable parameters in fp32, in MiB."""
    return num_parameters(network) * BYTES_PER_WEIGHT / MIB


def momentum_checkpoint_mib(network: nn.Module) -> float:
    """Weights and their momentum in fp32, in MiB: what a training with SGD has to keep.

    Twice `weights_mib`. The running averages of batch norms, some thousandths of it, are not
    counted.
    """
    return 2 * weights_mib(network)


def multiply_adds(network: nn.Module, clip_shape: ClipShape) -> int:
    """Multiply-adds of convolutions and linear layers for one clip `[c, t, h, w]`.

    One multiply-add is two FLOPs.
    """
    shadow = copy.deepcopy(network).to("meta").eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        shadow(torch.empty(1, *clip_shape, device="meta"))
    return int(counter.get_total_flops()) // 2


def activations_mib(network: nn.Module, clip_shape: ClipShape) -> float:
    """Memory that training keeps for the backward pass, per clip, in MiB of fp32.

    Counted is what PyTorch saves in a forward pass in training mode: every piece of memory once,
    the clip itself too, weights not. It is the difference between batches of three and of two,
    so that what a batch needs only once (statistics of batch norms) is left out, and networks
    that cannot be trained on a batch of one are measured too. Buffers that a kernel needs for a
    moment are not counted.
    """
    shadow = copy.deepcopy(network).to("meta").train()
    two, three = (_saved_bytes(shadow, n, clip_shape) for n in (2, 3))
    return (three - two) / MIB


def _saved_bytes(network: nn.Module, batch_size: int, clip_shape: ClipShape) -> int:
    weights = {id(weight.untyped_storage()) for weight in network.parameters()}
    # The storages are kept: as long as they live, their ids are their own.
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in weights:
            saved[id(storage)] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(torch.empty(batch_size, *clip_shape, device="meta"))
    return sum(storage.nbytes() for storage in saved.values())


def forward_milliseconds(network: nn.Module, clips: Tensor) -> Iterator[float]:
    """Times of one forward pass after the other, without end; the first ones are to warm up."""
    while True:
        start = time.perf_counter()
        with torch.no_grad():
            network(clips)
        if clips.device.type == "cuda":
            torch.cuda.synchronize(clips.device)
        yield (time.perf_counter() - start) * 1000


def summarised(milliseconds: Sequence[float], batch_size: int) -> Latency:
    """Median and 90th percentile of the passes behind those to warm up."""
    counted = milliseconds[WARM_UP:]
    return Latency(
        median_milliseconds=float(np.median(counted)),
        p90_milliseconds=float(np.percentile(counted, 90)),
        batch_size=batch_size,
        threads=torch.get_num_threads(),
    )
