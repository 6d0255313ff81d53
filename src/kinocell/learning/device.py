"""Which device runs the networks, what it is called, and whether it repeats itself exactly."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator, Mapping
from typing import Literal

import torch

from kinocell import ranks
from kinocell.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def choose_device(name: str) -> torch.device:
    """The device for "auto", "cpu", "cuda" or "cuda:N".

    Of several processes of one run, each has its own GPU.

    Raises:
        ConfigError: A device that this machine does not have.
    """
    here = ranks.here()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if here.world > 1 and name.startswith("cuda"):
        # By the number of processes, so that all of a machine meet it and the first one says it.
        if name != "cuda" or here.local_world > torch.cuda.device_count():
            raise ConfigError(
                f"device is {name!r} for {here.local_world} processes on this machine, which has "
                f"{torch.cuda.device_count()} GPUs. Each takes its own: use --device cuda, and no "
                "more processes than GPUs, or --device cpu."
            )
        return torch.device("cuda", here.local)
    if name != "cpu" and not name.startswith("cuda"):
        raise ConfigError(f"device is {name!r}; it must be auto, cpu, cuda or cuda:N.")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device is {name!r}, but no CUDA device is visible. Use --device cpu.")
    return torch.device(name)


def own_gpu(environment: Mapping[str, str]) -> dict[str, str]:
    """What shows a program that this process starts its own GPU alone, where several share some.

    Nothing where this process is the only one of its run, or where there is no GPU.

    Args:
        environment: Of this process; it may show some of the GPUs only.
    """
    here = ranks.here()
    if here.world == 1 or not torch.cuda.is_available():
        return {}
    shown = environment.get(VISIBLE) or ",".join(map(str, range(torch.cuda.device_count())))
    names = shown.split(",")
    return {VISIBLE: names[here.local % len(names)]}


def device_name(device: torch.device) -> str:
    """A name for people: the GPU's, or the CPU's with its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU {platform.machine()}, {threads_text(torch.get_num_threads())}"


def threads_text(number: int) -> str:
    """`"1 thread"`, `"2 threads"`."""
    return f"{number} thread{'' if number == 1 else 's'}"


Precision = Literal["fp32", "bf16"]


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Forward passes inside the block compute in this precision; weights stay fp32.

    "fp32" changes nothing, to the last bit.

    Raises:
        ConfigError: The GPU has no bfloat16.
    """
    low = precision == "bf16"
    if low and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(device)
        raise ConfigError(f"precision is bf16, which {name} does not know. Use --precision fp32.")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=low)


@contextlib.contextmanager
def tried_out(on: bool) -> Iterator[None]:
    """On a GPU, let cuDNN try its algorithms on each new shape and keep the fastest.

    For passes whose shapes stay the same. Not for steps that are measured: what is tried may take
    much more memory than what is kept. PyTorch's setting is put back behind the block; inside,
    `deterministic` has its way.

    Args:
        on: Whether to; else PyTorch's setting stays as it is.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark
    cudnn.benchmark = before or on
    try:
        yield
    finally:
        cudnn.benchmark = before


@contextlib.contextmanager
def deterministic(on: bool) -> Iterator[None]:
    """On a GPU, let the same input give the same bits every time, at the price of speed.

    The CPU does so anyway, with the same number of threads. PyTorch's settings are put back
    behind the block.

    Args:
        on: Whether to ask for it; else nothing happens.

    Raises:
        ConfigError: An operation has no implementation that repeats itself.
    """
    if not on:
        yield
        return
    # Read by cuBLAS when it is first used (its documentation, "Results Reproducibility").
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    before = (torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark)
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        reason = str(error).partition(".")[0]
        raise ConfigError(f"{reason}. Run without --deterministic.") from error
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]
