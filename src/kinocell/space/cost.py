"""What a network costs: parameters, MiB, multiply-adds, milliseconds."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

BYTES_PER_WEIGHT = 4
MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds for one batch on one device."""

    median_milliseconds: float
    p90_milliseconds: float
    batch_size: int
    threads: int


def num_parameters(network: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def weights_mib(network: nn.Module) -> float:
    """Trainable parameters in fp32, in MiB."""
    return num_parameters(network) * BYTES_PER_WEIGHT / MIB


def multiply_adds(network: nn.Module, clip_shape: tuple[int, int, int, int]) -> int:
    """Multiply-adds of convolutions and linear layers for one clip `[c, t, h, w]`.

    Counted on the `meta` device, so nothing is computed. One multiply-add is two FLOPs.
    """
    shadow = copy.deepcopy(network).to("meta").eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        shadow(torch.empty(1, *clip_shape, device="meta"))
    return int(counter.get_total_flops()) // 2


@torch.no_grad()
def latency(
    network: nn.Module,
    clip_shape: tuple[int, int, int, int],
    *,
    device: torch.device,
    batch_size: int = 1,
    repeats: int = 15,
) -> Latency:
    """Time of one forward pass, after three to warm up."""
    was_training = network.training
    network.eval()
    clips = torch.zeros(batch_size, *clip_shape, device=device)
    milliseconds = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        network(clips)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        milliseconds.append((time.perf_counter() - start) * 1000)
    network.train(was_training)
    return Latency(
        median_milliseconds=float(np.median(milliseconds[3:])),
        p90_milliseconds=float(np.percentile(milliseconds[3:], 90)),
        batch_size=batch_size,
        threads=torch.get_num_threads(),
    )
