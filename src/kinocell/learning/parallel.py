"""What the processes of one run tell each other: gradients, results, flags, the first one's word.

How many there are is `ranks`; what a network is, is not known here. A process that is alone meets
nobody: every function gives back at once what it got.

In a derivative, a value is either *shared* (all ranks hold the same: weights, alpha, the mean loss)
or a rank's *own* (clips, what is computed of them). `_Spread` turns shared into own, `_Total` adds
own up to shared. Each is the other's derivative, so that derivatives of any order are right.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from kinocell import ranks
from kinocell.errors import ConfigError, RankError, SaidElsewhereError
from kinocell.learning.meeting import POLL_SECONDS, all_met, notes

Item = TypeVar("Item")
Value = TypeVar("Value")
Weights = Mapping[str, Tensor]
Loss = Callable[[Weights, Tensor], Tensor]

SILENCE_SECONDS = 45.0
"""So long may one of them not answer; a lost connection is noticed at once."""


def start(device: torch.device) -> None:
    """Meet the other processes of this run, on its first call.

    Args:
        device: Where this process computes: gloo connects CPUs, NCCL GPUs.

    Raises:
        RankError: They did not come.
    """
    here = ranks.here()
    if here.world == 1 or _started():
        return
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.set_device(device)
    with all_met():
        dist.init_process_group(
            # What is said between steps lies on the CPU also where gradients lie on a GPU.
            backend="cpu:gloo,cuda:nccl" if gpu else "gloo",
            store=dist.distributed_c10d.PrefixStore("group", notes()),
            rank=here.number,
            world_size=here.world,
            timeout=timedelta(seconds=SILENCE_SECONDS),
        )
    atexit.register(_end)


def _end() -> None:
    if _started():
        dist.destroy_process_group()


def _started() -> bool:
    return dist.is_available() and dist.is_initialized()


@functools.cache
def _questions() -> Iterator[int]:
    """Numbers for the questions to the first rank, which all ask in the same order."""
    return itertools.count()


def world() -> int:
    """How many processes share this run."""
    return dist.get_world_size() if _started() else 1


def rank() -> int:
    """The number of this one, from 0."""
    return dist.get_rank() if _started() else 0


def is_first() -> bool:
    """Whether this is the one that writes."""
    return rank() == 0


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Around everything that waits for the others."""
    try:
        yield
    except RuntimeError as error:
        raise RankError(
            f"A process of this run has ended, or has not answered for {SILENCE_SECONDS:.0f} "
            f"seconds (noticed by rank {rank()} of {world()}). What was done until the last "
            "checkpoint is kept; the same command goes on from there."
        ) from error


# --- batches -----------------------------------------------------------------------------------


def part_of(batch_size: int, setting: str) -> int:
    """Clips that each rank takes of every batch.

    Raises:
        ConfigError: They cannot all take the same number.
    """
    count = world()
    if batch_size % count:
        near = sorted({batch_size - batch_size % count, batch_size + -batch_size % count} - {0})
        raise ConfigError(
            f"A batch of {batch_size} clips cannot be cut into equal parts for {count} processes. "
            f"Choose {setting} {' or '.join(map(str, near))}, or another number of processes."
        )
    return batch_size // count


def said_of(batch_size: int) -> str:
    """For people, behind what a stage says at its start: `", batch 16 = 2 x 8"`, or nothing."""
    return f", batch {batch_size} = {world()} x {batch_size // world()}" if world() > 1 else ""


def rounds(items: Iterator[Item], total: int) -> Iterator[Item | None]:
    """This rank's items, then None until all ranks are through theirs.

    Args:
        items: Of this rank: every `world()`-th of all.
        total: All that there are.
    """
    for _ in range(-(-total // world())):
        yield next(items, None)


# --- derivatives -------------------------------------------------------------------------------


class _Spread(Function):
    """Shared values -> each rank's own."""

    @staticmethod
    def forward(_ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        total: tuple[Tensor, ...] = _Total.apply(*gradients)  # type: ignore[no-untyped-call]
        return total


class _Total(Function):
    """Each rank's own values -> their sums, which are shared."""

    @staticmethod
    def forward(_ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(_sums(tensors))

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        spread: tuple[Tensor, ...] = _Spread.apply(*gradients)  # type: ignore[no-untyped-call]
        return spread


def _sums(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Each summed over the ranks, all in one message."""
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    with _heard():
        dist.all_reduce(flat)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def over_all(loss: Loss) -> Loss:
    """The mean of a loss over all ranks; so are all its derivatives, of any order.

    Args:
        loss: On this rank's clips, as a function of weights and alphas.

    Returns:
        The same function where this process is alone.
    """
    if world() == 1:
        return loss

    def mean(weights: Weights, alphas: Tensor) -> Tensor:
        # Apart: where only alpha is learned, no gradient of the weights is computed or sent.
        own = dict(zip(weights, _Spread.apply(*weights.values()), strict=True))  # type: ignore[no-untyped-call]
        (own_alphas,) = _Spread.apply(alphas)  # type: ignore[no-untyped-call]
        (total,) = _Total.apply(loss(own, own_alphas) / world())  # type: ignore[no-untyped-call]
        shared: Tensor = total
        return shared

    return mean


def of_all(own: Tensor) -> Tensor:
    """Each rank's own values `[...]` as `[ranks, ...]`, for each rank to go on with.

    Derivatives flow back to all ranks.
    """
    table = torch.stack(
        [own if number == rank() else torch.zeros_like(own) for number in range(world())]
    )
    (found,) = _Spread.apply(*_Total.apply(table))  # type: ignore[no-untyped-call]
    result: Tensor = found
    return result


@torch.no_grad()
def average(gradients: Sequence[Tensor]) -> None:
    """Replace each by its mean over the ranks."""
    if world() > 1:
        for gradient, total in zip(gradients, _sums(gradients), strict=True):
            gradient.copy_(total / world())


# --- agreement ---------------------------------------------------------------------------------


def largest(values: Sequence[int]) -> list[int]:
    """The largest of each value over the ranks."""
    if world() == 1:
        return list(values)
    found = torch.tensor(values, dtype=torch.int64)
    with _heard():
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return [int(value) for value in found.tolist()]


def all_of(holds: bool) -> bool:
    """Whether it holds on all ranks."""
    return largest([not holds]) == [0]


def rows(values: Sequence[float]) -> list[list[float]]:
    """These values of all ranks, one row per rank, in order."""
    if world() == 1:
        return [list(values)]
    table = torch.zeros(world(), len(values), dtype=torch.float64)
    table[rank()] = torch.tensor(values, dtype=torch.float64)
    with _heard():
        dist.all_reduce(table)
    found: list[list[float]] = table.tolist()
    return found


def checksum(tensors: Sequence[Tensor]) -> int:
    """Of all their bits; 0 where this process is alone and nobody asks."""
    if world() == 1:
        return 0
    found = 0
    for tensor in tensors:
        values = tensor.detach().cpu().contiguous().view(-1)
        found = zlib.crc32(values.view(torch.uint8).numpy().data, found)
    return found


def check_same(what: str, found: int, highest: int, lowest: int) -> None:
    """Stop where the ranks do not hold the same bits.

    Args:
        what: What they hold.
        found: The checksum of this rank.
        highest: The largest of all ranks.
        lowest: The smallest.

    Raises:
        RankError: They differ; on all ranks, so that all stop.
    """
    if highest != lowest:
        raise RankError(
            f"The {world()} processes of this run do not hold the same {what} any more (checksum "
            f"{found:08x} on rank {rank()}, others elsewhere). Machines of one kind with the same "
            "versions of Python's packages do; the last checkpoint is from before."
        )


def check_same_settings(settings: Mapping[str, Any]) -> None:
    """Stop where the ranks were not asked for the same.

    Raises:
        RankError: On all ranks.
    """
    bits = zlib.crc32(json.dumps(settings, sort_keys=True).encode())
    highest, lowest = largest([bits, -bits])
    if highest != -lowest:
        raise RankError(
            f"The {world()} processes of this run have different settings. Type the same command "
            "everywhere, and let every machine see the same --out, which remembers settings."
        )


# --- the first rank's word ---------------------------------------------------------------------


def told(action: Callable[[], Value]) -> Value:
    """What the first rank gets of an action that only it does, for all; it may take its time.

    Args:
        action: Gives what JSON can hold.

    Raises:
        SaidElsewhereError: It has failed there; the first rank raises what it has met.
        RankError: The first rank has gone.
    """
    if world() == 1:
        return action()
    key, answer = f"told/{next(_questions())}", list[Value]()
    if is_first():
        try:
            answer.append(action())
        finally:  # an empty answer: it has failed
            with _heard():
                notes().set(key, json.dumps(answer))
        return answer[0]
    with _heard():
        while not notes().check([key]):
            time.sleep(POLL_SECONDS)
        answer += json.loads(notes().get(key))
    if not answer:
        raise SaidElsewhereError("The first process of this run has failed, and has said why.")
    return answer[0]


def bytes_of_first(action: Callable[[], bytes]) -> bytes:
    """What the first rank gets of an action that only it does, for all; errors as in `told`."""
    if world() == 1:
        return action()
    found = b""

    def size() -> int:
        nonlocal found
        found = action()
        return len(found)

    buffer = torch.empty(told(size), dtype=torch.uint8)
    if found:
        buffer.copy_(torch.frombuffer(bytearray(found), dtype=torch.uint8))
    with _heard():
        dist.broadcast(buffer, src=0)
    return buffer.numpy().tobytes()


@torch.no_grad()
def same_as_first(tensors: Sequence[Tensor]) -> None:
    """Replace each by the first rank's."""
    if world() > 1:
        for tensor in tensors:
            copy = tensor.contiguous()  # a kernel in channels-last memory is not
            with _heard():
                dist.broadcast(copy, src=0)
            tensor.copy_(copy)
